"""Why a layer differs from the reference's: a scale, a fold, or the layer itself."""

from collections.abc import Mapping, Sequence

import numpy as np

from onnxviz.auditing.comparison import Compared
from onnxviz.auditing.findings import Finding, Severity, finding
from onnxviz.auditing.health import CLIPPED, Channels
from onnxviz.auditing.matching import Match
from onnxviz.auditing.stages import Stage
from onnxviz.auditing.weights import Filters, known
from onnxviz.graph.model import Model
from onnxviz.graph.ops import constant_of
from onnxviz.graph.quantisation import scale_when_made

# dB, fed the reference's activations: measured on clean exports, float layers are above 100, float16 above
# 50, int8 above 26.
LEAST_OWN = {"float": 70.0, "half": 30.0, "quantised": 12.0}
_ERROR = {"float": 40.0, "half": 20.0, "quantised": 12.0}
_BELOW_PEERS = 12.0
_LITTLE_USED, _INPUT_USED = 0.15, 0.25
_GAIN = (0.5, 2.0)
_FOLLOWS = ("saturated", "unused-range")
_IDLE = ("dead-channel", "constant-channel")
_SAME_DIRECTION = 0.9

# dB of accumulated error below which a layer agrees no more.
LEAST = {"float": 60.0, "half": 25.0, "quantised": 8.0}


def first_break(layers: Sequence[Compared]) -> str | None:
    """The first layer that agrees no more, with the errors of all before it."""
    for each in layers:
        level = each.accumulated.sqnr
        if np.isnan(level) or level < LEAST[each.precision]:
            return each.stage.name
    return None


def diagnose(
    layers: Sequence[Compared],
    channels: Mapping[str, Channels],
    health: Sequence[Finding],
    reference: Model,
    excused: Sequence[str] = (),
) -> list[Finding]:
    """What is wrong with layers that differ though they are fed the same.

    A layer whose error is all in channels that another finding names, or whose weights are broken, is not
    named again; nor are those in `excused`.
    """
    levels = [each.own.sqnr for each in layers if each.own is not None and each.quantised]
    usual = float(np.nanmedian(levels)) if levels and not np.isnan(levels).all() else np.nan
    findings: list[Finding] = []
    misread: set[str] = set()  # tensors whose scale does not fit: whoever reads them is not at fault
    for each in layers:
        name = each.stage.name
        if misread.intersection(each.stage.inputs):
            continue
        known = [one for one in health if one.layer == name and one.code in _EXPLAINS]
        if each.own is None or name in excused or any(one.channel is None for one in known):
            continue
        own = each.own.without([one.channel for one in known if one.channel is not None])
        level = own.sqnr
        low = each.quantised and level < usual - _BELOW_PEERS and _misfit(each, channels[name])
        if level >= LEAST_OWN[each.precision] and not low:
            continue
        if np.isnan(level) and (channels[name].nan.any() or channels[name].infinite.any()):
            continue  # NaN has findings of its own
        findings.append(_named(each, channels[name], level, reference))
        if findings[-1].code == "quantisation-scale":
            misread.add(each.stage.tensor)
    return findings


_EXPLAINS = (
    "dead-channel",
    "duplicate-filter",
    "nan-weight",
    "infinite-weight",
    "nan-activation",
    "infinite-activation",
)


def _named(each: Compared, channels: Channels, level: float, reference: Model) -> Finding:
    name, own = each.stage.name, each.own
    assert own is not None
    severity: Severity = "error" if np.isnan(level) or level < _ERROR[each.precision] else "warning"
    alone = f"fed the reference's activations, the layer is {level:.1f} dB from the reference's"
    if each.quantised and (_misfit(each, channels) or _same_directions(each.match)):
        detail = f"{alone}, {own.gain:.3g} times as large{_range(channels)}: a scale does not fit"
        return finding("quantisation-scale", name, None, own.gain, detail)
    if _has_batchnorm(each.match.reference.stage) and not _has_batchnorm(each.stage):
        detail = (
            f"{alone}: the BatchNormalization folded into it is not the reference's{_fold(each, reference)}"
        )
        return finding("batchnorm-fold", name, None, level, detail, severity)
    return finding("layer-diverges", name, None, level, alone, severity)


def _misfit(each: Compared, channels: Channels) -> bool:
    """Whether the quantiser's range does not fit the activations, or the layer is of another size."""
    assert each.own is not None
    little = channels.used is not None and channels.used < _LITTLE_USED
    much = channels.cut_off > CLIPPED
    return little or much or not _GAIN[0] < each.own.gain < _GAIN[1]


def _range(channels: Channels) -> str:
    if channels.used is None:
        return ""
    clipped = 0.0 if channels.clipped is None else float(channels.clipped.mean())
    return f"; {channels.used:.0%} of its range is used and {clipped:.1%} of its activations are cut off"


def _same_directions(match: Match) -> bool:
    return match.audited.filters is not None and cosines(match) >= _SAME_DIRECTION


def cosines(match: Match) -> float:
    """The mean cosine of the filters of both layers; NaN where they have none of one shape."""
    ours, theirs = match.audited.filters, match.reference.filters
    if ours is None or theirs is None or ours.weights.shape != theirs.weights.shape:
        return np.nan
    dots = (ours.weights * theirs.weights).sum(axis=1)
    sizes = np.linalg.norm(ours.weights, axis=1) * np.linalg.norm(theirs.weights, axis=1)
    return float((dots[sizes > 0] / sizes[sizes > 0]).mean()) if (sizes > 0).any() else np.nan


