"""Compare input gradients of exported networks with PyTorch's autograd, and print the table.

    python3 scripts/torch_parity.py --cache DIR                     every network, both exporters
    python3 scripts/torch_parity.py --cache DIR swin convnext       those whose name holds one of the words
    python3 scripts/torch_parity.py --cache DIR --resume            keep what passed, try the others again
    python3 scripts/torch_parity.py --cache DIR --table --write     docs/torch-parity.md, measuring nothing

Exports, and PyTorch's answers, are made by `torch_exports.py` (which says what to install) and stay in the
cache: without PyTorch the script measures what is there. Every step runs in a process of its own.

The gradient of <u, output> with respect to the input, u random: `gradient()` of the exported file, run by
ONNX Runtime in float32, against PyTorch's autograd in float64. Errors are largest difference over largest
value. Verdicts:

    ok               within 1e-4
    ok (torch)       not worse than PyTorch's own float32 autograd, whose error is more than 1e-4 itself
    ok (float64)     neither, but the same gradient graph evaluated in float64 is within 1e-4: rounding
    ok (differences) nor that, but in float64 it is the slope of the exported file, by central differences:
                     the exporter rounded folded weights to float32, which alone moves units over kinks
    export failed    the exporter raised an error
    export differs   the exported file does not compute what the network does: its output is off by more
                     than 1e-3, and by more than 10 times PyTorch's float32 error
    FAIL             the gradient is wrong
    refused, error   no gradient, or it does not run
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PAGE = Path(__file__).parents[1] / "docs" / "torch-parity.md"
TOLERANCE = 1e-4
OUTPUT_TOLERANCE = 1e-3
NEAR = 1e-8  # a step so small that hardly a unit of the largest network passes a kink
SECONDS = 600


class Case(NamedTuple):
    """One export of one network."""

    library: str
    family: str
    name: str
    exporter: str

    def exported(self, cache: Path) -> Path:
        """Its ONNX file; in its place a text of this name and `.failed` where there is none."""
        return cache / self.library / self.name / f"{self.exporter}.onnx"

    def truth(self, cache: Path) -> Path:
        """What PyTorch says of its network."""
        dynamic = self.exporter.endswith("-dynamic")
        return self.exported(cache).with_name("truth-dynamic.npz" if dynamic else "truth.npz")


def cases(cache: Path, words: Sequence[str], exporters: Sequence[str]) -> list[Case]:
    """The exports to measure: those whose name holds a word, by one of the exporters; without these, all."""
    listed = _listing(cache)["networks"]
    every = [
        Case(row["library"], row["family"], row["name"], exporter)
        for row in listed
        for exporter in row["exporters"]
    ]
    return [
        case
        for case in every
        if (not words or any(word in "/".join(case) for word in words))
        and (not exporters or case.exporter in exporters)
    ]


def check(case: Case, cache: Path) -> dict[str, Any]:
    """What the exported file's gradient is worth."""
    import onnx

    from onnxviz.autodiff.pullback import gradient
    from onnxviz.errors import OnnxvizError
    from onnxviz.graph.model import load
    from onnxviz.runtime.session import Session
    from onnxviz.testing import check_gradient

    path = case.exported(cache)
    model = load(path)
    known = dict(np.load(case.truth(cache)))
    row: dict[str, Any] = {
        "input": "×".join(map(str, known["x"].shape)),
        "opset": max(entry.version for entry in onnx.load(path).opset_import if not entry.domain),
        "nodes": len(model.ir_model.graph),
        "torch": float(known["single"]),
    }
    of, wrt = model.outputs[0].name, model.inputs[0].name
    started = time.perf_counter()
    try:
        slopes = gradient(model, of, wrt, keep=[of])
    except OnnxvizError as err:
        return row | {"verdict": "refused", "why": str(err), "missing": _missing(model, wrt)}
    row |= {"build": time.perf_counter() - started, "gradient": len(slopes.ir_model.graph)}
    onnx.checker.check_model(slopes.proto(), full_check=True)
    feeds = {wrt: known["x"]}
    if slopes.cotangent is not None:
        feeds[slopes.cotangent] = known["u"]
    found = Session(slopes, "cpu").run(feeds)
    row["output"] = relative(found[of], known["y"])
    row["error"] = relative(found[slopes.gradients[wrt]], known["slope"])
    if row["output"] > max(OUTPUT_TOLERANCE, 10 * float(known["y_single"])):
        return row | {"verdict": "export differs"}
    if row["error"] <= TOLERANCE:
        return row | {"verdict": "ok"}
    if row["error"] <= row["torch"]:
        return row | {"verdict": "ok (torch)"}
    row["double"] = _in_double(model, of, wrt, known)
    if row["double"] <= TOLERANCE:
        return row | {"verdict": "ok (float64)"}
    row["differences"] = check_gradient(
        model, of, wrt, inputs={wrt: known["x"]}, step=NEAR, tolerance=float("inf")
    )
    return row | {"verdict": "ok (differences)" if row["differences"] <= TOLERANCE else "FAIL"}


