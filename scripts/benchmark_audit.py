"""Measure `audit`: its time beside that of its own forward passes, and its memory.

    python3 scripts/benchmark_audit.py                    print the page
    python3 scripts/benchmark_audit.py --pictures 300     on fewer pictures
    python3 scripts/benchmark_audit.py --model FILE       another model against itself, one round

The model that comes along is audited against itself in float32, and quantised by ONNX Runtime's own tool
(QDQ, per channel, calibrated on 32 of the pictures) against the float file; without explanations. A pass is
one picture through one file. What a pass costs is measured with plain onnxruntime on the same pictures in
batches of the same size, and what reading a picture costs with Pillow and numpy in a plain loop. Each figure
is taken in a process of its own; the runtimes take turns. Run it with nothing else running.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_top import make_pictures, peak

BATCH = 4
FEED = {"color": "BGR", "mean": [103.939, 116.779, 123.68]}


def arrays(folder: Path, count: int, size: tuple[int, int] = (227, 227)) -> Iterator[np.ndarray[Any, Any]]:
    """The first pictures of a folder as the model takes them."""
    from PIL import Image

    for file in sorted(folder.iterdir())[:count]:
        pixels = Image.open(file).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
        ready = np.asarray(pixels, np.float32)[..., ::-1] - np.array(FEED["mean"], np.float32)
        yield ready.transpose(2, 0, 1)[None]


def quantise(model: Path, folder: Path, out: Path) -> None:
    """The model as int8, QDQ, per channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = arrays(folder, 32)

        def get_next(self) -> dict[str, Any] | None:
            array = next(self.left, None)
            return None if array is None else {"input": array}

    quantize_static(
        str(model),
        str(out),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


def bare(model: str, folder: str) -> dict[str, Any]:
    """Seconds that a picture takes in plain onnxruntime, in batches, and that reading it takes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    started = time.perf_counter()
    name, size = session.get_inputs()[0].name, session.get_inputs()[0].shape[2:]
    ready = list(arrays(Path(folder), 100, tuple(size)))
    reading = (time.perf_counter() - started) / len(ready)
    batch = np.concatenate(ready[:BATCH])
    session.run(None, {name: batch})
    rounds = 40
    started = time.perf_counter()
    for _ in range(rounds):
        session.run(None, {name: batch})
    return {"pass": (time.perf_counter() - started) / (rounds * BATCH), "reading": reading}


def ours(model: str, reference: str, folder: str) -> dict[str, Any]:
    """An audit: its time, passes and memory."""
    import onnxviz

    started = time.perf_counter()
    found = onnxviz.audit(
        model, folder, reference, preprocess=FEED, device="cpu", batch=BATCH, explain=0
    )  # fmt: skip
    return {
        "seconds": time.perf_counter() - started,
        "parts": found["seconds"],
        "passes": found["passes"],
        "pictures": found["pictures"]["count"],
        "top1": found["agreement"]["top1"],
        "lowest": found["lowest"][:3],
        "peak": peak(),
    }


def measure(name: str, *arguments: str) -> dict[str, Any]:
    """A measure in a process of its own."""
    command = [sys.executable, __file__, "--measure", name, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(audited: str, reference: str, folder: Path, count: int = 3) -> dict[str, Any]:
    """An audit beside its own passes, and beside a loop that reads the pictures too; the middle of some."""
    rounds = []
    for _ in range(count):
        before = [measure("bare", file, str(folder)) for file in (audited, reference)]
        found = measure("ours", audited, reference, str(folder))
        after = [measure("bare", file, str(folder)) for file in (audited, reference)]
        own, other = ((a["pass"] + b["pass"]) / 2 for a, b in zip(before, after, strict=True))
        reading = float(np.mean([each["reading"] for each in (*before, *after)]))
        passes = found["passes"]
        forward = passes["audited"]["total"] * own + passes["reference"]["total"] * other
        rounds.append({**found, "own": own, "other": other, "reading": reading, "forward": forward})
    return sorted(rounds, key=lambda each: float(each["seconds"] / each["forward"]))[count // 2]


def told(title: str, found: dict[str, Any]) -> Iterator[str]:
    """A comparison, line by line."""
    forward, seconds, count = found["forward"], found["seconds"], found["pictures"]
    whole = forward + count * found["reading"]
    yield f"## {title}"
    yield ""
    yield f"- {seconds:.1f} s. A plain loop that reads the pictures and makes the same passes:"
    yield f"  {whole:.1f} s, so {seconds / whole:.2f} of it; the passes alone: {forward:.1f} s,"
    yield f"  {seconds / forward:.2f} of them"
    yield f"- a pass: {1e3 * found['own']:.2f} ms audited, {1e3 * found['other']:.2f} ms reference; reading:"
    yield f"  {1e3 * found['reading']:.2f} ms"
    for who in ("audited", "reference"):
        passes = dict(found["passes"][who])
        total = passes.pop("total")
        yield f"- passes through the {who} file: {total / count:.2f} a picture"
        yield f"  ({', '.join(f'{why} {n}' for why, n in passes.items())})"
    yield f"- seconds: {', '.join(f'{part} {taken}' for part, taken in found['parts'].items())}"
    lowest = ", ".join(found["lowest"]) or "none differs"
    yield f"- top-1 agreement {found['top1']:.3f}; lowest SQNR: {lowest}"
    yield ""


def lines(count: int) -> Iterator[str]:
    """The page, line by line."""
    from onnxviz.samples import sample_model

    yield "# Measured: audit"
    yield ""
    machine = f"Python {platform.python_version()} ({platform.machine()}), {os.cpu_count()} CPUs"
    yield f"Printed by `scripts/benchmark_audit.py`, {machine}, {count}"
    yield "pictures, without explanations; SqueezeNet 1.1. A pass is one picture through one file; what it"
    yield "costs, and what reading a picture costs, is measured with plain onnxruntime and Pillow, before and"
    yield "after each audit. Of three rounds the middle one is told."
    yield ""
    with tempfile.TemporaryDirectory() as scratch:
        folder, few, int8 = Path(scratch, "all"), Path(scratch, "few"), Path(scratch, "int8.onnx")
        make_pictures(folder, count)
        few.mkdir()
        for file in sorted(folder.iterdir())[: max(1, count // 5)]:
            (few / file.name).symlink_to(file)
        model = str(sample_model())
        quantise(Path(model), folder, int8)
        yield from told("float32 against float32", compared(model, model, folder))
        found = compared(str(int8), model, folder)
        yield from told("int8 (QDQ) against float32", found)
        small = measure("ours", str(int8), model, str(few))
        yield f"Peak memory: {small['peak']} MB for {small['pictures']} pictures, {found['peak']} MB for"
        yield f"{found['pictures']}."


def other(model: str, count: int) -> Iterator[str]:
    """Another model against itself, line by line."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "all")
        make_pictures(folder, count)
        yield from told(f"{Path(model).stem}, float32 against float32", compared(model, model, folder, 1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--model", help="NCHW pictures of a fixed size")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        name, *arguments = given.measure
        print(json.dumps({"bare": bare, "ours": ours}[name](*arguments)))  # type: ignore[operator]
        return
    for line in lines(given.pictures) if given.model is None else other(given.model, given.pictures):
        print(line, flush=True)


if __name__ == "__main__":
    main()
