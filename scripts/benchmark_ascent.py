"""Measure a step of the ascent against forward pass and gradient of the bare model, one process per figure.

    python3 scripts/benchmark_ascent.py                       hvass on the SqueezeNet that comes along
    python3 scripts/benchmark_ascent.py --resnet50 FILE.onnx  and lucid on an export of ResNet-50
    python3 scripts/benchmark_ascent.py ... --write           write docs/benchmarks-maximize.md

Both are timed in turns; the ratio is the median of the ratios of neighbours. Let nothing else run.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks-maximize.md"
SECONDS = 30.0


def measured(model: str, recipe: str) -> dict[str, float]:
    """Milliseconds of a step, of the bare gradient, and their ratio, for one picture."""
    import numpy as np

    from onnxviz import Session, gradient
    from onnxviz.graph.selectors import select
    from onnxviz.methods.ascent.plan import Asked, plan_for
    from onnxviz.methods.ascent.problem import sized
    from onnxviz.methods.ascent.recipe import find_recipe
    from onnxviz.methods.ascent.run import Run

    nothing = dict.fromkeys(("start", "magnitude", "picture", "sampler", "preprocess", "inputs", "size"))
    plan = plan_for(
        model,
        Asked("last-conv", "5", [], [], 1),
        find_recipe(recipe),
        seed=0,
        route="graph",
        report=False,
        device="cpu",
        batch=1,
        output=None,
        labels=None,
        **nothing,
    )
    run = Run(plan, None)
    (batch,) = run._batches
    ascent = run._ascent(batch, 0)
    start = ascent.begin(run._seeds(batch))
    steps = ascent.climb(start, start.theta, run._objectives(batch), batch.seed, 10**9)

    bare = sized(plan.model, plan.where, 1, plan.fixed or plan.size)
    (layer,) = select(bare, "last-conv")
    assert layer.shape is not None
    slopes = gradient(bare, of=layer.tensor, wrt=plan.where.name, keep=[layer.tensor])
    session = Session(slopes, "cpu")
    shape = [int(str(size)) for size in bare.inputs[0].shape or ()]
    rng = np.random.default_rng(0)
    seed = np.zeros([int(str(size)) for size in layer.shape], np.float32)
    seed[:, 5] = 1 / seed[:, 5].size
    feeds = {plan.where.name: rng.normal(0, 1, shape).astype(np.float32), str(slopes.cotangent): seed}
    # The first steps wake dead ReLUs, which is another graph.
    for _ in range(plan.recipe.redirect + 5):
        next(steps)
        session.run(feeds)
    times: tuple[list[float], list[float]] = ([], [])
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        before = time.perf_counter()
        session.run(feeds)
        between = time.perf_counter()
        next(steps)
        times[0].append(between - before)
        times[1].append(time.perf_counter() - between)
    ratios = [step / plain for plain, step in zip(*times, strict=True)]
    return {
        "bare": 1000 * median(times[0]),
        "step": 1000 * median(times[1]),
        "ratio": median(ratios),
        "size": float(plan.size[0]),
    }


def page(resnet50: str | None) -> str:
    """The page with figures measured now."""
    from onnxviz.samples import sample_model

    asked = [("SqueezeNet 1.1", str(sample_model()), "hvass")]
    if resnet50 is not None:
        asked.append(("ResNet-50", resnet50, "lucid"))
    rows = []
    for name, model, recipe in asked:
        done = subprocess.run(
            [sys.executable, __file__, "--measure", model, recipe], check=True, capture_output=True, text=True
        )
        found = json.loads(done.stdout)
        side = f"{found['size']:.0f}"
        rows.append(
            f"| {recipe} on {name}, {side} x {side} | {found['bare']:.1f} ms | {found['step']:.1f} ms "
            f"| {found['ratio']:.2f} |"
        )
    return f"""# Measured: a step of the ascent

Printed by `scripts/benchmark_ascent.py`, {os.cpu_count()} cores ({platform.machine()}), Python \
{platform.python_version()}, CPU; medians of {SECONDS:.0f} seconds each, in turns.

The bare model's forward pass and gradient (one graph, one channel of the last convolution, by the pixels)
against a whole step: what is drawn, the picture from its parameters, the transforms, the same forward pass
and gradient, and the optimiser.

| recipe | forward and gradient | step | ratio |
|---|---|---|---|
{chr(10).join(rows)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--resnet50", metavar="FILE.onnx", help="an export of ResNet-50, such as torchvision's"
    )
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measured(*arguments.measure)))
        return
    text = page(arguments.resnet50)
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