def _missing(model: Any, wrt: str) -> list[str]:
    """The operators without a rule on the way from a tensor."""
    from onnxviz.autodiff.ruleset import GRADIENT, operator_key
    from onnxviz.errors import UnsupportedOperator
    from onnxviz.graph.flow import dependents, reads

    graph, missing = model.ir_model.graph, set()
    reached = dependents(graph, [model.tensor(wrt)])
    for node in graph:
        if any(value in reached for value in reads(node)):
            try:
                GRADIENT.find(node)
            except UnsupportedOperator:
                missing.add(operator_key(node))
    return sorted(missing)


def relative(found: Any, true: Any) -> float:
    """The largest difference over the largest value; infinite where the shapes or a NaN say so."""
    if found.shape != true.shape:
        return float("inf")
    error = float(np.abs(found.astype(np.float64) - true).max() / np.abs(true).max())
    return error if error == error else float("inf")


def _in_double(model: Any, of: str, wrt: str, known: dict[str, Any]) -> float:
    from onnxviz._reference.evaluator import in_double, run
    from onnxviz.autodiff.pullback import gradient

    slopes = gradient(in_double(model), of, wrt)
    feeds = {wrt: known["x"].astype(np.float64)}
    if slopes.cotangent is not None:
        feeds[slopes.cotangent] = known["u"].astype(np.float64)
    return relative(run(slopes, feeds)[slopes.gradients[wrt]], known["slope"])


def measure(case: Case, cache: Path) -> dict[str, Any]:
    """Export where that was not done, then check, each in a process of its own."""
    exported, failed = case.exported(cache), case.exported(cache).with_suffix(".failed")
    if not failed.exists() and not (exported.exists() and case.truth(cache).exists()):
        script = str(Path(__file__).with_name("torch_exports.py"))
        said = _process(script, str(cache), case.exporter, f"{case.library}/{case.name}")
        if not exported.exists() and not failed.exists():
            failed.parent.mkdir(parents=True, exist_ok=True)
            failed.write_text(said, encoding="utf-8")
    if failed.exists():
        return {"verdict": "export failed", "why": failed.read_text(encoding="utf-8").partition("\n\n")[0]}
    said = _process(__file__, "--cache", str(cache), "--check", *case)
    try:
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        return {"verdict": "error", "why": said.strip()[-2000:]}
    return found


def _process(*arguments: str) -> str:
    """What a process says, or the end of its complaint."""
    try:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer in {SECONDS} seconds"
    return done.stdout if done.returncode == 0 else f"{done.stderr[-2000:]}\nexit code {done.returncode}"


