"""Mutation tests: does every small mistake in a derivative rule make a test fail?

    python scripts/mutants.py               all of the folder mutants, two at a time
    python scripts/mutants.py pooling.py    those that hold a word, or are in a file
    python scripts/mutants.py --sample 150  so many of them, as the seed has it

Each mutant is a text of the package and what replaces it. In a list, "=== file" names the file, "@@ tests"
the tests that must notice (a capital letter begins an operator, whose cases are run; other words are parts
of the names of tests), lines with "-" are the text and lines with "+" its replacement.

A mutant is planted in a copy of the package, and the tests that cover it are run there. Exits with 1 when one
survives, when its text is no longer there exactly once, when the tests do not even start, or when they fail
without any mutant.
"""

import argparse
import compileall
import contextlib
import importlib
import io
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from py_compile import PycInvalidationMode

ROOT = Path(__file__).resolve().parent.parent
LISTS = ROOT / "scripts" / "mutants"
AT_ONCE = 2
# Not for a mutant: they need more of the project, or run long.
BESIDE = ("tests/graph/nets.py", "tests/graph/test_graph_shapes.py")
ELSEWHERE = ("test_conformance.py", "test_exporters.py", "test_opsets.py", "test_real_graphs.py")
# To the first failure, without what only helps a reader.
UNNEEDED = ("cacheprovider", "faulthandler", "unraisableexception")
QUICKLY = ("-x", "-q", "--assert=plain", *(f"-pno:{plugin}" for plugin in UNNEEDED))
# The slow imports, which each process then starts with.
PRELOADED = ["pytest", "_pytest.unittest", "onnxruntime", "onnx.inliner", "onnx.reference.ops._op_list"]
PRELOADED += ["onnx_ir.passes.common", "numpy.random"]
NOT_STARTED = 99
LIMIT = 300  # seconds; a mutant that hangs is noticed too


@dataclass(frozen=True)
class Mutant:
    """A file of the package, a text in it, what replaces the text, and which tests must notice."""

    file: str
    text: str
    replacement: str
    tests: str

    def __str__(self) -> str:
        """One line."""
        return f"{Path(self.file).name}: {self.text.strip()!r} -> {self.replacement.strip()!r}"


@dataclass(frozen=True)
class Outcome:
    """What became of a run: 0 the tests passed, 1 some failed, -1 the process died; else it did not start."""

    code: int
    seconds: float
    said: str


def read_mutants(listing: str) -> Iterator[Mutant]:
    """Parse a file of mutants."""
    file, tests, text, replacement = "", "", list[str](), list[str]()
    for line in [*listing.splitlines(), "==="]:
        if line.startswith(("===", "@@")) and text:
            yield Mutant(file, "\n".join(text), "\n".join(replacement), tests)
            text, replacement = [], []
        if line.startswith("==="):
            file = f"onnxviz/{line[3:].strip()}"
        elif line.startswith("@@"):
            names = line[2:].split()
            tests = " or ".join(f"[{name}-" if name[0].isupper() else name for name in names)
        elif line.startswith("-"):
            text.append(line[1:])
        elif line.startswith("+"):
            replacement.append(line[1:])


def run(original: Path, mutant: Mutant | None, tests: str) -> Outcome:
    """Run tests in a copy of `original` with the mutant planted, in a process that may crash or hang."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve() / "copy"
        shutil.copytree(original, copy)
        if mutant is not None:
            planted = copy / mutant.file
            source = planted.read_text(encoding="utf-8")
            planted.write_text(source.replace(mutant.text, mutant.replacement), encoding="utf-8")
        receiver, sender = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=run_here, args=(copy, tests, sender))
        process.start()
        sender.close()
        code, said = -1, "the process died"
        with contextlib.suppress(EOFError):
            if receiver.poll(LIMIT):
                code, said = receiver.recv()
        process.kill()
        process.join()
    return Outcome(code, time.monotonic() - started, said)


def run_here(copy: Path, tests: str, answer: Connection) -> None:
    """The child: run pytest in the copy, and nothing of the project from elsewhere."""
    os.chdir(copy)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(copy))
    said, code = io.StringIO(), NOT_STARTED
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            import pytest

            import onnxviz

            if Path(onnxviz.__file__).is_relative_to(copy):
                keep_only(tests)
                chosen = ["-k", tests] if tests else []
                code = int(pytest.main([*QUICKLY, *files_of(tests), *chosen]))
            else:
                print(f"the package under test is {onnxviz.__file__}, not the copy")
        except Exception as err:  # a mutant may break the package in any way
            print(f"{type(err).__name__}: {err}")
    answer.send((code, said.getvalue()))
    os.chdir(ROOT)  # so that the folder can be deleted on every system


def keep_only(tests: str) -> None:
    """Forget the other operators' cases, where all of the tests are cases: collecting them takes a second."""
    names = tests.split(" or ")
    if all(name.startswith("[") for name in names):
        sys.path.insert(0, str(Path("tests").resolve()))
        cases = importlib.import_module("autodiff.cases").CASES
        for key in list(cases):
            if not f"[{key}-".startswith(tuple(names)):
                del cases[key]


