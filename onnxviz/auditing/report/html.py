"""The report as one page that needs nothing else: no network, no script from elsewhere, pictures inside."""

import base64
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from onnxviz.graph.model import format_shape

_FLAGGED = ("dead", "constant", "duplicate", "saturated", "nan", "infinite", "denormal")
_PARTS = {
    "preprocessing": "preprocessing",
    "health": "channels",
    "agreement": "agreement with a reference",
    "layers": "layers against a reference",
    "drift": "drift of explanations",
    "faithfulness": "faithfulness",
    "sanity": "sanity",
}
_KIND = {"pass": "Ship it", "warn": "Look first", "fail": "Do not ship"}


def html_report(document: Mapping[str, Any], images: Mapping[str, bytes]) -> str:
    """The page of an audit.

    Args:
        document: What audit.json holds.
        images: PNG pictures by the names that the document gives them.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = {
        "num": number,
        "share": share,
        "db": decibels,
        "sortable": sortable,
        "shape": shape,
        "counted": counted,
    }
    environment.filters |= filters
    template = environment.from_string(_read("page.html.j2"))
    return template.render(
        doc=document,
        advice=_KIND[document["verdict"]],
        key=key_figures(document),
        unmeasured=[name for part, name in _PARTS.items() if not document[part]],
        rows=layer_rows(document),
        details=_script(details(document)),
        images={name: base64.b64encode(data).decode() for name, data in images.items()},
        style=_read("page.css"),
        script=_read("page.js"),
    )


def key_figures(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What tells most: a name, a figure, and a remark each."""
    agreement, drift, counts = document["agreement"], document["drift"], document["counts"]
    found: list[tuple[str, str, str]] = []
    if agreement is not None and agreement["top1"] is not None:
        noise = agreement["noise"]["top1"]
        found.append(("Same class", share(agreement["top1"]), f"noise floor {share(noise)}"))
        found.append(("KL divergence", number(agreement["kl"]), "nats, mean"))
    elif agreement is not None:
        found.append(("Answers differ by", share(agreement["relative_l2"]), "of the reference's norm"))
    if agreement is not None and agreement["accuracy"] is not None:
        found.append(
            ("Accuracy", share(agreement["accuracy"]), f"reference {share(agreement['reference_accuracy'])}")
        )
    if document["layers"]:
        levels = [layer["sqnr_db"] for layer in document["layers"] if layer["sqnr_db"] is not None]
        worst = document["lowest"][0] if document["lowest"] else "no layer differs"
        if document["first_break"] is not None:
            worst = f"it breaks at {document['first_break']}"
        found.append(("Lowest SQNR", decibels(min(levels, default=None)), str(worst)))
    if drift is not None:
        found.append(("Explanations", number(drift["spearman"]["median"]), "rank correlation, median"))
    found.append(("Errors", str(counts["error"]), counted(counts["warning"], "warning")))
    return found


def layer_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each layer that was matched, else for each whose channels are known."""
    health = {} if document["health"] is None else {one["name"]: one for one in document["health"]["layers"]}
    matched = {layer["name"]: layer for layer in document["layers"]}
    names = list(dict.fromkeys([*health, *matched]))
    return [
        {
            "name": name,
            "layer": matched.get(name),
            "op": (matched.get(name) or health.get(name) or {}).get("op"),
            "bad": _flagged(health[name]) if name in health else None,
            "channels": health[name]["channels"] if name in health else None,
            "bar": _bar(matched[name]["sqnr_db"]) if name in matched else None,
        }
        for name in names
    ]


def _flagged(layer: Mapping[str, Any]) -> int:
    """Channels with any flag; where they are not told one by one, at least as many as have the commonest."""
    if layer["by_channel"]:
        return sum(bool(channel["flags"]) for channel in layer["by_channel"])
    return max(int(layer[flag]) for flag in _FLAGGED)


def details(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a layer opens to, by its place among the rows; short keys, as there may be a million channels."""
    health = {} if document["health"] is None else {one["name"]: one for one in document["health"]["layers"]}
    matched = {layer["name"]: layer for layer in document["layers"]}
    found = {}
    for place, row in enumerate(layer_rows(document)):
        one, layer = health.get(row["name"]), matched.get(row["name"])
        found[str(place)] = {
            "facts": _facts(one, layer),
            "worst": []
            if layer is None
            else [[w["channel"], w["sqnr_db"], w["relative_l2"]] for w in layer["worst_channels"]],
            "channels": []
            if one is None
            else [
                [c["channel"], c["low"], c["high"], c["mean"], " ".join(c["flags"])]
                for c in one["by_channel"]
            ],
        }
    return found


def _facts(health: Mapping[str, Any] | None, layer: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    if layer is not None:
        told += [
            (
                "Reference",
                f"{layer['reference']} ({layer['reference_op']}), matched by {layer['matched_by']}",
            ),
            ("Match", number(layer["match"])),
            ("Gain alone", number(layer["gain"])),
            ("Cosine", number(layer["cosine"], 6)),
        ]
    if health is not None:
        told.append(("Activations", f"{number(health['low'])} to {number(health['high'])}"))
        if health["range"] is not None:
            span = health["range"]
            told.append(
                (
                    "Quantiser",
                    f"{number(span['low'])} to {number(span['high'])}; {share(span['used'])} used, "
                    f"{share(span['clipped'])} cut off",
                )
            )
        weights = health["weights"]
        if weights is not None:
            told.append(
                (
                    "Weights",
                    f"{weights['count']:,}: {number(weights['lowest'])} to {number(weights['highest'])}, "
                    f"{share(weights['zero'])} zero, {weights['nan']} NaN, {weights['outliers']} outliers",
                )
            )
        if health["inherited"]:
            told.append(("As the reference", ", ".join(health["inherited"][:8])))
    return told


def number(value: Any, digits: int = 3) -> str:
    """A number as people read it; a dash for none."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(value)
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"


def share(value: Any) -> str:
    """A share in percent; a dash for none."""
    if value is None:
        return "–"
    percent = 100 * value
    return (
        f"{percent:.0f}%"
        if percent in (0, 100)
        else f"{percent:.1f}%"
        if percent >= 0.1
        else f"{percent:.2g}%"
    )


def decibels(value: Any) -> str:
    """A level; a dash for none, and a word where nothing differs."""
    if value is None:
        return "–"
    return "equal" if value >= 200 else f"{value:.1f} dB"


def counted(count: int, noun: str) -> str:
    """How many of a thing there are."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shape(value: Any) -> str:
    """A shape as people write it."""
    return format_shape(None if value is None else tuple(value))


def sortable(value: Any) -> str:
    """What a table is sorted by: a number, or nothing, which comes last."""
    return "" if value is None else repr(float(value)) if isinstance(value, int | float) else str(value)


def _bar(level: float | None) -> int:
    """How much of a bar a level fills, in percent: all from 60 dB on."""
    return 0 if level is None or math.isnan(level) else round(100 * max(0.0, min(1.0, level / 60)))


def _script(data: Any) -> str:
    """Data inside a script element, which no text of an untrusted file can leave."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read(name: str) -> str:
    return files("onnxviz.auditing.report").joinpath(name).read_text("utf-8")