def page(rows: Iterable[dict[str, Any]], versions: dict[str, str]) -> str:
    """The table in Markdown."""
    rows = sorted(rows, key=lambda row: (row["library"] != "torchvision", row["family"], row["name"]))
    counted = Counter(row["verdict"] for row in rows)
    networks, families = ({(row["library"], row[key]) for row in rows} for key in ("name", "family"))
    reasons = "".join(
        f"- {row['name']} ({row['exporter']}), {row['verdict']}: {_brief(row['why'])}\n"
        for row in rows
        if row.get("why")
    )
    return f"""# Parity with PyTorch's autograd

Printed by `scripts/torch_parity.py --write` with {", ".join(f"{k} {v}" for k, v in versions.items())}.
Gradients of exported networks with respect to their input, in float32 on ONNX Runtime, against PyTorch's in
float64; beside them the error of PyTorch's own in float32. Random weights that exercise every branch. Errors
are largest difference over largest value; at most 1e-4 is `ok`. Nodes are those of the file, and after
gradient and output were written into one graph.

In networks with ReLU or max pooling a unit within rounding of its kink falls on either side by chance, in
PyTorch as here, and moves the gradient by far more than rounding. Where that happened, the same gradient
graph evaluated in float64 decides; and where weights that the exporter folded, and rounded, move units too,
central differences of the exported file in float64.

{len(networks)} networks of {len(families)} families, {len(rows)} exports: \
{", ".join(f"{count} {verdict}" for verdict, count in counted.most_common())}.

| library | family | model | input | exporter | opset | nodes | after | error | torch | float64 | verdict |
|---|---|---|---|---|---|---|---|---|---|---|---|
{"".join(map(_line, rows))}
{reasons}"""


def _line(row: dict[str, Any]) -> str:
    def number(key: str) -> str:
        return f"{row[key]:.1e}" if key in row else ""

    cells = [row["library"], row["family"], row["name"], row.get("input", ""), row["exporter"]]
    cells += [row.get("opset", ""), row.get("nodes", ""), row.get("gradient", "")]
    cells += [number("error"), number("torch"), number("double"), row["verdict"]]
    return f"| {' | '.join(map(str, cells))} |\n"


def _brief(why: str) -> str:
    line = next((line for line in why.splitlines() if line.strip()), "")
    return line if len(line) <= 200 else f"{line[:200]}..."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("words", nargs="*", help="only exports whose library/family/name/exporter holds one")
    parser.add_argument("--cache", type=Path, required=True, help="folder of exports and rows")
    parser.add_argument("--exporter", action="append", default=[], help="only this one (repeatable)")
    parser.add_argument("--list", action="store_true", help="list the exports")
    parser.add_argument("--resume", action="store_true", help="keep rows that passed")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cache: Path = arguments.cache
    if arguments.check:
        print(json.dumps(check(Case(*arguments.words), cache)))
        return 0
    if not (cache / "networks.json").exists():
        script = str(Path(__file__).with_name("torch_exports.py"))
        subprocess.run([sys.executable, script, str(cache), "--list"], check=True)
    chosen = cases(cache, arguments.words, arguments.exporter)
    if arguments.list:
        print("\n".join("/".join(case) for case in chosen))
        return 0
    journal = cache / "rows.jsonl"
    rows = dict(_read(journal))
    os.environ["OMP_NUM_THREADS"] = "1"
    for case in [] if arguments.table else chosen:
        settled = ("ok", "export failed")
        if arguments.resume and rows.get(case, {}).get("verdict", "").startswith(settled):
            continue
        row = rows[case] = case._asdict() | measure(case, cache)
        with journal.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(row)}\n")
        print(_line(row), end="" if not row.get("why") else f"    {_brief(row['why'])}\n", flush=True)
    kept = [rows[case] for case in chosen if case in rows]
    text = page(kept, _listing(cache)["versions"])
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")
    print(text, end="")
    return 0 if all(row["verdict"].startswith(("ok", "export")) for row in kept) else 1


def _listing(cache: Path) -> dict[str, Any]:
    listing: dict[str, Any] = json.loads((cache / "networks.json").read_text(encoding="utf-8"))
    return listing


def _read(journal: Path) -> Iterable[tuple[Case, dict[str, Any]]]:
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    for row in map(json.loads, lines):
        yield Case(*(row[field] for field in Case._fields)), row


if __name__ == "__main__":
    sys.exit(main())
