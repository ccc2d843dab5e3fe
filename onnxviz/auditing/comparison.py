"""Where two files begin to differ: each layer's error, alone and with those of all layers before it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.matching import Match
from onnxviz.auditing.probing import Repeat
from onnxviz.auditing.stages import Stage
from onnxviz.auditing.sums import Sums
from onnxviz.graph.families import family
from onnxviz.graph.model import Model

Array: TypeAlias = npt.NDArray[Any]

SILENCE = 200.0
"""dB where nothing differs."""

_WORST = 8


@dataclass(frozen=True)
class Energy:
    """Sums of squares over all pictures, by channel: of the difference, the reference, and the layer."""

    noise: Array
    signal: Array
    energy: Array

    @property
    def sqnr(self) -> float:
        """Signal to noise in dB; NaN where either is no number."""
        return decibels(float(self.signal.sum()), float(self.noise.sum()))

    @property
    def relative_l2(self) -> float:
        """The norm of the difference over the reference's."""
        return math.sqrt(_ratio(float(self.noise.sum()), float(self.signal.sum())))

    @property
    def cosine(self) -> float:
        """The cosine of the two."""
        signal, energy = float(self.signal.sum()), float(self.energy.sum())
        if signal == energy == 0:
            return 1.0
        size = math.sqrt(signal * energy)
        return min(1.0, self._dot / size) if size else 0.0

    @property
    def gain(self) -> float:
        """The factor by which the audited layer is larger, in the direction of the reference."""
        signal = float(self.signal.sum())
        return self._dot / signal if signal else 1.0

    @property
    def _dot(self) -> float:
        with np.errstate(invalid="ignore"):  # infinity less infinity
            return float(self.signal.sum() + self.energy.sum() - self.noise.sum()) / 2

    def without(self, channels: Sequence[int]) -> "Energy":
        """The same but for some channels."""
        kept = np.setdiff1d(np.arange(len(self.noise)), list(channels))
        return Energy(self.noise[kept], self.signal[kept], self.energy[kept])

    def by_channel(self) -> Array:
        """Signal to noise of each channel in dB."""
        return np.array([decibels(float(s), float(n)) for s, n in zip(self.signal, self.noise, strict=True)])


@dataclass(frozen=True)
class Compared:
    """A matched layer: what it does behind the audited layers before it, and fed by the reference alone."""

    match: Match
    accumulated: Energy
    own: Energy | None
    repeat: tuple[float, float]
    precision: str

    @property
    def stage(self) -> Stage:
        """The audited stage."""
        return self.match.audited.stage

    @property
    def quantised(self) -> bool:
        """Whether it computes with quantised numbers."""
        return self.precision == "quantised"


def compared(
    matches: Sequence[Match], sums: Sums, repeat: Repeat, audited: Model, reference: Model
) -> list[Compared]:
    """The figures of each matched layer, in the audited graph's order."""
    found = []
    for match in matches:
        tensor = match.audited.layer.tensor
        accumulated = _energy(sums, "sum:", tensor)
        if accumulated is None:
            continue
        found.append(
            Compared(
                match,
                accumulated,
                _energy(sums, "sum:own-", tensor),
                repeat.layers.get(tensor, (0.0, 0.0)),
                _precision(audited, match.audited.stage, reference, match.reference.stage),
            )
        )
    return found


def _energy(sums: Sums, kind: str, tensor: str) -> Energy | None:
    parts = [sums.get(f"{kind}{figure}:{tensor}") for figure in ("noise", "signal", "energy")]
    known = [part for part in parts if part is not None]
    return Energy(*known) if len(known) == len(parts) else None


def _precision(audited: Model, ours: Stage, reference: Model, theirs: Stage) -> str:
    """How exactly two layers can agree: "quantised", "half" or "float"."""
    kinds = [_kind(audited, ours), _kind(reference, theirs)]
    return next((kind for kind in ("quantised", "half") if kind in kinds), "float")