def files_of(tests: str) -> list[str]:
    """The files where such tests are: those that read the cases, or that hold a name; else all."""
    found = []
    for file in sorted([*Path("tests", "autodiff").glob("test_*.py"), Path(BESIDE[-1])]):
        text = f"{file.stem} {file.read_text(encoding='utf-8')}"
        names = tests.split(" or ")
        if any(("import CASES" if name.startswith("[") or "::" in name else name) in text for name in names):
            found.append(str(file))
    return found or ["tests/autodiff"]


def copy_project(target: Path) -> None:
    """Copy what the tests need, so that edits made meanwhile change nothing."""
    leave = shutil.ignore_patterns("__pycache__", *ELSEWHERE)
    for folder in (Path("onnxviz"), Path("tests", "autodiff")):
        shutil.copytree(ROOT / folder, target / folder, ignore=leave)
    for file in ("pyproject.toml", *BESIDE):
        (target / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, target / file)
    # Once for all mutants; a file with a planted one no longer has the same hash.
    compileall.compile_dir(target, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)


def misplaced(original: Path, mutants: Sequence[Mutant]) -> Iterator[str]:
    """The mutants whose text is not in its file exactly once."""
    for mutant in mutants:
        count = (original / mutant.file).read_text(encoding="utf-8").count(mutant.text)
        if count != 1:
            yield f"{mutant}: the text is there {count} times"


def check(original: Path, mutants: Sequence[Mutant], unharmed: Sequence[str]) -> int:
    """Run the tests `unharmed` without a mutant, then each with its own; print a table; 1 if any survives."""
    started, failures = time.monotonic(), 0
    in_copy = partial(run, original)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for outcome in pool.map(in_copy, [None] * len(unharmed), unharmed):
            if outcome.code != 0:
                print(outcome.said, "\nthe tests fail without any mutant")
                return 1
        print(f"without a mutant the tests pass, in {time.monotonic() - started:.0f} s", flush=True)
        for mutant, outcome in zip(
            mutants, pool.map(in_copy, mutants, [m.tests for m in mutants]), strict=True
        ):
            verdict = {0: "SURVIVED", 1: "killed", -1: "killed"}.get(outcome.code, "BROKEN")
            print(f"{verdict:8} {outcome.seconds:5.1f} s  {mutant}", flush=True)
            if verdict == "BROKEN":
                print(outcome.said)
            failures += verdict != "killed"
    print(f"{len(mutants) - failures} of {len(mutants)} killed in {time.monotonic() - started:.0f} s")
    return int(failures > 0)


def main() -> int:
    """Read the command line and check the mutants that it names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("words", nargs="*", help="only the mutants that hold one of these")
    parser.add_argument("--sample", type=int, metavar="N", help="so many of them, drawn by chance")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the sample")
    asked = parser.parse_args()
    mutants = [
        m for file in sorted(LISTS.glob("*.txt")) for m in read_mutants(file.read_text(encoding="utf-8"))
    ]
    chosen, unharmed = mutants, ["finite_differences", "not finite_differences"]
    if asked.words:
        chosen = [m for m in mutants if any(word in f"{m} {m.tests}" for word in asked.words)]
        unharmed = sorted({m.tests for m in chosen})
    if asked.sample is not None:
        chosen = random.Random(asked.seed).sample(chosen, min(asked.sample, len(chosen)))
        # Who takes a sample has just run all tests; a few can say whether they pass in a copy too.
        unharmed = sorted({m.tests for m in chosen[:10]})
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder, "original")
        copy_project(original)
        lost = list(misplaced(original, mutants))
        if lost:
            print(*lost, sep="\n")
            return 1
        return check(original, chosen, unharmed)


WARM = "forkserver" in multiprocessing.get_all_start_methods()
CONTEXT = multiprocessing.get_context("forkserver") if WARM else multiprocessing.get_context("spawn")

if __name__ == "__main__":
    if WARM:
        CONTEXT.set_forkserver_preload(PRELOADED)
    sys.exit(main())
