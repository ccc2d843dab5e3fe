"""`Gate`: a condition on a figure of the report under which a file must not ship."""

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from onnxviz.errors import PolicyError, did_you_mean

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_GATE = re.compile(r"\s*(?P<path>.+?)\s*(?P<sign><=|>=|==|!=|<|>)\s*(?P<value>[^<>=!]+?)\s*")
_STEP = re.compile(r"(?:^|\.)(?P<key>[^.\[\]]+)|\[(?P<item>[^\]]*)\]")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?\s*%?", re.IGNORECASE)
# Lists of what went wrong: it is well if there is nothing in them, or nothing of that name.
_LISTS_OF_FAULTS = ("findings", "baseline.new", "baseline.changes", "agreement.flips", "pictures.failed")
_NAMES = ("name", "code", "gate", "picture", "path")


@dataclass(frozen=True)
class Gate:
    """A condition that must not hold: "agreement.top1<0.98" fails a file whose top-1 agreement is less.

    `steps` are the keys of the path; a list is entered by an element's number or name, or by "*": each.
    """

    text: str
    path: str
    steps: tuple[str, ...]
    sign: str
    bound: float | str | bool
    severity: Literal["error", "warning"] = "error"


def parse_gates(fail_on: Sequence[str], warn_on: Sequence[str] = ()) -> list[Gate]:
    """Gates from their texts.

    Raises:
        PolicyError: A text cannot be read, or names a figure that no report has.
    """
    return [parse_gate(text) for text in fail_on] + [parse_gate(text, "warning") for text in warn_on]


def parse_gate(text: str, severity: Literal["error", "warning"] = "error") -> Gate:
    """A gate from its text: PATH, one of < <= > >= == !=, and a number, a percentage or a word.

    Raises:
        PolicyError: The text cannot be read, or names a figure that no report has.
    """
    match = _GATE.fullmatch(text)
    if match is None:
        raise PolicyError(f"cannot read the gate {text!r}; write one such as 'agreement.top1<0.98'")
    steps = _steps(match["path"], text)
    if steps[0] in ("verdict", "reasons", "gates"):
        raise PolicyError(f"the gate {text!r} is on what gates decide; gate a figure, such as counts.error>0")
    _check_path(steps, text)
    bound = _bound(match["value"])
    if isinstance(bound, str | bool) and match["sign"] not in ("==", "!="):
        raise PolicyError(f"the gate {text!r} compares with a word; use == or !=, or a number")
    return Gate(text.strip(), match["path"], steps, match["sign"], bound, severity)


