"""Which channels of a file do nothing, do what others do, or break."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.findings import Finding, Severity, finding
from onnxviz.auditing.matching import Match
from onnxviz.auditing.probing import Look
from onnxviz.auditing.stages import Stage
from onnxviz.auditing.subject import Subject
from onnxviz.auditing.sums import Sums
from onnxviz.auditing.watch import range_of
from onnxviz.auditing.weights import Filters, WeightHealth, broken_channels, filters, weight_health
from onnxviz.graph.model import Model
from onnxviz.graph.quantisation import scale_of

Array: TypeAlias = npt.NDArray[Any]

SATURATED = 0.5
"""A channel that stands at a bound in more than this share of its places is saturated."""

CLIPPED = 0.05
"""A layer that loses more than this share of its activations at the end of its range has too small a one."""

ENOUGH = 100
"""Pictures; of fewer, without a reference, it is no wonder that some channels sleep."""

MOST_TOLD = 4096
"""Channels of a layer that are told one by one; the outputs of detectors have hundreds of thousands."""

_SAME = 1e-3
_FEW = 8
_WORDS = {"nan": "NaN", "infinite": "an infinity"}


@dataclass(frozen=True)
class Channels:
    """What is known of the channels of a stage over all pictures; arrays are [C].

    `seen` is the number of activations that `clipped` is a share of; `used` is the share of the quantiser's
    range that the activations reach, None where there is no quantiser.
    """

    stage: Stage
    low: Array
    high: Array
    mean: Array
    clipped: Array | None
    seen: float
    nan: Array
    infinite: Array
    denormal: Array
    constant: Array
    dead: Array
    doubles: Mapping[int, int]
    double_filters: Mapping[int, int]
    range: tuple[float, float] | None
    used: float | None
    filters: Filters | None
    weights: WeightHealth | None
    broken: Mapping[int, str]

    @property
    def cut_off(self) -> float:
        """The share of activations at the end of a quantiser's range; 0 of few, and where a Clip cuts."""
        clips = any(layer.op == "Clip" for layer in self.stage.members)
        if self.clipped is None or self.range is None or clips or self.seen < 1000:
            return 0.0
        return float(self.clipped.mean())

    @property
    def saturated(self) -> Array:
        """Which channels stand at a bound in most places, and are not constant."""
        if self.clipped is None:
            return np.zeros(len(self.low), bool)
        return np.asarray((self.clipped > SATURATED) & ~self.constant)


def channels(subject: Subject, sums: Sums, look: Look) -> dict[str, Channels]:
    """The channels of each stage, by the stage's name, from what all pictures did."""
    pictures = sums.number("sum:pictures")
    places = {probe.stage.tensor: probe.sizes[1] for probe in look.probes}
    return {
        stage.name: _channels(subject.model, stage, sums, look, pictures, places[stage.tensor])
        for stage in subject.stages
    }


def static_channels(model: Model, stages: Sequence[Stage]) -> dict[str, Channels]:
    """What the weights alone tell of each stage that has any."""
    found = {}
    for stage in stages:
        rows, weights = filters(model, stage), weight_health(model, stage)
        count = len(rows.weights) if rows is not None else 0
        nothing, no = np.full(count, np.nan), np.zeros(count, bool)
        found[stage.name] = Channels(
            stage=stage,
            low=nothing,
            high=nothing,
            mean=nothing,
            clipped=None,
            seen=0,
            nan=no.astype(int),
            infinite=no.astype(int),
            denormal=no.astype(int),
            constant=no,
            dead=no if rows is None else rows.zero,
            doubles={},
            double_filters={} if rows is None else rows.doubles(),
            range=None,
            used=None,
            filters=rows,
            weights=weights,
            broken=broken_channels(model, stage),
        )
    return found


