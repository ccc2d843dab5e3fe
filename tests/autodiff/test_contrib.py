"""Operators of ONNX Runtime's own: what their rules write them as computes what its kernels compute."""

import numpy as np
import onnx.defs
import pytest
from autodiff.cases import CASES
from autodiff.cases.table import NEVER, feeds_of, model_of
from autodiff.test_rules import OPSETS, assert_close, narrowed, on_runtime

from onnxviz._reference.evaluator import run
from onnxviz.graph.model import load

FOREIGN = [
    key
    for key, case in CASES.items()
    if not onnx.defs.has(*key.split("-")[0].split("::")[::-1]) and case.runs != NEVER
]


@pytest.mark.parametrize("key", FOREIGN)
def test_simpler_operators_compute_what_the_kernel_does(key: str) -> None:
    case = CASES[key]
    feeds = feeds_of(case)
    want = run(load(model_of(case, opset=OPSETS[-1])), feeds)
    assert_close(on_runtime(model_of(case, "float", OPSETS[-1]), narrowed(feeds, "float")), want, 1e-5)


@pytest.mark.parametrize("key", FOREIGN)
def test_shapes_are_inferred(key: str) -> None:
    case = CASES[key]
    model = load(model_of(case))
    (y,) = run(model, feeds_of(case)).values()
    found = model.tensor("y")
    assert found.dtype is not None
    assert found.dtype.numpy() == np.float64
    if "sizes" not in key:  # where the output's width is that of the values, which an attribute tells
        assert found.shape is not None
        assert tuple(found.shape) == y.shape
