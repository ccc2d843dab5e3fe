"""A seeded sample of the standard's conformance suite; `scripts/conformance.py` runs all of it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

SCRIPT = Path(__file__).parents[2] / "scripts" / "conformance.py"
SAMPLE = 150


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["conformance"] = module
    spec.loader.exec_module(module)
    return module


def test_sample_of_the_conformance_suite() -> None:
    conformance = script()
    cases = conformance.suite()
    assert len(cases) > 1800
    chosen = np.random.default_rng(0).permutation(len(cases))[:SAMPLE]
    verdicts = [conformance.judge(cases[place]) for place in chosen]
    assert [v for v in verdicts if v.kind in conformance.FAILURES] == []
    assert sum(verdict.kind == "float64" for verdict in verdicts) > SAMPLE // 3
