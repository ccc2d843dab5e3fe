"""An audit against an earlier one: what is new, what is gone, and which figures moved."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnxviz.errors import PolicyError

_MOST_BYTES = 2**28
_NAME = "onnxviz-audit/"
_LEAST = 1e-9  # of the larger: less is rounding
_LEAST_DB = 1.0

# Whether more is better; None: neither.
_FIGURES: Mapping[str, bool | None] = {
    "agreement.top1": True,
    "agreement.top5": True,
    "agreement.kl": False,
    "agreement.max_abs": False,
    "agreement.mean_abs": False,
    "agreement.relative_l2": False,
    "agreement.accuracy": True,
    "agreement.flip_count": False,
    "drift.spearman.median": True,
    "drift.ssim.median": True,
    "drift.iou.median": True,
    "drift.centre_shift.median": False,
    "faithfulness.better": True,
    "identity.bytes": None,
    "identity.parameters": None,
    "identity.macs": None,
    "structure.optimised_nodes": None,
    "pictures.count": None,
    "counts.error": False,
    "counts.warning": False,
}


def load_baseline(path: str | os.PathLike[str]) -> dict[str, Any]:
    """An earlier audit.json.

    Raises:
        PolicyError: The file cannot be read, or is none.
    """
    name = os.fspath(path)
    try:
        if Path(path).stat().st_size > _MOST_BYTES:
            raise PolicyError(f"{name}: larger than any audit.json")
        document = json.loads(Path(path).read_text("utf-8-sig"))
    except OSError as err:
        raise PolicyError(f"{name}: cannot read the baseline: {err.strerror or err}") from None
    except (ValueError, RecursionError):
        raise PolicyError(f"{name}: not a JSON file") from None
    known = isinstance(document, dict) and str(document.get("schema", "")).startswith(_NAME)
    if not known or not _whole(document):
        raise PolicyError(f"{name}: no audit.json; give one that onnxviz audit wrote")
    return dict(document)


def _whole(document: Mapping[str, Any]) -> bool:
    """Whether what is read of an earlier audit is there and of the right kind."""
    identity, findings, layers = (document.get(key) for key in ("identity", "findings", "layers"))
    return (
        isinstance(identity, dict)
        and isinstance(identity.get("sha256"), str)
        and isinstance(findings, list)
        and all(isinstance(one, dict) and {"code", "layer", "channel"} <= one.keys() for one in findings)
        and isinstance(layers, list)
        and all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in layers)
    )


def compare(
    document: Mapping[str, Any], earlier: Mapping[str, Any], path: str | os.PathLike[str]
) -> dict[str, Any]:
    """An audit against an earlier one, as the report holds it."""
    now, before = ({_key(one): one for one in each["findings"]} for each in (document, earlier))
    return {
        "path": os.fspath(path),
        "sha256": earlier["identity"]["sha256"],
        "same_model": earlier["identity"]["sha256"] == document["identity"]["sha256"],
        "new": [one for key, one in now.items() if key not in before],
        "gone": [one for key, one in before.items() if key not in now],
        "changes": [*_changes(document, earlier), *_layer_changes(document, earlier)],
    }


def _key(one: Mapping[str, Any]) -> tuple[Any, ...]:
    return one["code"], one["layer"], one["channel"]


def _changes(document: Mapping[str, Any], earlier: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path, more_is_better in _FIGURES.items():
        now, before = (_number(each, path) for each in (document, earlier))
        if now is None and before is None:
            continue
        if (
            now is not None
            and before is not None
            and abs(now - before) <= _LEAST * max(abs(now), abs(before))
        ):
            continue
        yield _change(path, before, now, more_is_better)


def _layer_changes(document: Mapping[str, Any], earlier: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    before = {layer["name"]: layer.get("sqnr_db") for layer in earlier["layers"]}
    for layer in document["layers"]:
        name, now, then = layer["name"], layer["sqnr_db"], before.get(layer["name"])
        if isinstance(now, float) and isinstance(then, int | float) and abs(now - then) > _LEAST_DB:
            yield _change(f"layers[{name}].sqnr_db", then, now, True)


def _change(
    path: str, before: float | None, now: float | None, more_is_better: bool | None
) -> dict[str, Any]:
    worse = None
    if more_is_better is not None:
        worse = now is None if before is not None and now is None else None
        if before is not None and now is not None:
            worse = (now < before) == more_is_better
    return {"path": path, "before": before, "now": now, "worse": worse}


def _number(document: Mapping[str, Any], path: str) -> float | None:
    value: Any = document
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
