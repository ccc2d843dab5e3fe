"""`gradient`: a model in, the model of its vector-Jacobian product out."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.backward import Backward, is_float
from onnxviz.autodiff.rules.quantization import is_quantiser, spell_out_dequantisers
from onnxviz.autodiff.ruleset import GRADIENT, RuleSet, node_name
from onnxviz.autodiff.variants import RULE_SETS, STRAIGHT_THROUGH
from onnxviz.errors import (
    DisconnectedError,
    SelectorError,
    ShapeError,
    UnsupportedOperator,
    did_you_mean,
)
from onnxviz.graph.annotate import annotate
from onnxviz.graph.expose import prune
from onnxviz.graph.flow import ancestors, dependents, nested_graphs
from onnxviz.graph.fold import fold_constants
from onnxviz.graph.model import Derivative, Model, ModelLike, load
from onnxviz.graph.normalise import with_shapes

_MAKES_FLOATS = ("Cast", "CastLike", "DequantizeLinear", "Gather", "GatherElements", "GatherND")


def gradient(
    model: ModelLike,
    of: str,
    wrt: str | Sequence[str],
    rules: str | RuleSet = "auto",
    keep: Sequence[str] = (),
) -> Model:
    """The model that computes the vector-Jacobian product of tensor `of` with respect to the tensors `wrt`.

    Its new input `<of>_grad`, of `of`'s type and shape, takes the cotangent (a rank-0 `of` adds none: its
    cotangent is 1); its outputs are `<w>_grad` for each w, of w's type and shape, then the tensors in
    `keep`, and nothing else. Where such a name is taken, `_2`, `_3` ... is added: `model.gradients` and
    `model.cotangent` say the names.

    Of an integer w (a picture of bytes, say) the gradient is taken at the first tensor of floats behind it
    and has that one's shape; `model.taken_at` says where. `model.rules` says by which rules: `auto` is
    `gradient`, and `straight-through` where a quantiser lies on the path.

    Args:
        model: A model, path or proto.
        of: Any tensor of floats.
        wrt: Any tensors: inputs, weights or inner ones.
        rules: The name of a rule set, or one of your own.
        keep: Tensors of the model to output beside the gradients.

    Raises:
        SelectorError: A tensor or rule set is not known, or several tensors of floats lie behind an integer.
        DisconnectedError: `of` does not depend on a tensor of `wrt`, or only through a step function.
        UnsupportedOperator: An operator between them has no rule; the message names the node.
        ShapeError: A rank that a rule needs is not known, or `of` is not of floats.
    """
    model = load(model)
    names = [wrt] if isinstance(wrt, str) else list(dict.fromkeys(wrt))
    for name in (of, *names, *keep):
        model.tensor(name)
    copy = model.ir_model.clone()
    graph = copy.graph
    if any(True for node in graph for _ in nested_graphs(node)):
        annotate(list(graph), graph.opset_imports)
    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    target = values[of]
    if not is_float(target):
        raise ShapeError(
            f"tensor {target.name!r} does not hold floats, so it has no gradient{_floats_before(target)}"
        )
    sources = {name: _differentiable(values[name], target) for name in names}
    chosen = _choose(rules, graph, sources.values(), target)

    op = Backward(graph, chosen, sources.values())
    _refuse_blocked(op, graph, target)
    seed = _seed(op, graph, target, values)
    cotangents = _cotangents(op, graph, target, seed, list(sources.values()))

    outputs = [values[name] for name in dict.fromkeys(keep)]
    gradients = {}
    graph.outputs.clear()
    for name, source in sources.items():
        answer = op.Identity(cotangents[source])
        answer.name = gradients[name] = fresh_name(f"{name}_grad", values)
        values[answer.name] = answer
        answer.type, answer.shape = cotangents[source].type, source.shape
        graph.outputs.append(answer)
    graph.outputs.extend(outputs)
    prune(copy)
    spell_out_dequantisers(op, graph)
    fold_constants(graph, op.nodes)
    Derivative(
        gradients=gradients,
        cotangent=seed.name if seed.is_graph_input() else None,
        taken_at={name: str(source.name) for name, source in sources.items()},
        rules=chosen.name,
    ).mark(copy)
    return Model(with_shapes(copy), model.path)


def find_rules(rules: str | RuleSet) -> RuleSet:
    """The rule set of that name.

    Raises:
        SelectorError: There is none of that name.
    """
    if isinstance(rules, RuleSet):
        return rules
    if rules not in RULE_SETS:
        raise SelectorError(
            f"no rule set {rules!r}{did_you_mean(rules, RULE_SETS)}; there are auto, {', '.join(RULE_SETS)}"
        )
    return RULE_SETS[rules]


def fresh_name(name: str, taken: Mapping[str, object]) -> str:
    """`name`, or `name_2`, `name_3` ... where it is taken."""
    number, candidate = 2, name
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate


def _choose(rules: str | RuleSet, graph: ir.Graph, sources: Iterable[ir.Value], target: ir.Value) -> RuleSet:
    """The rule set asked for; `auto` steps over quantisers where one lies on the path."""
    if rules != "auto":
        return find_rules(rules)
    behind, needed = dependents(graph, sources), ancestors([target])
    for node in ir.traversal.RecursiveGraphIterator(graph):
        on_the_path = any(v in behind for v in node.inputs) and any(v in needed for v in node.outputs)
        if is_quantiser(node) and on_the_path:
            return STRAIGHT_THROUGH
    return GRADIENT


def _refuse_blocked(op: Backward, graph: ir.Graph, target: ir.Value) -> None:
    """Refuse what ONNX Runtime saves with all optimisations: weights laid out for the machine it ran on.

    Raises:
        UnsupportedOperator: Such a node lies on the path.
    """
    needed = ancestors([target])
    for node in graph:
        if node.domain == "com.microsoft.nchwc" and any(
            y in needed and y in op.reached for y in node.outputs
        ):
            raise UnsupportedOperator(
                f"{node.op_type} node {node_name(node)!r} is in the blocked layout that ONNX Runtime's last "
                "level of optimisation writes; save the model with ORT_ENABLE_EXTENDED instead"
            )


def _differentiable(source: ir.Value, target: ir.Value) -> ir.Value:
    """The source itself if it holds floats, else the first tensor of floats made from its numbers.

    Numbers become floats by a cast, a dequantiser, or as places in a table (an embedding). An integer that
    no such operator follows may still be read by quantised operators, whose rules take it for a number.

    Raises:
        SelectorError: There are several such tensors.
    """
    if is_float(source):
        return source
    needed, pending, first = ancestors([target]), [source], dict[ir.Value, None]()
    seen = set(pending)
    while pending:
        for node in pending.pop().consumers():
            if is_quantiser(node) or node.op_type in ("Shape", "Size"):
                continue
            for value in node.outputs:
                if value not in needed or value in seen or value.dtype == ir.DataType.BOOL:
                    continue
                seen.add(value)
                if not is_float(value):
                    pending.append(value)
                elif node.op_type in _MAKES_FLOATS:
                    first[value] = None
    if len(first) > 1:
        raise SelectorError(
            f"{source.name!r} does not hold floats, and several tensors of floats lie behind it; "
            f"ask for one of them: {', '.join(repr(value.name) for value in first)}"
        )
    return next(iter(first), source)


def _floats_before(target: ir.Value) -> str:
    """A suffix for an error message: the tensors of floats that an integer one was made from."""
    node = target.producer()
    before = [] if node is None else [value for value in node.inputs if value is not None and is_float(value)]
    made = [str(value.name) for value in before if value.producer() is not None]
    return f"; differentiate {made[0]!r}, which it is made from" if made else ""


def _cotangents(
    op: Backward, graph: ir.Graph, target: ir.Value, seed: ir.Value, sources: Sequence[ir.Value]
) -> Mapping[ir.Value, ir.Value]:
    """The cotangents of all that lies between the target and its sources.

    Raises:
        DisconnectedError: None reaches a source.
    """
    for source in sources:
        if target not in (op.reached if len(sources) == 1 else dependents(graph, [source])):
            raise DisconnectedError(f"{target.name!r} does not depend on {source.name!r}")
    cotangents = {target: seed}
    op.walk(list(graph), cotangents)
    for source in sources:
        if source not in cotangents:
            raise DisconnectedError(_why_stopped(graph, target, source, op.stopped))
    return cotangents


def _seed(op: Backward, graph: ir.Graph, target: ir.Value, values: dict[str, ir.Value]) -> ir.Value:
    if target.shape is not None and len(target.shape) == 0:
        assert target.dtype is not None
        return op.constant(np.ones((), target.dtype.numpy()))
    name = fresh_name(f"{target.name}_grad", values)
    seed = ir.Value(name=name, type=target.type, shape=target.shape)
    values[name] = seed
    graph.inputs.append(seed)
    return seed


def _why_stopped(
    graph: ir.Graph, target: ir.Value, source: ir.Value, stopped: Sequence[tuple[ir.Value, ir.Node]]
) -> str:
    """Name the step functions at which every path from the source ends."""
    behind = dependents(graph, [source])
    nodes = {node_name(node): node.op_type for value, node in stopped if value in behind}
    blame = ", ".join(f"{op_type} node {name!r}" for name, op_type in nodes.items())
    return (
        f"the gradient of {target.name!r} with respect to {source.name!r} is zero everywhere: "
        f"every path between them passes a step function or a shape ({blame})"
    )