def _has_batchnorm(stage: Stage) -> bool:
    return any(layer.op == "BatchNormalization" for layer in stage.members)


def _fold(each: Compared, reference: Model) -> str:
    """In which channels the weights are not what the reference's BatchNormalization makes of its own."""
    expected = folded(reference, each.match.reference.stage, each.match.reference.filters)
    ours = each.match.audited.filters
    if expected is None or ours is None or ours.weights.shape != expected.weights.shape:
        return ""
    said = []
    off = np.abs(ours.weights - expected.weights).max(axis=1) > 1e-4 * np.abs(expected.weights).max()
    if off.any():
        said.append(f"the weights of {int(off.sum())} channels")
    if ours.bias is not None and expected.bias is not None:
        far = np.abs(ours.bias - expected.bias) > 1e-4 * np.abs(expected.bias).max()
        if far.any():
            said.append(f"the bias of {int(far.sum())}")
    return f" ({' and '.join(said)} differ from W * gamma / sqrt(var + epsilon))" if said else ""


def folded(model: Model, stage: Stage, filters: Filters | None) -> Filters | None:
    """The filters that a stage has once its BatchNormalization is folded into them."""
    layer = next((one for one in stage.members if one.op == "BatchNormalization"), None)
    if layer is None or filters is None or filters.bias is None:
        return None
    node = model.tensor(layer.tensor).producer()
    assert node is not None
    parts = [known(value) for value in node.inputs[1:5]]
    if any(part is None or part.shape != (len(filters.weights),) for part in parts):
        return None
    gamma, beta, mean, var = (part for part in parts if part is not None)
    scale = gamma / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
    return Filters(filters.weights * scale[:, None], (filters.bias - mean) * scale + beta, filters.group)


def scale_findings(model: Model, stages: Sequence[Stage]) -> list[Finding]:
    """Quantised tensors that are written with one scale and read with another; named is who writes."""
    findings = []
    for stage in stages:
        value = model.tensor(stage.tensor)
        made = scale_when_made(value)
        if made is None or value.dtype is None or not value.dtype.is_integer():
            continue
        for use in value.uses():
            if use.node.op_type != "DequantizeLinear" or use.idx != 0:
                continue
            read = constant_of(use.node.inputs[1])
            if read is None or read.size != made[0].size:
                continue
            ratio = float(np.max(read.astype(np.float64) / made[0].astype(np.float64)))
            if abs(ratio - 1) > 1e-3:
                detail = f"what it writes is read back {ratio:.3g} times as large: the two scales differ"
                findings.append(finding("quantisation-scale", stage.name, None, ratio, detail))
                break
    return findings


def input_scale_findings(channels: Mapping[str, Channels]) -> list[Finding]:
    """Quantisers of inputs that the pictures do not fit: what a picture's numbers can be is known."""
    findings = []
    for name, each in channels.items():
        if each.stage.layer.op != "QuantizeLinear" or each.range is None or each.used is None:
            continue
        clipped = each.cut_off
        if each.used < _INPUT_USED or clipped > CLIPPED:
            detail = (
                f"of the range of the input's quantiser the pictures use {each.used:.0%}, and {clipped:.1%} "
                "of their numbers are cut off: its scale does not fit, or the preprocessing"
            )
            findings.append(finding("quantisation-scale", name, None, each.used, detail))
    return findings


def range_findings(channels: Mapping[str, Channels], taken: Sequence[Finding], alone: bool) -> list[Finding]:
    """Quantisers whose range is hardly used, or cuts off much, where nothing named them.

    `alone` says that there is no reference, to which a layer that cuts off too much would have been compared.
    """
    named = {one.layer for one in taken if one.code == "quantisation-scale"}
    findings = []
    for name, each in channels.items():
        if each.range is None or name in named:
            continue
        clipped = each.cut_off
        if clipped > CLIPPED and alone:
            detail = f"{clipped:.1%} of its activations are cut off at the end of the range"
            findings.append(finding("quantisation-scale", name, None, clipped, detail, "warning"))
        elif each.used is not None and 0 < each.used < _LITTLE_USED and each.filters is not None:
            detail = f"{each.used:.1%} of the quantiser's range is used: finer steps were possible"
            findings.append(finding("unused-range", name, None, each.used, detail))
    return findings


def readers(stages: Sequence[Stage], names: set[str | None]) -> list[str]:
    """The stages that read what these make."""
    made = {stage.tensor for stage in stages if stage.name in names}
    return [stage.name for stage in stages if made.intersection(stage.inputs)]


def causes(
    findings: Sequence[Finding], stages: Sequence[Stage], known: Mapping[str, Channels]
) -> list[Finding]:
    """Without what follows from a scale that does not fit, in its layer and in those behind it."""
    misfits = {one.layer for one in findings if one.code == "quantisation-scale" and one.severity == "error"}
    behind = {stage.tensor for stage in stages if stage.name in misfits}
    for stage in stages:
        if behind.intersection(stage.inputs):
            behind.add(stage.tensor)
    names = {stage.name for stage in stages if stage.tensor in behind}

    def follows(one: Finding) -> bool:
        if one.code in _FOLLOWS:
            return one.layer in names
        if one.code not in _IDLE or one.layer is None or one.layer not in misfits:
            return False
        filters = known[one.layer].filters
        return filters is not None and not filters.zero[one.channel]

    return [one for one in findings if not follows(one)]
