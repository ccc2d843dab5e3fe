"""`Policy`: a TOML file of gates, and of how bad a kind of finding is."""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from onnxviz.auditing.findings import CODES, Finding, Severity
from onnxviz.auditing.gates import parse_gates
from onnxviz.errors import PolicyError, did_you_mean

_KEYS = ("fail-on", "warn-on", "severity")
_IGNORE = "ignore"


@dataclass(frozen=True)
class Policy:
    """What a file must hold to: gates that fail it, gates that warn, and the severity of codes."""

    fail_on: tuple[str, ...] = ()
    warn_on: tuple[str, ...] = ()
    severity: Mapping[str, str] = field(default_factory=dict)


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """A policy from a TOML file: `fail-on` and `warn-on`, lists of gates; `[severity]`, a table of codes.

    Raises:
        PolicyError: The file cannot be read, or holds something else.
    """
    name = os.fspath(path)
    try:
        table: dict[str, Any] = tomllib.loads(Path(path).read_text("utf-8-sig"))
    except OSError as err:
        raise PolicyError(f"{name}: cannot read the policy: {err.strerror or err}") from None
    except (ValueError, RecursionError) as err:
        raise PolicyError(f"{name}: not a TOML file: {' '.join(str(err).split())}") from None
    for key in table:
        if key not in _KEYS:
            raise PolicyError(
                f"{name}: unknown key {key!r}; the keys are {', '.join(_KEYS)}{did_you_mean(key, _KEYS)}"
            )
    fail_on, warn_on = (_texts(table.get(key, []), key, name) for key in _KEYS[:2])
    severity = table.get("severity", {})
    if not isinstance(severity, dict):
        raise PolicyError(f"{name}: severity must be a table of codes")
    allowed = (*get_args(Severity), _IGNORE)
    for code, level in severity.items():
        if code not in CODES:
            raise PolicyError(f"{name}: no finding has the code {code!r}{did_you_mean(code, CODES)}")
        if level not in allowed:
            raise PolicyError(f"{name}: the severity of {code} must be one of {', '.join(allowed)}")
    try:
        parse_gates(fail_on, warn_on)
    except PolicyError as err:
        raise PolicyError(f"{name}: {err}") from None
    return Policy(fail_on, warn_on, severity)


def weighed(findings: Iterable[Finding], policy: Policy) -> list[Finding]:
    """Findings with the severities of a policy, without those that it ignores."""
    found = []
    for one in findings:
        level = policy.severity.get(one.code, one.severity)
        if level != _IGNORE:
            found.append(replace(one, severity=level))  # type: ignore[arg-type]
    return found


def _texts(value: object, key: str, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise PolicyError(f"{name}: {key} must be a list of gates")
    return tuple(value)
