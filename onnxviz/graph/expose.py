"""Expose inner tensors as outputs, and cut a model at a tensor into head and tail."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxviz.errors import DisconnectedError, SelectorError
from onnxviz.graph.flow import ancestors, dependents, nested_graphs, reads
from onnxviz.graph.model import Model, ModelLike, load


def expose(model: ModelLike, tensors: str | Sequence[str]) -> Model:
    """The model that outputs `tensors` and computes nothing else.

    The inputs stay as they are, so the same arrays are fed. Duplicate names are asked for once.

    Raises:
        SelectorError: A tensor is not in the graph, or no tensor is named.
    """
    model = load(model)
    names = list(dict.fromkeys([tensors] if isinstance(tensors, str) else tensors))
    if not names:
        raise SelectorError("name at least one tensor to expose")
    for name in names:
        model.tensor(name)
    copy = model.ir_model.clone()
    values = ir.convenience.create_value_mapping(copy.graph, include_subgraphs=False)
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[name] for name in names)
    prune(copy)
    return Model(copy, model.path)


@dataclass(frozen=True)
class Cut:
    """A model in two: `head` computes `at` and all that crosses the cut, `tail` goes on from there.

    `crossing` are the head's outputs beside `at` that the tail needs too (skip connections).
    """

    head: Model
    tail: Model
    at: str
    crossing: tuple[str, ...]


def cut(model: ModelLike, at: str, of: str, keep: Sequence[str] = ()) -> Cut:
    """Cut a model at tensor `at`: what leads to it, and what leads from it to `of`.

    The head also outputs the tensors in `keep`.

    Raises:
        SelectorError: A tensor is not in the graph.
        DisconnectedError: `of` does not depend on `at`.
    """
    model = load(model)
    graph = model.ir_model.graph
    start, target = model.tensor(at), model.tensor(of)
    behind = dependents(graph, [start])
    if target not in behind or target is start:
        raise DisconnectedError(f"{of!r} does not depend on {at!r}")
    moving = dependents(graph, graph.inputs)
    needed = ancestors([target])
    tail_nodes = [n for n in graph if any(v in needed and v in behind and v is not start for v in n.outputs)]
    made = {value for node in tail_nodes for value in node.outputs}
    crossing = dict.fromkeys(
        value
        for node in tail_nodes
        for value in reads(node)
        if value not in made and value is not start and value in moving
    )
    names = tuple(str(value.name) for value in crossing)
    tail = ir.Model(
        ir.convenience.extract(graph, inputs=[at, *names], outputs=[of]),
        ir_version=model.ir_model.ir_version,
        producer_name=model.ir_model.producer_name,
    )
    return Cut(expose(model, [at, *names, *keep]), Model(tail, model.path), at, names)


def prune(model: ir.Model) -> None:
    """Delete, in place, the nodes and weights that no output needs; the inputs stay."""
    needed = ancestors(model.graph.outputs)
    for node in model.graph:
        if not any(output in needed for output in node.outputs):
            _let_go(node)
    passes.RemoveUnusedNodesPass()(model)


def sweep(graph: ir.Graph) -> None:
    """Delete, in place, the nodes of a nested graph that its outputs do not need."""
    needed = ancestors(graph.outputs)
    for node in reversed(list(graph)):
        if not any(output in needed for output in node.outputs):
            _let_go(node)
            graph.remove(node, safe=True)


def _let_go(node: ir.Node) -> None:
    """Release what the graphs nested in a node capture: the pass deletes the node and takes it for used."""
    for graph in nested_graphs(node):
        for inner in ir.traversal.RecursiveGraphIterator(graph):
            for place in range(len(inner.inputs)):
                inner.replace_input_with(place, None)
