"""The verdict: whether a file may ship, and why not."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from onnxviz.auditing.findings import CODES, Finding

Verdict = Literal["pass", "warn", "fail"]

_FEW = 3


def verdict(findings: Sequence[Finding], gates: Sequence[Mapping[str, Any]]) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons, one sentence each, the weightiest first.

    fail: an error or a failed gate; warn: a warning; else pass.
    """
    failed = {
        level: [gate for gate in gates if not gate["holds"] and gate["severity"] == level]
        for level in _LEVELS
    }
    reasons = [f"The gate {gate['gate']} fails: {gate['detail']}." for gate in failed["error"]]
    reasons += _grouped([one for one in findings if one.severity == "error"])
    if reasons:
        return "fail", reasons + _milder(findings, failed["warning"])
    reasons = _milder(findings, failed["warning"])
    return ("warn" if reasons else "pass"), reasons


_LEVELS = ("error", "warning")


def _milder(findings: Sequence[Finding], gates: Sequence[Mapping[str, Any]]) -> list[str]:
    told = [f"The gate {gate['gate']} warns: {gate['detail']}." for gate in gates]
    return told + _grouped([one for one in findings if one.severity == "warning"])


def _grouped(findings: Sequence[Finding]) -> list[str]:
    """One sentence for each code, with the layers that it names."""
    codes = dict.fromkeys(one.code for one in findings)
    return [_sentence(code, [one for one in findings if one.code == code]) for code in codes]


def _sentence(code: str, found: Sequence[Finding]) -> str:
    layers = list(dict.fromkeys(one.layer for one in found if one.layer is not None))
    meaning = CODES[code].meaning.rstrip(".")
    if len(found) == 1:
        where = f" ({layers[0]})" if layers else ""
        return f"{meaning}{where}: {found[0].detail.rstrip('.')}."
    where = f" in {', '.join(layers[:_FEW])}" + (
        f" and {len(layers) - _FEW} more" if len(layers) > _FEW else ""
    )
    return f"{meaning}: {len(found)} times{where if layers else ''}."
