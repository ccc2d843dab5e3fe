"""An audit into a folder: the numbers, what CI systems read, and the page that people read."""

from pathlib import Path
from typing import TYPE_CHECKING

from onnxviz.files import write_atomic
from onnxviz.methods.manifest import json_text

if TYPE_CHECKING:
    from onnxviz.auditing.audit import Audit


def save_audit(found: "Audit", folder: str | Path, overwrite: bool = False) -> Path:
    """Write audit.json."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_atomic(Path(folder) / "audit.json", json_text(found.document).encode())
    return Path(folder)