def _channels(model: Model, stage: Stage, sums: Sums, look: Look, pictures: float, places: int) -> Channels:
    tensor, value = stage.tensor, model.tensor(stage.tensor)
    low, high = sums.get(f"min:low:{tensor}"), sums.get(f"max:high:{tensor}")
    assert low is not None
    assert high is not None
    mean, nan = sums.arrays[f"sum:mean:{tensor}"], sums.arrays[f"sum:nan:{tensor}"]
    narrow = value.dtype is not None and value.dtype.is_integer() and value.dtype.itemsize == 1
    some = sums.number("sum:closer")
    infinite = sums.arrays[f"sum:infinite:{tensor}"] + sums.arrays[f"sum:minus-infinite:{tensor}"]
    clipped = sums.get(f"sum:clipped:{tensor}")
    rows = filters(model, stage)
    if rows is not None and len(rows.weights) != len(low):
        rows = None
    constant = (low == high) & np.isfinite(low)
    zero = np.zeros(len(low), bool) if rows is None else rows.zero
    scale = scale_of(value) if value.dtype is not None and value.dtype.is_integer() else None
    ends = (None, None) if scale is None else range_of(value, scale)
    span = None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
    at_bound = None if clipped is None else clipped / some
    return Channels(
        stage=stage,
        low=low,
        high=high,
        mean=mean / (some if narrow else pictures),
        clipped=at_bound,
        seen=some * places * len(low),
        nan=nan,
        infinite=infinite,
        denormal=look.denormal[tensor],
        constant=constant,
        dead=(constant & (low == 0)) | zero,
        doubles=_doubles(sums, tensor, low, high, constant),
        double_filters={} if rows is None else rows.doubles(),
        range=span,
        used=_used(low, high, span),
        filters=rows,
        weights=weight_health(model, stage),
        broken=broken_channels(model, stage),
    )


def _used(low: Array, high: Array, span: tuple[float, float] | None) -> float | None:
    """The share of a range that is reached, on the side where it is larger."""
    if span is None:
        return None
    sides = [
        float(np.nanmax(np.abs(seen))) / abs(end)
        for seen, end in ((low[low < 0], span[0]), (high[high > 0], span[1]))
        if seen.size and end
    ]
    return min(1.0, max(sides, default=0.0))


def _doubles(sums: Sums, tensor: str, low: Array, high: Array, constant: Array) -> dict[int, int]:
    """Channels that did the same as an earlier one in every picture, to the last bit; no constant ones."""
    prints = sums.get(f"sum:print:{tensor}")
    if prints is None:
        return {}
    seen: dict[tuple[float, float, float], int] = {}
    found: dict[int, int] = {}
    for number in np.nonzero(~constant & np.isfinite(low) & np.isfinite(high))[0]:
        key = (float(prints[number]), float(low[number]), float(high[number]))
        if key in seen:
            found[int(number)] = seen[key]
        else:
            seen[key] = int(number)
    return found


def health_findings(
    found: Mapping[str, Channels],
    matches: Sequence[Match] = (),
    sums: Sums | None = None,
    pictures: int = 0,
) -> tuple[list[Finding], dict[str, list[str]]]:
    """What is wrong with channels and weights, at the layer where it begins; and what the reference has too.

    What follows from a fault before it is none of its own: NaN behind NaN, a depthwise filter over a dead
    channel. What the reference has alike was there when the model was trained.
    """
    by_tensor = {each.stage.tensor: each for each in found.values()}
    partners = {each.audited.stage.name: each for each in matches}
    findings: list[Finding] = []
    inherited: dict[str, list[str]] = {}
    for name, each in found.items():
        before = [by_tensor[tensor] for tensor in each.stage.inputs if tensor in by_tensor]
        alike = _alike(each, partners.get(name), sums)
        own = [
            *_of_weights(each),
            *_broken(each, before),
            *_idle(each, before, sums, pictures),
            *_twice(each),
        ]
        for one in own:
            if one.channel is not None and one.channel in alike.get(one.code, ()):
                inherited.setdefault(name, []).append(f"{one.code} {one.channel}")
            else:
                findings.append(one)
    return findings, inherited


