"""Draw docs/images/audit.png: the page of an audit that found a fault, as Chromium shows it.

    python3 scripts/audit_page.py [--chromium PATH]

The model that comes along is quantised by ONNX Runtime's own tool, one of its scales is made ten times too
small, and the file is audited against the float one on crops of the photograph that comes along.
"""

import argparse
import base64
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from benchmark_audit import quantise
from benchmark_top import make_pictures
from onnx import numpy_helper

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "audit.png"
SCALE = "fire6_expand3x3_relu_scale"


def broken(path: Path) -> None:
    """Make one activation's scale ten times too small, in place."""
    model = onnx.load(path)
    [scale] = [each for each in model.graph.initializer if each.name == SCALE]
    wrong = numpy_helper.to_array(scale) / np.float32(10)
    scale.CopyFrom(numpy_helper.from_array(wrong, SCALE))
    onnx.save(model, path)


def main() -> None:
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=how)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from browser.chromium import chromium  # type: ignore[import-not-found]

    from onnxviz.auditing.audit import run_audit
    from onnxviz.auditing.options import Options
    from onnxviz.samples import sample_model

    with tempfile.TemporaryDirectory() as scratch:
        folder, int8 = Path(scratch, "pictures"), Path(scratch, "squeezenet-int8.onnx")
        make_pictures(folder, 120)
        quantise(sample_model(), folder, int8)
        broken(int8)
        found = run_audit(
            int8,
            folder,
            sample_model(),
            Options(
                labels=ROOT / "models" / "imagenet-labels.json",
                fail_on=["agreement.top1<0.98"],
                device="cpu",
            ),
        )
        # Where this machine keeps its files is of no interest.
        for entry in (found.document["identity"], found.document["reference"]):
            entry["path"] = Path(entry["path"]).name
        out = found.save(Path(scratch, "out"))
        address = (out / "report.html").absolute().as_uri()
        with chromium(given.chromium, Path(scratch, "profile"), address) as page:
            PICTURE.write_bytes(base64.b64decode(page.screenshot(1100, 1180)))


if __name__ == "__main__":
    main()
