"""Recurrent layers: all outputs at once, of sequences of four steps."""

from collections.abc import Sequence

from autodiff.cases.table import NEVER, add

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def _layer(
    key: str,
    attributes: str = "",
    *,
    ways: int = 1,
    without: str = "",
    lengths: Sequence[int] = (),
    peepholes: bool = False,
    batch_first: bool = False,
    read: str = "",
    batch: str = "2",
    **more: object,
) -> None:
    """One case: `without` names absent inputs, `read` the outputs that are read (all if none)."""
    kind = key.split("-")[0]
    gates, hidden = _GATES[kind], 2
    state = f"[{batch},{ways},{hidden}]" if batch_first else f"[{ways},{batch},{hidden}]"
    shapes = {
        "x": f"double{f'[{batch},4,3]' if batch_first else f'[4,{batch},3]'}",
        "w": f"double[{ways},{gates * hidden},3]",
        "r": f"double[{ways},{gates * hidden},{hidden}]",
        "b": f"double[{ways},{2 * gates * hidden}]",
        "l": "int32[2]" if lengths else "",
        "h": f"double{state}",
        "c": f"double{state}" if kind == "LSTM" else "",
        "q": f"double[{ways},{3 * hidden}]" if peepholes else "",
    }
    given = {name: shape for name, shape in shapes.items() if shape and name not in without}
    order = list(shapes)[: 1 + max(list(shapes).index(name) for name in given)]
    outputs = ["ys", "last", "cell"] if kind == "LSTM" else ["ys", "last"]
    all_attributes = ", ".join(filter(None, [f"hidden_size={hidden}", attributes, "layout=1" * batch_first]))
    arguments = ", ".join(name if name in given else '""' for name in order)
    wanted = read.split() or outputs
    rows = " ".join(f"flat_{name} = Reshape({name}, flat)" for name in wanted)
    add(
        key,
        ", ".join(f"{shape} {name}" for name, shape in given.items()),
        f"{', '.join(outputs)} = {kind}<{all_attributes}>({arguments}) flat = "
        f"Constant<value_ints=[-1]>() {rows} "
        f"y = Concat<axis=0>({', '.join(f'flat_{name}' for name in wanted)})",
        feeds={"l": lengths} if lengths else {},
        **more,
    )


_BOTH = 'direction="bidirectional"'

for _kind in _GATES:
    _layer(f"{_kind}-plain")
    _layer(f"{_kind}-weights-alone", without="bhc")
    _layer(f"{_kind}-reverse", 'direction="reverse"')
    _layer(f"{_kind}-both", _BOTH, ways=2)
    _layer(f"{_kind}-lengths", lengths=[2, 4])
    _layer(f"{_kind}-lengths-both", _BOTH, ways=2, lengths=[3, 1])
    _layer(f"{_kind}-clip", "clip=0.3")
    _layer(f"{_kind}-last-alone", read="last")
    _layer(f"{_kind}-symbolic", without="hc", batch="N", sizes={"N": 2})
    _layer(f"{_kind}-batch-first", _BOTH, ways=2, batch_first=True, runs=NEVER)

_layer("GRU-reset-last", "linear_before_reset=1")
_layer("GRU-reset-last-unbiased", "linear_before_reset=1", without="b")
_layer("GRU-reset-last-clip", "linear_before_reset=1, clip=0.3")
_layer("LSTM-peepholes", peepholes=True)
_layer("LSTM-peepholes-both-clip", f"clip=0.5, {_BOTH}", ways=2, peepholes=True)
_layer("LSTM-coupled", "input_forget=1")
_layer("LSTM-coupled-peepholes", "input_forget=1", peepholes=True)
_layer("LSTM-hidden-unset", without="h")
_layer("LSTM-cell-unset", without="c")
_layer("LSTM-cell-alone", read="cell")

for _name in ("Relu", "Softsign", "Softplus", "LeakyRelu", "Elu", "HardSigmoid"):
    _layer(f"RNN-{_name.lower()}", f'activations=["{_name}"]')
for _name in ("LeakyRelu", "ThresholdedRelu", "Elu", "Affine", "ScaledTanh", "HardSigmoid"):
    _layer(
        f"RNN-{_name.lower()}-set",
        f'activations=["{_name}"], activation_alpha=[0.7], activation_beta=[0.4]',
    )
# Each takes the next alpha and beta, where it has them.
_layer(
    "LSTM-activations",
    'activations=["HardSigmoid", "LeakyRelu", "Affine"], activation_alpha=[0.3, 0.2, 0.7], '
    "activation_beta=[0.4, 0.6]",
)
_layer(
    "GRU-activations-both",
    f'{_BOTH}, activations=["HardSigmoid", "leakyrelu", "SIGMOID", "Elu"], activation_alpha=[0.3, 0.2, 0.7], '
    "activation_beta=[0.4]",
    ways=2,
)