def _of_weights(each: Channels) -> list[Finding]:
    name, weights = each.stage.name, each.weights
    if weights is None:
        return []
    findings = [
        finding(
            f"{kind}-weight",
            name,
            channel,
            weights.nan if kind == "nan" else weights.infinite,
            f"the weights of channel {channel} hold {_WORDS[kind]}; export again",
        )
        for channel, kind in each.broken.items()
    ]
    for code, count, what in (
        ("nan-weight", weights.nan, "NaN"),
        ("infinite-weight", weights.infinite, "infinite"),
    ):
        if count and not any(one.code == code for one in findings):
            findings.append(finding(code, name, None, count, f"{count} weights are {what}; export again"))
    if weights.denormal:
        findings.append(
            finding(
                "denormal-weight", name, None, weights.denormal,
                f"{weights.denormal} weights are denormal: some devices take them for zero, others are slow",
            )
        )  # fmt: skip
    if weights.outliers:
        findings.append(
            finding(
                "weight-outlier", name, None, weights.outliers,
                f"{weights.outliers} weights lie far from all others, from "
                f"{weights.lowest:.4g} to {weights.highest:.4g}: a quantiser would waste its range on them",
            )
        )  # fmt: skip
    if weights.clipped is not None and weights.clipped > CLIPPED:
        findings.append(
            finding(
                "weight-clipped", name, None, weights.clipped,
                f"{weights.clipped:.1%} of the quantised weights stand at a bound: is their scale too small?",
            )
        )  # fmt: skip
    return findings


def _broken(each: Channels, before: Sequence[Channels]) -> list[Finding]:
    """NaN and infinities, at the first layer that makes them."""
    if any(other.nan.any() or other.infinite.any() for other in before):
        return []
    kind, counts = ("infinite", each.infinite) if each.infinite.any() else ("nan", each.nan)
    where = np.nonzero(counts)[0]
    if not len(where):
        return []
    what = "an infinity, or more than the layer's type can hold" if kind == "infinite" else "NaN"
    code, name = f"{kind}-activation", each.stage.name
    if len(where) > _FEW:
        return [
            finding(
                code, name, None, len(where),
                f"{len(where)} of {len(counts)} channels make {what}; in up to {int(counts.max())} pictures",
            )
        ]  # fmt: skip
    return [
        finding(
            code, name, int(channel), int(counts[channel]),
            f"channel {channel} makes {what} in {int(counts[channel])} pictures",
        )
        for channel in where
    ]  # fmt: skip


def _idle(each: Channels, before: Sequence[Channels], sums: Sums | None, pictures: int) -> list[Finding]:
    """Dead, constant and saturated channels of layers with weights, and not for want of a living input.

    A channel that wakes where the layer is fed the reference's activations is idle for what lies before it.
    """
    name = each.stage.name
    findings = []
    few: Severity | None = "info" if pictures < ENOUGH and sums is not None else None
    if each.filters is not None:
        starved = _starved(each, before)
        alone = None if sums is None else sums.get(f"sum:own-energy:{each.stage.tensor}")
        if alone is not None and len(alone) == len(each.low):
            starved = starved | ((alone > 0) & ~each.filters.zero)
            few = None
        for channel in np.nonzero((each.dead | each.constant) & ~starved)[0]:
            if each.dead[channel]:
                zero = bool(each.filters.zero[channel])
                why = "its filter is zero" if zero else f"it is zero in all {pictures} pictures"
                detail = f"channel {channel} is dead: {why}"
                findings.append(
                    finding("dead-channel", name, int(channel), 0.0, detail, None if zero else few)
                )
            else:
                value = float(each.low[channel])
                detail = f"channel {channel} is {value:.4g} everywhere in every picture"
                findings.append(finding("constant-channel", name, int(channel), value, detail, few))
    if each.clipped is not None:
        for channel in np.nonzero(each.saturated)[0]:
            share = float(each.clipped[channel])
            detail = f"channel {channel} stands at a bound of its range in {share:.0%} of all places"
            findings.append(finding("saturated", name, int(channel), share, detail))
    if each.denormal.any():
        count = int(each.denormal.sum())
        detail = f"{count} activations of the first pictures are denormal: some devices are slow on them"
        findings.append(finding("denormal-activation", name, None, count, detail))
    return findings


