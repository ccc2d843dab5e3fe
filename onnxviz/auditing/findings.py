"""`Finding`: something that an audit found, under a code that is published."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Code:
    """A kind of finding: what it means, and how bad it is where nothing else is said."""

    severity: Severity
    meaning: str


CODES: Mapping[str, Code] = MappingProxyType(
    {
        "not-loadable": Code("error", "The file cannot be loaded or run."),
        "checker": Code("error", "onnx's checker refuses the file."),
        "external-data": Code("error", "Weights in another file are missing, or outside the model's folder."),
        "nan-weight": Code("error", "A weight is NaN."),
        "infinite-weight": Code("error", "A weight is infinite."),
        "nan-activation": Code("error", "A layer makes NaN; named is the first that does."),
        "infinite-activation": Code(
            "error",
            "A layer makes an infinity, or more than its type can hold; named is the first that does.",
        ),
        "quantisation-scale": Code("error", "A quantiser's scale does not fit what it quantises."),
        "batchnorm-fold": Code(
            "error", "A BatchNormalization was folded into a layer that now computes otherwise."
        ),
        "classes-permuted": Code("error", "The classes are in another order than the reference's."),
        "preprocessing": Code("warning", "The pictures are fed in a way that looks wrong."),
        "layer-diverges": Code("error", "A layer computes otherwise than the reference's, fed the same."),
        "outputs-differ": Code("error", "An output has no partner in the reference."),
        "outputs-diverge": Code("error", "The answers differ more than rounding explains."),
        "dead-channel": Code("warning", "A channel answers to nothing."),
        "constant-channel": Code("warning", "A channel is one number everywhere."),
        "duplicate-filter": Code("warning", "Two filters of a layer are the same."),
        "duplicate-channel": Code("warning", "Two channels do the same in every picture."),
        "saturated": Code("warning", "A channel stands at a bound of its range in most places."),
        "explanation-drift": Code("warning", "The files give the same answer for other reasons."),
        "gradient-check": Code("error", "The gradient is not what finite differences say on this file."),
        "unfaithful": Code("warning", "Explanations find what matters no better than chance."),
        "insane-explanation": Code("warning", "Explanations stay alike when the weights are shuffled."),
        "weights-as-inputs": Code(
            "warning", "Weights are listed as inputs, which keeps a runtime from fusing layers."
        ),
        "custom-operator": Code("warning", "An operator is none of ONNX's own."),
        "cpu-fallback": Code("warning", "Nodes run on the CPU though another device was asked for."),
        "weight-clipped": Code("warning", "Many quantised weights stand at a bound."),
        "weight-outlier": Code("info", "Weights lie far from all others of their layer."),
        "unused-range": Code("info", "A quantiser's range is little used."),
        "unmatched-layer": Code("info", "A layer has no partner in the reference."),
        "denormal-weight": Code("info", "A weight is denormal."),
        "denormal-activation": Code("info", "Activations are denormal."),
        "opset-age": Code("info", "The file's operator set is old."),
        "unused-initializer": Code("info", "The file holds weights that nothing reads."),
        "dynamic-dimension": Code("info", "A size other than the batch is open."),
    }
)


@dataclass(frozen=True)
class Finding:
    """Something found: its code, how bad it is, where, and the figure that it rests on."""

    code: str
    severity: Severity
    layer: str | None = None
    channel: int | None = None
    value: float | None = None
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As the report holds it."""
        return asdict(self)


def finding(
    code: str,
    layer: str | None,
    channel: int | None,
    value: float | None,
    detail: str,
    severity: Severity | None = None,
) -> Finding:
    """A finding as bad as its code is, where nothing else is said."""
    return Finding(
        code,
        severity or CODES[code].severity,
        layer,
        channel,
        None if value is None else float(value),
        detail,
    )


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then as the codes are listed; of one code as they were found."""
    codes = list(CODES)
    return sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), codes.index(one.code)))


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """How many there are of each severity and of each code, 0 where there are none."""
    found = list(findings)
    severities = Counter(one.severity for one in found)
    codes = Counter(one.code for one in found)
    return {name: severities[name] for name in SEVERITIES} | {code: codes[code] for code in CODES}
