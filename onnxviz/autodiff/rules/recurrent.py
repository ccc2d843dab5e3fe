"""Recurrent layers, written as a Scan for each direction."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import data
from onnxviz.autodiff.ruleset import lowering
from onnxviz.graph.ops import Ops

Activation: TypeAlias = Callable[..., ir.Value]
Step: TypeAlias = Callable[..., Sequence[ir.Value]]

# What each activation takes of alpha and beta, and the defaults.
_ACTIVATIONS: Mapping[str, Mapping[str, float]] = {
    **{name: {} for name in ("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus")},
    "LeakyRelu": {"alpha": 0.01},
    "ThresholdedRelu": {"alpha": 1.0},
    "Elu": {"alpha": 1.0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Affine": {"alpha": 1.0, "beta": 0.0},
    "ScaledTanh": {"alpha": 1.0, "beta": 1.0},
}

_WAYS = {"forward": [0], "reverse": [1], "bidirectional": [0, 1]}


@lowering("RNN")
def _rnn(op: Ops, node: ir.Node) -> Sequence[ir.Value]:
    """h = f(W x + R h + b)"""

    def direction(r: ir.Value, b: ir.Value | None, _p: None, f: Activation) -> Step:
        return lambda op, x, h: [f(op, op.Add(x, _affine(op, h, r, b)))]

    return _recurrent(op, node, direction, ["Tanh"])


@lowering("GRU")
def _gru(op: Ops, node: ir.Node) -> Sequence[ir.Value]:
    """z = f(W x + R h), r = f(W x + R h), n = g(W x + R (r h)), h = (1 - z) n + z h

    With linear_before_reset n = g(W x + r (R h)).
    """
    reset_last = node.attributes.get_int("linear_before_reset", 0)

    def direction(r: ir.Value, b: ir.Value | None, _p: None, f: Activation, g: Activation) -> Step:
        rz, rr, rn = _split(op, r, 3, 1)
        bz, br, bn = _split(op, b, 3, 0)

        def step(op: Ops, x: ir.Value, h: ir.Value) -> Sequence[ir.Value]:
            xz, xr, xn = _split(op, x, 3, -1)
            z = f(op, op.Add(xz, _affine(op, h, rz, bz)))
            r = f(op, op.Add(xr, _affine(op, h, rr, br)))
            reset = op.Mul(r, _affine(op, h, rn, bn)) if reset_last else _affine(op, op.Mul(r, h), rn, bn)
            n = g(op, op.Add(xn, reset))
            return [op.Add(n, op.Mul(z, op.Sub(h, n)))]

        return step

    return _recurrent(op, node, direction, ["Sigmoid", "Tanh"])


@lowering("LSTM")
def _lstm(op: Ops, node: ir.Node) -> Sequence[ir.Value]:
    """i, o, f = f(W x + R h + P c), c = f c + i g(W x + R h), h = o h(c); o looks at the new c."""
    coupled = node.attributes.get_int("input_forget", 0)

    def direction(
        r: ir.Value, b: ir.Value | None, p: ir.Value | None, f: Activation, g: Activation, h: Activation
    ) -> Step:
        peep_i, peep_o, peep_f = _split(op, p, 3, 0)

        def step(op: Ops, x: ir.Value, hidden: ir.Value, cell: ir.Value) -> Sequence[ir.Value]:
            i, o, forget, c = _split(op, op.Add(x, _affine(op, hidden, r, b)), 4, -1)
            i = f(op, _peep(op, i, peep_i, cell))
            forget = op.Sub(1, i) if coupled else f(op, _peep(op, forget, peep_f, cell))
            new = op.Add(op.Mul(forget, cell), op.Mul(i, g(op, c)))
            o = f(op, _peep(op, o, peep_o, new))
            # The standard clips the input of every activation; ONNX Runtime does not clip the cell.
            return [op.Mul(o, h(op, new, clip=False)), new]

        return step

    return _recurrent(op, node, direction, ["Sigmoid", "Tanh", "Tanh"])


def _recurrent(
    op: Ops, node: ir.Node, direction: Callable[..., Step], defaults: Sequence[str]
) -> Sequence[ir.Value]:
    """The outputs of a recurrent layer; `direction` makes the step of one direction from its weights."""
    x = data(node)
    w, r, b, lengths, h0, c0, p = (*node.inputs[1:], *[None] * 5)[:7]
    ways = _WAYS[node.attributes.get_string("direction", "forward")]
    batch_first = node.attributes.get_int("layout", 0)
    if batch_first:
        x = op.Transpose(x, perm=[1, 0, 2])
        h0, c0 = (value and op.Transpose(value, perm=[1, 0, 2]) for value in (h0, c0))
    if h0 is None or (c0 is None and node.op_type == "LSTM"):
        size = op.Concat(op.ints(len(ways)), op.Shape(x, start=1, end=2), op.Shape(r, start=2), axis=0)
        zeros = op.full(size, 0, x.dtype or ir.DataType.FLOAT)
        h0, c0 = h0 or zeros, c0 or zeros
    initial = [h0, c0] if node.op_type == "LSTM" else [h0]
    activations = _activations(node, defaults, len(ways))
    made = []
    each = (_each(op, value, len(ways)) for value in (w, r, b, p, *initial))
    for way, wd, rd, bd, pd, *states in zip(ways, *each, strict=True):
        wt, rt = (op.Transpose(weight, perm=[1, 0]) for weight in (wd, rd))
        bw, br = _split(op, bd, 2, 0)
        step = direction(rt, br, pd, *(next(activations) for _ in defaults))
        made.append(_scan(op, step, states, _affine(op, x, wt, bw), lengths, way))
    y, *finals = (
        _stacked(op, values, axis) for values, axis in zip(zip(*made, strict=True), (1, 0, 0), strict=False)
    )
    if batch_first:
        y = op.Transpose(y, perm=[2, 0, 1, 3])
        finals = [op.Transpose(last, perm=[1, 0, 2]) for last in finals]
    return [y, *finals][: len(node.outputs)]


def _scan(
    op: Ops, step: Step, states: Sequence[ir.Value], xs: ir.Value, lengths: ir.Value | None, way: int
) -> Sequence[ir.Value]:
    """The hidden state at each step, then the last states; behind a sequence's end they do not change."""
    scanned = [xs]
    if lengths is not None:
        steps = op.Range(op.scalar(0), op.Squeeze(op.Shape(xs, start=0, end=1)), op.scalar(1))
        into = op.Cast(lengths, to=int(ir.DataType.INT64))
        scanned.append(op.Less(op.Unsqueeze(steps, op.ints(1, 2)), op.Unsqueeze(into, op.ints(1))))

    def write(op: Ops, *values: ir.Value) -> Sequence[ir.Value]:
        before, x, inside = values[: len(states)], values[len(states)], values[len(states) + 1 :]
        after = step(op, x, *before)
        if not inside:
            return [*after, after[0]]
        kept = [op.Where(*inside, new, old) for new, old in zip(after, before, strict=True)]
        return [*kept, op.Where(*inside, after[0], 0)]

    inputs = [op.placeholder(ir.Value(type=value.type)) for value in (*states, *scanned)]
    made = op.emit(
        "Scan",
        [*states, *scanned],
        {
            "body": op.nested(inputs, write),
            "num_scan_inputs": len(scanned),
            "scan_input_directions": [way] * len(scanned),
            "scan_output_directions": [way],
        },
        len(states) + 1,
    )
    for value in made:
        value.type = xs.type
    return [made[-1], *made[:-1]]