def _starved(each: Channels, before: Sequence[Channels]) -> Array:
    """Which channels of a grouped convolution read constant channels alone, through a filter of their own."""
    assert each.filters is not None
    starved = np.zeros(len(each.low), bool)
    group = each.filters.group
    if group == 1 or len(before) != 1 or len(before[0].constant) % group:
        return starved
    idle = (before[0].constant | before[0].dead).reshape(group, -1).all(axis=1)
    made = len(each.low) // group
    return np.asarray(np.repeat(idle, made) & ~each.filters.zero)


def _twice(each: Channels) -> list[Finding]:
    name = each.stage.name
    findings = [
        finding(
            "duplicate-filter",
            name,
            channel,
            other,
            f"the filter of channel {channel} is that of channel {other}",
        )
        for channel, other in each.double_filters.items()
    ]
    if each.filters is not None and each.filters.group == 1:
        findings += [
            finding(
                "duplicate-channel", name, channel, other,
                f"channel {channel} does the same as channel {other} in every picture",
            )
            for channel, other in each.doubles.items()
            if channel not in each.double_filters
        ]  # fmt: skip
    return findings


def _alike(each: Channels, match: Match | None, sums: Sums | None) -> dict[str, set[int]]:
    """By code the channels of which the reference's are no better."""
    if match is None:
        return {}
    theirs = match.reference.filters
    alike: dict[str, set[int]] = {}
    if theirs is not None and len(theirs.weights) == len(each.low):
        alike["duplicate-filter"] = set(theirs.doubles())
        alike["dead-channel"] = set(map(int, np.nonzero(theirs.zero)[0]))
    tensor = each.stage.tensor
    noise = None if sums is None else sums.get(f"sum:noise:{tensor}")
    if sums is not None and noise is not None and each.stage.end == match.audited.layer:
        signal = sums.arrays[f"sum:signal:{tensor}"]
        same = set(map(int, np.nonzero(noise <= _SAME * signal)[0]))
        silent = set(map(int, np.nonzero(signal == 0)[0]))
        alike["dead-channel"] = alike.get("dead-channel", set()) | silent
        for code in ("constant-channel", "duplicate-channel", "saturated"):
            alike[code] = same | silent
    return alike


def health_entries(
    found: Mapping[str, Channels], inherited: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """The layers as the report holds them."""
    return [_entry(each, inherited.get(name, [])) for name, each in found.items()]


def _entry(each: Channels, inherited: Sequence[str]) -> dict[str, Any]:
    doubles = {**each.doubles, **each.double_filters}
    flags = {
        "dead": each.dead,
        "constant": each.constant & ~each.dead,
        "duplicate": np.isin(np.arange(len(each.low)), list(doubles)),
        "saturated": each.saturated,
        "nan": each.nan > 0,
        "infinite": each.infinite > 0,
        "denormal": each.denormal > 0,
    }
    clipped = None if each.clipped is None else float(each.clipped.mean())
    return {
        "name": each.stage.name,
        "op": each.stage.layer.op,
        "tensor": each.stage.tensor,
        "channels": len(each.low),
        **{name: int(which.sum()) for name, which in flags.items()},
        "low": _extreme(each.low, np.nanmin),
        "high": _extreme(each.high, np.nanmax),
        "range": None
        if each.range is None
        else {"low": each.range[0], "high": each.range[1], "used": each.used, "clipped": clipped},
        "weights": None if each.weights is None else asdict(each.weights),
        "inherited": list(inherited),
        "by_channel": [
            {
                "channel": number,
                "low": float(each.low[number]),
                "high": float(each.high[number]),
                "mean": float(each.mean[number]),
                "flags": [name for name, which in flags.items() if which[number]],
            }
            for number in range(len(each.low) if len(each.low) <= MOST_TOLD else 0)
        ],
    }


def _extreme(numbers: Array, pick: Any) -> float | None:
    return float(pick(numbers)) if np.isfinite(numbers).any() else None
