"""`Stage`: a layer and what a runtime fuses with it, measured once, at the end."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxviz.graph.families import ELEMENTWISE, family
from onnxviz.graph.flow import dependents, reads
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model

# What moves or renames numbers and makes none.
MOVERS = frozenset(
    [
        *(
            "Cast",
            "CastLike",
            "DequantizeLinear",
            "Dropout",
            "Expand",
            "Flatten",
            "Gather",
            "Identity",
            "Pad",
        ),
        *("Pad", "QuantizeLinear", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    ]
)


@dataclass(frozen=True)
class Stage:
    """A layer and the elementwise layers behind it that nothing else reads: Conv, BatchNormalization, Relu.

    Reading an inner tensor of such a chain would keep a runtime from fusing it, and a quantised one from
    computing with integers: only the end is measured.

    Attributes:
        layer: The first, whose name the stage bears.
        members: All, in order.
        inputs: The tensors that the stage is computed from: the ends of other stages, or inputs of the model.
    """

    layer: Layer
    members: tuple[Layer, ...]
    inputs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    @property
    def end(self) -> Layer:
        """The last member: its tensor is measured."""
        return self.members[-1]

    @property
    def tensor(self) -> str:
        """The tensor that is measured."""
        return self.end.tensor


def stages(model: Model) -> tuple[Stage, ...]:
    """The layers of a model in chains, in the graph's order; what only moves numbers is in none.

    A quantiser of an input is a stage of its own.
    """
    graph = model.ir_model.graph
    moving, outputs = dependents(graph, graph.inputs), set(graph.outputs)
    chains: dict[ir.Value, list[Layer]] = {}
    for layer in model.layers:
        made = model.tensor(layer.tensor)
        node = _maker(made)
        data = [value for value in reads(node) if value in moving]
        gated = _gated(node, data, outputs)
        if _follows(node) and len(data) == 1 and data[0] in chains and _read_once(data[0], outputs):
            chains[made] = [*chains.pop(data[0]), layer]
        elif gated is not None and all(value in chains for value in gated):
            chains[made] = [*chains.pop(gated[0]), *chains.pop(gated[1]), layer]
        elif node.op_type not in MOVERS or _is_input_quantiser(node):
            chains[made] = [layer]
    ends = {*chains, *graph.inputs}
    ordered = sorted(chains.values(), key=lambda chain: chain[0].index)
    return tuple(
        Stage(chain[0], tuple(chain), _inputs(_maker(model.tensor(chain[0].tensor)), ends))
        for chain in ordered
    )


def _is_input_quantiser(node: ir.Node) -> bool:
    return node.op_type == "QuantizeLinear" and node.inputs[0] is not None and node.inputs[0].is_graph_input()


def _maker(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node


def _follows(node: ir.Node) -> bool:
    return node.op_type == "QuantizeLinear" or (
        family(node.op_type) in ELEMENTWISE and node.op_type not in MOVERS
    )


def _read_once(value: ir.Value, outputs: set[ir.Value]) -> bool:
    return value not in outputs and len({use.node for use in value.uses()}) == 1


def _gated(
    node: ir.Node, data: Sequence[ir.Value], outputs: set[ir.Value]
) -> tuple[ir.Value, ir.Value] | None:
    """x and its gate, where a node is x * gate(x) and nothing else reads the two (SiLU, hard swish)."""
    if family(node.op_type) != "Mul" or len(data) != 2 or outputs.intersection(data):
        return None
    for x, gate in (data, data[::-1]):
        maker = gate.producer()
        if maker is not None and x in maker.inputs and _follows(maker) and _read_once(gate, outputs):
            return (x, gate) if {use.node for use in x.uses()} == {maker, node} else None
    return None


def _inputs(node: ir.Node, ends: set[ir.Value]) -> tuple[str, ...]:
    """The ends of stages that a node is computed from, found behind what only moves numbers."""
    pending, found, seen = list(reads(node)), dict[str, None](), set[ir.Value]()
    while pending:
        value = pending.pop(0)
        maker = value.producer()
        if value in ends:
            found[str(value.name)] = None
        elif maker is not None and value not in seen:
            pending += reads(maker)
        seen.add(value)
    return tuple(found)