def _activations(node: ir.Node, defaults: Sequence[str], ways: int) -> Iterator[Activation]:
    """The activations of each direction in turn; one that has an alpha or beta takes the next one given."""
    given = {name: iter(node.attributes.get_floats(f"activation_{name}", ())) for name in ("alpha", "beta")}
    clip = node.attributes.get_float("clip", 0)
    proper = {name.lower(): name for name in _ACTIVATIONS}
    for name in node.attributes.get_strings("activations", [*defaults] * ways):
        kind = proper[name.lower()]
        numbers = {which: next(given[which], default) for which, default in _ACTIVATIONS[kind].items()}
        yield partial(_activate, kind, numbers, clip)


def _activate(
    kind: str, numbers: Mapping[str, float], limit: float, op: Ops, x: ir.Value, clip: bool = True
) -> ir.Value:
    if limit and clip:
        x = op.Clip(x, -limit, limit)
    if kind == "Affine":
        return op.Add(op.Mul(x, numbers["alpha"]), numbers["beta"])
    if kind == "ScaledTanh":
        return op.Mul(op.Tanh(op.Mul(x, numbers["beta"])), numbers["alpha"])
    (y,) = op.emit(kind, [x], numbers)
    return y


def _affine(op: Ops, x: ir.Value, w: ir.Value, b: ir.Value | None) -> ir.Value:
    y = op.MatMul(x, w)
    return y if b is None else op.Add(y, b)


def _peep(op: Ops, gate: ir.Value, weight: ir.Value | None, cell: ir.Value) -> ir.Value:
    return gate if weight is None else op.Add(gate, op.Mul(weight, cell))


def _each(op: Ops, value: ir.Value | None, ways: int) -> Sequence[ir.Value | None]:
    """What belongs to each direction."""
    if value is None:
        return [None] * ways
    parts = _split(op, value, ways, 0) if ways > 1 else [value]
    return [op.Squeeze(part, op.ints(0)) for part in parts]


def _stacked(op: Ops, values: Sequence[ir.Value], axis: int) -> ir.Value:
    return op.Concat(*(op.Unsqueeze(value, op.ints(axis)) for value in values), axis=axis)


def _split(op: Ops, value: ir.Value | None, parts: int, axis: int) -> Sequence[Any]:
    """Equal parts of a value; of none none."""
    if value is None:
        return [None] * parts
    made = op.emit("Split", [value], {"axis": axis, "num_outputs": parts}, parts)
    for part in made:
        part.type = value.type
    return made
