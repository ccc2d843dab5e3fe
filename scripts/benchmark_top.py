"""Measure `top`: throughput beside a bare loop, memory, Ray's answer, and the answer after a kill.

    python3 scripts/benchmark_top.py                    print the table
    python3 scripts/benchmark_top.py --pictures 500     on fewer pictures

The pictures are made from the photograph that comes along: crops of it under noise and shapes, JPEG of 128 to
256 pixels, seeded. The model is the one that comes along, or any other (--model, --layer). Each figure is
taken in a process of its own. Run it with nothing else running. Without Ray its line says so.
"""

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

LAYERS = ("fire2_concat", "fire5_concat", "conv10")
BATCH = 16
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks-top.md"


def make_pictures(folder: Path, count: int) -> None:
    """Write `count` JPEGs: crops of the sample photograph with noise and shapes of seeded size and colour."""
    from PIL import Image, ImageDraw

    from onnxviz.samples import sample_picture

    photo = Image.open(sample_picture()).convert("RGB")
    chance = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        side = int(chance.integers(128, 257))
        part = float(chance.uniform(0.3, 1)) * min(photo.size)
        left, top = (float(chance.uniform(0, whole - part)) for whole in photo.size)
        crop = photo.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + part, top + part))
        noisy = np.asarray(crop) + chance.normal(0, 12, (side, side, 3))
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        pen = ImageDraw.Draw(image)
        for _ in range(int(chance.integers(0, 4))):
            x, y, w, h = (float(chance.uniform(0, side / 2)) for _ in range(4))
            color = tuple(int(c) for c in chance.integers(0, 256, 3))
            (pen.ellipse if chance.random() < 0.5 else pen.rectangle)((x, y, x + w, y + h), fill=color)
        image.save(folder / f"{number:05d}.jpg", quality=85)


def bare(model: str, folder: str, _layer: str) -> dict[str, Any]:
    """The loop that anyone would write: Pillow, the same preprocessing, the whole model, in batches."""
    import onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name, size = session.get_inputs()[0].name, session.get_inputs()[0].shape[2:]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    files = sorted(Path(folder).iterdir())
    started = time.perf_counter()
    for start in range(0, len(files), BATCH):
        ready = []
        for file in files[start : start + BATCH]:
            pixels = Image.open(file).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
            ready.append(((np.asarray(pixels) / 255 - mean) / std).astype(np.float32).transpose(2, 0, 1))
        session.run(None, {name: np.stack(ready)})
    return {"rate": len(files) / (time.perf_counter() - started)}


def ours(model: str, folder: str, layer: str, engine: Any = "local") -> dict[str, Any]:
    """The search, all channels; its rate without making the model ready, and a digest of the answer."""
    import onnxviz

    found = onnxviz.top_images(
        model, folder, layer, "all", preprocess="imagenet", device="cpu", engine=engine, batch=BATCH
    )  # fmt: skip
    return {"rate": found.statistics.pictures / found.manifest["seconds"]["run"], "answer": digest(found)}


def ray(model: str, folder: str, layer: str) -> dict[str, Any]:
    """The same on a Ray cluster of this machine."""
    return ours(model, folder, layer, "ray")


def digest(found: Any) -> str:
    """A digest of all that was found."""
    import hashlib

    spread = found.statistics
    parts = [found.channels, found.values, found.numbers, found.positions, found.boxes]
    parts += [spread.mean, spread.least, spread.greatest, spread.quantiles, spread.zeros, spread.dead]
    parts += [spread.histogram, np.array(found.paths)]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def peak() -> int:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {"bare": bare, "ours": ours, "ray": ray}


def measure(name: str, *arguments: str) -> dict[str, Any]:
    """One of `MEASURES` in a process of its own."""
    command = [sys.executable, __file__, "--measure", name, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def killed_and_resumed(model: str, folder: str, layer: str, scratch: Path) -> tuple[int, bool]:
    """Kill a search half-way, run it again: the pictures that were kept, and whether all is the same."""

    def command(out: Path) -> list[str]:
        options = ["--layer", layer, "--channels", "all", "--no-projections", "--preprocess", "imagenet"]
        asked = ["top", model, folder, *options, "--device", "cpu", "--out", str(out)]
        return [sys.executable, "-m", "onnxviz", *asked]

    whole, cut = scratch / "whole", scratch / "cut"
    started = time.perf_counter()
    subprocess.run(command(whole), check=True, capture_output=True)
    took = time.perf_counter() - started
    running = subprocess.Popen(command(cut), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(took / 2)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    subprocess.run(command(cut), check=True, capture_output=True)
    kept = json.loads((cut / "manifest.json").read_text())["resumed_after"]
    same = all(
        (whole / name).read_bytes() == (cut / name).read_bytes()
        for name in ("top.json", "statistics.json", "top.npz")
    )
    return kept, same


def main() -> None:
    from onnxviz.samples import sample_model

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--model", default=str(sample_model()))
    parser.add_argument("--layer", action="append")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks-top.md")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        name, *arguments = given.measure
        print(json.dumps({**MEASURES[name](*arguments), "peak": peak()}))
        return
    lines = []
    for line in figures(given.model, given.layer or LAYERS, given.pictures):
        print(line, flush=True)
        lines.append(line)
    if given.write:
        PAGE.write_text(page(lines), encoding="utf-8")


def figures(model: str, layers: Sequence[str], count: int) -> Iterator[str]:
    """Take every figure, and tell each in a line."""
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        many, few = scratch / "many", scratch / "few"
        make_pictures(many, count)
        make_pictures(few, max(1, count // 5))
        yield f"{count} pictures, {os.cpu_count()} CPUs"
        for layer in layers:
            # In turns, so that what else the machine does falls on both.
            turns = [measure(name, model, str(many), layer) for name in ("bare", "ours") * 2]
            loop, top = (max(each["rate"] for each in turns[first::2]) for first in (0, 1))
            yield f"{layer}: {top:.0f} pictures/s, the bare loop {loop:.0f}: {top / loop:.2f} of it"
        small, large = (measure("ours", model, str(folder), layers[-1]) for folder in (few, many))
        yield (
            f"peak memory: {small['peak']} MB for {max(1, count // 5)} pictures, "
            f"{large['peak']} MB for {count}"
        )
        kept, same = killed_and_resumed(model, str(many), layers[-1], scratch)
        yield f"killed, and resumed after {kept} pictures: {'the same answer' if same else 'ANOTHER ANSWER'}"
        if find_spec("ray") is None:
            yield "Ray is not installed: not compared"
        else:
            answer = measure("ray", model, str(many), layers[-1])["answer"]
            yield f"Ray: {'the same answer' if answer == large['answer'] else 'ANOTHER ANSWER'}"


def page(lines: Sequence[str]) -> str:
    """The page that holds the figures."""
    return f"""# Measured: top

Printed by `scripts/benchmark_top.py`, Python {platform.python_version()} ({platform.machine()}), CPU. All
channels of a layer of SqueezeNet 1.1 and their statistics, against the loop that anyone would write: Pillow,
the same preprocessing, the whole model, batches of {BATCH}. Answers are compared to the last bit.

{chr(10).join(f"- {line}" for line in lines)}
"""


if __name__ == "__main__":
    main()