def judge(gates: Sequence[Gate], document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each gate against a report, as the report holds it; a missing figure fails its gate."""
    return [_judged(gate, document) for gate in gates]


def _judged(gate: Gate, document: Mapping[str, Any]) -> dict[str, Any]:
    found = list(_values(document, gate.steps))
    missing = [where for where, value in found if value is None]
    failing = [(where, value) for where, value in found if value is not None and _fails(gate, value)]
    if failing:
        where, value = failing[0]
        more = f", and so do {len(failing) - 1} more" if len(failing) > 1 else ""
        holds, detail = False, f"{where} is {_said(value)}{more}"
    elif missing or (not found and not _may_be_empty(gate.steps)):
        value, holds = None, False
        where = missing[0] if missing else gate.path
        detail = f"{where} was not measured, and a missing figure fails its gate"
    else:
        value = _nearest(gate, [value for _, value in found])
        holds, detail = True, f"{gate.path} is {_said(value)}" if found else "there is none"
    return {
        "gate": gate.text,
        "path": gate.path,
        "value": value,
        "holds": holds,
        "severity": gate.severity,
        "detail": detail,
    }


def _values(value: Any, steps: Sequence[str], where: str = "") -> Iterator[tuple[str, Any]]:
    """The figures that a path leads to, and the path of each; None where one leads nowhere."""
    if not steps:
        yield where, value
        return
    step, rest = steps[0], steps[1:]
    if step == "*" and isinstance(value, list | Mapping):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            name = next((item[n] for n in _NAMES if isinstance(item, Mapping) and n in item), key)
            yield from _values(item, rest, f"{where}[{name}]")
        return
    if isinstance(value, Mapping):
        yield from _values(value.get(step), rest, f"{where}.{step}" if where else step)
    elif isinstance(value, list):
        picked = _picked(value, step)
        if picked is not None or where not in _LISTS_OF_FAULTS:
            yield from _values(picked, rest, f"{where}[{step}]")
    else:
        yield f"{where}.{step}", None


def _picked(items: list[Any], step: str) -> Any:
    for key in _NAMES:
        for item in items:
            if isinstance(item, Mapping) and item.get(key) == step:
                return item
    return items[int(step)] if step.isdecimal() and int(step) < len(items) else None


def _fails(gate: Gate, value: Any) -> bool:
    bound = gate.bound
    if isinstance(bound, bool) or isinstance(value, bool):
        return _OPERATORS[gate.sign](value, bound) if isinstance(value, bool) else gate.sign == "!="
    if isinstance(bound, str):
        return _OPERATORS[gate.sign](str(value), bound)
    if not isinstance(value, int | float):
        return True  # a figure that is no number cannot pass
    # NaN is less than nothing and more than nothing: it fails.
    return value != value or _OPERATORS[gate.sign](value, bound)


def _may_be_empty(steps: Sequence[str]) -> bool:
    """Whether a path leads into a list of what went wrong."""
    return any(".".join(steps[:count]) in _LISTS_OF_FAULTS for count in (1, 2))


def _nearest(gate: Gate, values: Sequence[Any]) -> Any:
    """The value that is nearest to failing."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if not numbers or len(numbers) < len(values):
        return values[0] if values else None
    return min(numbers) if gate.sign in ("<", "<=") else max(numbers)


def _said(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _bound(text: str) -> float | str | bool:
    if _NUMBER.fullmatch(text):
        return float(text.rstrip("% ")) / 100 if text.endswith("%") else float(text)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text.strip("'\"")


def _steps(path: str, text: str) -> tuple[str, ...]:
    steps, end = [], 0
    for match in _STEP.finditer(path):
        if match.start() != end:
            break
        steps.append(match["key"] if match["key"] is not None else match["item"].strip("'\""))
        end = match.end()
    if end != len(path) or not steps or not all(steps):
        raise PolicyError(
            f"cannot read the path {path!r} of the gate {text!r}; write one such as layers[conv1].sqnr_db"
        )
    return tuple(steps)


@cache
def schema() -> Mapping[str, Any]:
    """The published schema of audit.json."""
    found: dict[str, Any] = json.loads(
        files("onnxviz.auditing").joinpath("audit.schema.json").read_text("utf-8")
    )
    return found


def _check_path(steps: Sequence[str], text: str) -> None:
    """Refuse a path that no report can have."""
    kind: Mapping[str, Any] = schema()
    for place, step in enumerate(steps):
        kind = next((one for one in kind.get("anyOf", ()) if one.get("type") != "null"), kind)
        types = kind.get("type", ())
        if "properties" in kind:
            known = kind["properties"]
            if step == "*":
                return
            if step in known:
                kind = known[step]
            elif isinstance(kind.get("additionalProperties"), Mapping):
                kind = kind["additionalProperties"]
            else:
                where = ".".join(steps[:place]) or "a report"
                raise PolicyError(f"the gate {text!r}: {where} has no {step!r}{did_you_mean(step, known)}")
        elif "additionalProperties" in kind:
            kind = kind["additionalProperties"] or {}
        elif "items" in kind:
            kind = kind["items"]
        elif types:
            raise PolicyError(f"the gate {text!r}: {'.'.join(steps[:place])} is no list and has no {step!r}")
