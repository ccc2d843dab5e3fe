"""An audit into a folder: the numbers, what CI systems read, and the page that people read."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxviz.auditing.drift import Reasons
from onnxviz.auditing.report.html import html_report
from onnxviz.auditing.report.junit import junit_report
from onnxviz.methods.manifest import json_text
from onnxviz.methods.save import filling
from onnxviz.views.colors import Pixels
from onnxviz.views.files import png_bytes
from onnxviz.views.heatmaps import overlay, resample
from onnxviz.views.layout import panels
from onnxviz.vision.images import seen

if TYPE_CHECKING:
    from onnxviz.auditing.audit import Audit

_SIDE = 260


def save_audit(found: "Audit", folder: str | Path, overwrite: bool = False) -> Path:
    """Write audit.json, junit.xml, report.html, the pictures and manifest.json into a folder.

    Raises:
        OutputError: The folder cannot be written, or holds files and `overwrite` is false.
    """
    drift = found.document["drift"]
    names = [] if drift is None else [one["image"] for one in drift["worst"]]
    drawn = {name: drawing(one) for name, one in zip(names, found.reasons, strict=False)}
    with filling(folder, overwrite) as out:
        for name, image in drawn.items():
            out.picture(Path(name).stem, image)
        out.text("audit.json", json_text(found.document))
        out.text("junit.xml", junit_report(found.document))
        images = {name: png_bytes(image) for name, image in drawn.items()}
        out.text("report.html", html_report(found.document, images))
        identity = found.document["identity"]
        out.manifest(
            {
                "model": {key: identity[key] for key in ("path", "sha256", "opset", "producer")},
                "versions": identity["versions"],
                "device": identity["device"],
                "verdict": found.document["verdict"],
                "seconds": found.document["seconds"],
                "warnings": found.document["warnings"],
            }
        )
    return Path(folder)


def drawing(reasons: Reasons) -> Pixels:
    """A picture as the model sees it, and what spoke for its class in each of the files."""
    known = [heat for heat in (reasons.reference, reasons.audited) if heat is not None]
    height, width = known[0].shape if known else (_SIDE, _SIDE)
    scale = _SIDE / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    picture = seen(reasons.pixels, reasons.box, size)
    maps = [
        picture if heat is None else overlay(picture, np.clip(resample(heat, size), 0, 1))
        for heat in (reasons.reference, reasons.audited)
    ]
    return panels([picture, *maps], ["picture", "reference", "audited"])
