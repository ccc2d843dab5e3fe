"""Recurrent layers, written as a Scan for each direction."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import onnx_ir as ir

from onnxviz.autodiff.ruleset import lowering
from onnxviz.graph.ops import Ops

Activation: TypeAlias = Callable[..., ir.Value]
Step: TypeAlias = Callable[..., Sequence[ir.Value]]

_ACTIVATIONS: dict[str, Callable[[Ops, ir.Value, float, float], ir.Value]] = {
    "relu": lambda op, x, a, b: op.Relu(x),
    "tanh": lambda op, x, a, b: op.Tanh(x),
    "sigmoid": lambda op, x, a, b: op.Sigmoid(x),
    "softsign": lambda op, x, a, b: op.Softsign(x),
    "softplus": lambda op, x, a, b: op.Softplus(x),
    "leakyrelu": lambda op, x, a, b: op.LeakyRelu(x, alpha=a),
    "thresholdedrelu": lambda op, x, a, b: op.ThresholdedRelu(x, alpha=a),
    "elu": lambda op, x, a, b: op.Elu(x, alpha=a),
    "affine": lambda op, x, a, b: op.Add(op.Mul(a, x), b),
    "scaledtanh": lambda op, x, a, b: op.Mul(a, op.Tanh(op.Mul(b, x))),
    "hardsigmoid": lambda op, x, a, b: op.HardSigmoid(x, alpha=a, beta=b),
}

# The defaults of alpha and beta, for those that have them.
_ALPHA = {"leakyrelu": 0.01, "thresholdedrelu": 1.0, "elu": 1.0, "affine": 1.0, "scaledtanh": 1.0, "hardsigmoid": 0.2}
_BETA = {"affine": 0.0, "scaledtanh": 1.0, "hardsigmoid": 0.5}


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
            return [op.Mul(o, h(op, new, clip=0)), new]

        return step

    return _recurrent(op, node, direction, ["Sigmoid", "Tanh", "Tanh"])


def _recurrent(
    op: Ops, node: ir.Node, direction: Callable[..., Step], defaults: Sequence[str]
) -> Sequence[ir.Value]:
    """The outputs of a recurrent layer; `direction` makes the step of one direction from its weights."""
    x, w, r, b, lengths, h0, c0, p = (*node.inputs, *[None] * 8)[:8]
    ways = {"forward": [0], "reverse": [1], "bidirectional": [0, 1]}[
        node.attributes.get_string("direction", "forward")
    ]
    batch_first = node.attributes.get_int("layout", 0)
    if batch_first:
        x, h0, c0 = (value and op.Transpose(value, perm=[1, 0, 2]) for value in (x, h0, c0))
    weights = zip(*(_each(op, value, len(ways)) for value in (w, r, b, p, h0, c0)), strict=True)
    activations = iter(_activations(node, defaults, len(ways)))
    made = []
    for way, (w, r, b, p, h0, c0) in zip(ways, weights, strict=True):
        (w, r), (bw, br) = (op.Transpose(m, perm=[1, 0]) for m in (w, r)), _split(op, b, 2, 0)
        step = direction(r, br, p, *(next(activations) for _ in defaults))
        zeros = op.full(op.Concat(op.Shape(x, start=1, end=2), op.Shape(r, end=1), axis=0), 0, x.dtype)
        states = [h0 or zeros] if node.op_type != "LSTM" else [h0 or zeros, c0 or zeros]
        made.append(_scan(op, step, states, _affine(op, x, w, bw), lengths, way))
    ys, *lasts = zip(*made, strict=True)
    y = op.Concat(*(op.Unsqueeze(value, op.ints(1)) for value in ys), axis=1)
    finals = [op.Concat(*(op.Unsqueeze(value, op.ints(0)) for value in last), axis=0) for last in lasts]
    if batch_first:
        y, finals = op.Transpose(y, perm=[2, 0, 1, 3]), [op.Transpose(last, perm=[1, 0, 2]) for last in finals]
    return [y, *finals][: len(node.outputs)]


def _scan(
    op: Ops, step: Step, states: Sequence[ir.Value], xs: ir.Value, lengths: ir.Value | None, way: int
) -> Sequence[ir.Value]:
    """The hidden state at each step, then the last states; behind the length of a sequence nothing changes."""
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


def _activations(node: ir.Node, defaults: Sequence[str], ways: int) -> list[Activation]:
    """The activations of all directions in turn; each that has an alpha or beta takes the next one given."""
    names = [str(name).lower() for name in node.attributes.get_strings("activations", defaults * ways)]
    alphas = iter(node.attributes.get_floats("activation_alpha", ()))
    betas = iter(node.attributes.get_floats("activation_beta", ()))
    clip = node.attributes.get_float("clip", 0)

    def activation(name: str) -> Activation:
        alpha = next(alphas, _ALPHA[name]) if name in _ALPHA else 0
        beta = next(betas, _BETA[name]) if name in _BETA else 0
        return lambda op, x, clip=clip: _ACTIVATIONS[name](op, op.Clip(x, -clip, clip) if clip else x, alpha, beta)

    return [activation(name) for name in names]


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


def _split(op: Ops, value: ir.Value | None, parts: int, axis: int) -> Sequence[Any]:
    """Equal parts of a value; of none none."""
    if value is None:
        return [None] * parts
    made = op.emit("Split", [value], {"axis": axis, "num_outputs": parts}, parts)
    for part in made:
        part.type = value.type
    return made