def _kind(model: Model, stage: Stage) -> str:
    node = model.tensor(stage.layer.tensor).producer()
    read = [] if node is None else [value for value in node.inputs if value is not None]
    behind = [value.producer() for value in read]
    if any(maker is not None and maker.op_type == "DequantizeLinear" for maker in behind):
        return "quantised"
    dtypes = [value.dtype for value in (*read, model.tensor(stage.tensor)) if value.dtype is not None]
    if family(stage.layer.op) != stage.layer.op and any(dtype.is_integer() for dtype in dtypes):
        return "quantised"
    if model.tensor(stage.tensor).dtype is not None and any(
        dtype.is_integer() and dtype.itemsize == 1 for dtype in dtypes
    ):
        return "quantised"
    return "half" if any(dtype.is_floating_point() and dtype.itemsize == 2 for dtype in dtypes) else "float"


def layer_entries(found: Sequence[Compared]) -> list[dict[str, Any]]:
    """The layers as the report holds them."""
    return [_entry(each) for each in found]


def _entry(each: Compared) -> dict[str, Any]:
    match, own = each.match, each.own
    noise, signal = each.repeat
    return {
        "name": each.stage.name,
        "reference": match.reference.stage.name,
        "op": each.stage.layer.op,
        "reference_op": match.reference.stage.layer.op,
        "tensor": match.audited.layer.tensor,
        "reference_tensor": match.reference.layer.tensor,
        "matched_by": match.by,
        "match": match.correlation,
        "quantised": each.quantised,
        "cosine": each.accumulated.cosine,
        "sqnr_db": each.accumulated.sqnr,
        "relative_l2": each.accumulated.relative_l2,
        "accumulated_error": each.accumulated.relative_l2,
        "own_error": None if own is None else own.relative_l2,
        "own_sqnr_db": None if own is None else own.sqnr,
        "gain": None if own is None else own.gain,
        "noise_db": decibels(signal, noise),
        "worst_channels": _worst_channels(each.accumulated),
    }


def _worst_channels(energy: Energy) -> list[dict[str, Any]]:
    levels = energy.by_channel()
    if len(levels) < 2:
        return []
    order = np.argsort(np.nan_to_num(levels, nan=-np.inf), kind="stable")[:_WORST]
    return [
        {
            "channel": int(number),
            "sqnr_db": float(levels[number]),
            "relative_l2": _ratio(float(energy.noise[number]), float(energy.signal[number])) ** 0.5,
        }
        for number in order
        if levels[number] < SILENCE
    ]


def lowest(found: Sequence[Compared], count: int = 10) -> list[str]:
    """The layers with the lowest SQNR, the lowest first; those that are no number before all."""
    levels = [(np.nan_to_num(each.accumulated.sqnr, nan=-np.inf), each.stage.name) for each in found]
    return [name for level, name in sorted(levels, key=lambda each: each[0])[:count] if level < SILENCE]


def decibels(signal: float, noise: float) -> float:
    """10 log10 of signal over noise, between -200 and 200; NaN where either is no number."""
    if math.isnan(signal) or math.isnan(noise) or math.isinf(signal):
        return math.nan
    if noise == 0:
        return SILENCE
    if signal == 0 or math.isinf(noise):
        return -SILENCE
    return max(-SILENCE, min(SILENCE, 10 * math.log10(signal / noise)))


def _ratio(one: float, other: float) -> float:
    """A quotient; 0 of nothing by nothing, and no number where something is divided by nothing."""
    if other == 0:
        return 0.0 if one == 0 else math.nan
    return one / other


def of_outputs(sums: Sums, output: str) -> Mapping[str, float]:
    """The figures of one output of both files."""
    energy = Energy(
        *(np.array([sums.number(f"sum:answer-{name}:{output}")]) for name in ("noise", "signal", "energy"))
    )
    count = sums.number(f"sum:answer-count:{output}")
    return {
        "max_abs": sums.number(f"max:answer-abs:{output}"),
        "mean_abs": sums.number(f"sum:answer-abs:{output}") / count if count else math.nan,
        "cosine": energy.cosine,
        "relative_l2": energy.relative_l2,
        "sqnr_db": energy.sqnr,
    }
