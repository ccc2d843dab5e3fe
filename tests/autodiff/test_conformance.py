"""A seeded sample of the standard's conformance suite; `scripts/conformance.py` runs all of it."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from onnxviz._reference.suite import Case, suite
from onnxviz.autodiff.ruleset import GRADIENT, ZERO, Rule

SCRIPT = Path(__file__).parents[2] / "scripts" / "conformance.py"
SAMPLE = 60


@pytest.fixture(scope="module")
def conformance() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["conformance"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {case.name: case for case in suite()}


def test_sample_of_the_conformance_suite(conformance: ModuleType, cases: dict[str, Case]) -> None:
    assert len(cases) > 1800
    verdicts = [conformance.judge(case) for case in conformance.sample(list(cases.values()), SAMPLE, 0)]
    assert [v for v in verdicts if v.kind in conformance.FAILURES] == []
    assert sum(verdict.kind == "float64" for verdict in verdicts) > SAMPLE // 3


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("test_quantizelinear_blocked_symmetric", "straight-through", ""),
        ("test_qlinearmatmul_2D_int8_float32", "straight-through", ""),
        ("test_sequence_map_identity_1_sequence", "float64", ""),
        ("test_optional_get_element_optional_tensor", "float64", ""),
        ("test_and2d", "none", "no input of floats wider than 8 bits"),
        ("test_shape", "none", "no output of floats wider than 8 bits"),
        ("test_round", "none", "Round: step function (d y / d x)"),
        ("test_bernoulli", "none", "Bernoulli: draws at random (d y / d x)"),
    ],
)
def test_verdicts(conformance: ModuleType, cases: dict[str, Case], name: str, kind: str, why: str) -> None:
    verdict = conformance.judge(cases[name])
    assert verdict.kind == kind
    assert why in verdict.why


def answer(monkeypatch: pytest.MonkeyPatch, operator: str, rule: Rule) -> None:
    """Let another rule answer for an operator."""
    monkeypatch.setattr("onnxviz.autodiff.pullback.GRADIENT", GRADIENT.override("gradient", {operator: rule}))


def test_a_wrong_rule_is_noticed(
    conformance: ModuleType, cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "Sin", lambda _op, _node, g: [g])
    verdict = conformance.judge(cases["test_sin"])
    assert verdict.kind == "wrong"
    assert "d y / d x" in verdict.why


def test_a_false_zero_is_noticed(
    conformance: ModuleType, cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "Sin", lambda _op, _node, _g: [ZERO])
    verdict = conformance.judge(cases["test_sin"])
    assert (verdict.kind, verdict.why) == ("wrong", "y is declared constant in x, but 100% of it moved")


def test_a_zero_that_nobody_reviewed_is_noticed(
    conformance: ModuleType, cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "CONSTANT", {})
    verdict = conformance.judge(cases["test_round"])
    assert verdict.kind == "wrong"
    assert "Round: not among the reviewed" in verdict.why


def test_a_missing_rule_is_refused(
    conformance: ModuleType, cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "Sin", lambda _op, _node, _g: [None])
    assert conformance.judge(cases["test_sin"]).kind == "refused"


def test_a_reference_that_differs_is_noticed(conformance: ModuleType, cases: dict[str, Case]) -> None:
    case = cases["test_sin"]
    verdict = conformance.judge(replace(case, expected={"y": case.expected["y"] + np.float32(0.1)}))
    assert (verdict.kind, verdict.why) == ("wrong", "the reference makes another y than the suite expects")
