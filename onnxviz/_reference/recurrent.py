"""Recurrent layers: one sequence of the batch after the other."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array

_ACTIVATIONS: dict[str, tuple[Callable[..., Array], list[tuple[str, float]]]] = {
    "Relu": (lambda x: np.maximum(x, 0), []),
    "Tanh": (np.tanh, []),
    "Sigmoid": (lambda x: 1 / (1 + np.exp(-x)), []),
    "Softsign": (lambda x: x / (1 + np.abs(x)), []),
    "Softplus": (lambda x: np.logaddexp(x, 0), []),
    "LeakyRelu": (lambda x, a: np.where(x < 0, a * x, x), [("alpha", 0.01)]),
    "ThresholdedRelu": (lambda x, a: np.where(x > a, x, 0), [("alpha", 1.0)]),
    "Elu": (lambda x, a: np.where(x < 0, a * np.expm1(x), x), [("alpha", 1.0)]),
    "Affine": (lambda x, a, b: a * x + b, [("alpha", 1.0), ("beta", 0.0)]),
    "ScaledTanh": (lambda x, a, b: a * np.tanh(b * x), [("alpha", 1.0), ("beta", 1.0)]),
    "HardSigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), [("alpha", 0.2), ("beta", 0.5)]),
}


class _Recurrent(OpRun):
    """onnx's own knows neither lengths of sequences nor activations nor `clip`."""

    states = 1
    activations_by_default: tuple[str, ...] = ()

    def step(self, weights: "_Weights", x: Array, *state: Array) -> tuple[Array, ...]:
        """The states after one step."""
        raise NotImplementedError

    def _run(
        self,
        x: Array,
        w: Array,
        r: Array,
        b: Array | None = None,
        lengths: Array | None = None,
        h: Array | None = None,
        c: Array | None = None,
        p: Array | None = None,
        **attributes: Any,
    ) -> tuple[Array, ...]:
        ways = {"forward": [1], "reverse": [-1], "bidirectional": [1, -1]}[
            attributes["direction"] or "forward"
        ]
        batch_first = bool(attributes["layout"])
        if batch_first:
            x = np.swapaxes(x, 0, 1)
            h, c = (value if value is None else np.swapaxes(value, 0, 1) for value in (h, c))
        steps, batch, hidden = x.shape[0], x.shape[1], r.shape[-1]
        functions = _functions(self.activations_by_default * len(ways), attributes)
        y = np.zeros((steps, len(ways), batch, hidden), x.dtype)
        last = np.zeros((self.states, len(ways), batch, hidden), x.dtype)
        for place, way in enumerate(ways):
            count = len(self.activations_by_default)
            weights = _Weights(
                w[place],
                r[place],
                np.zeros(2 * w.shape[1]) if b is None else b[place],
                np.zeros(3 * hidden) if p is None else p[place],
                functions[place * count : (place + 1) * count],
                attributes,
            )
            for n in range(batch):
                state = [np.zeros(hidden) if s is None else s[place, n] for s in (h, c)][: self.states]
                for t in range(steps if lengths is None else lengths[n])[::way]:
                    state = list(self.step(weights, x[t, n], *state))
                    y[t, place, n] = state[0]
                last[:, place, n] = state
        finals = list(last)
        if batch_first:
            y, finals = np.transpose(y, (2, 0, 1, 3)), [np.swapaxes(value, 0, 1) for value in finals]
        return (y, *finals)[: len(self.onnx_node.output)]


class _Weights:
    """What a step reads beside its input and the states."""

    def __init__(
        self,
        w: Array,
        r: Array,
        b: Array,
        p: Array,
        functions: Sequence[Callable[..., Array]],
        attributes: dict[str, Any],
    ) -> None:
        self.w, self.r, self.p, self.functions, self.attributes = w, r, p, functions, attributes
        self.bw, self.br = np.split(b, 2)


class RNN(_Recurrent):
    activations_by_default = ("Tanh",)

    def step(self, weights: _Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        (f,) = weights.functions
        return (f(weights.w @ x + weights.bw + weights.r @ state[0] + weights.br),)


class GRU(_Recurrent):
    activations_by_default = ("Sigmoid", "Tanh")

    def step(self, weights: _Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        (f, g), (h,) = weights.functions, state
        xz, xr, xn = np.split(weights.w @ x + weights.bw, 3)
        rz, rr, rn = np.split(weights.r, 3)
        bz, br, bn = np.split(weights.br, 3)
        z, r = f(xz + rz @ h + bz), f(xr + rr @ h + br)
        inner = r * (rn @ h + bn) if weights.attributes["linear_before_reset"] else rn @ (r * h) + bn
        return ((1 - z) * g(xn + inner) + z * h,)


class LSTM(_Recurrent):
    states = 2
    activations_by_default = ("Sigmoid", "Tanh", "Tanh")

    def step(self, weights: _Weights, x: Array, *state: Array) -> tuple[Array, ...]:
        (f, g, h), (hidden, c) = weights.functions, state
        i, o, forget, new = np.split(weights.w @ x + weights.bw + weights.r @ hidden + weights.br, 4)
        pi, po, pf = np.split(weights.p, 3)
        i = f(i + pi * c)
        forget = 1 - i if weights.attributes["input_forget"] else f(forget + pf * c)
        c = forget * c + i * g(new)
        return f(o + po * c) * h(c, clip=False), c


def _functions(defaults: Sequence[str], attributes: dict[str, Any]) -> list[Callable[..., Array]]:
    """The activations; each takes the next alpha and beta that are given, where it has them.

    ONNX Runtime does not clip the cell of an LSTM, which is an input of an activation too.
    """
    given: dict[str, Iterator[float]] = {
        name: iter(attributes[f"activation_{name}"] or ()) for name in ("alpha", "beta")
    }
    limit = attributes["clip"] or np.inf
    proper = {name.lower(): entry for name, entry in _ACTIVATIONS.items()}

    def function(name: str) -> Callable[..., Array]:
        f, parameters = proper[name.lower()]
        numbers = [next(given[which], default) for which, default in parameters]
        return lambda x, clip=True: f(np.clip(x, -limit, limit) if clip else x, *numbers)

    return [function(name) for name in attributes["activations"] or defaults]


OPERATORS: tuple[type[OpRun], ...] = (RNN, GRU, LSTM)
