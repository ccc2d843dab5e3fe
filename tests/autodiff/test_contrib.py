"""Operators of ONNX Runtime's own: what their rules write them as computes what its kernels compute."""

from dataclasses import replace

import numpy as np
import onnx.defs
import onnx.parser
import pytest
from autodiff.cases import CASES
from autodiff.cases.table import NEVER, feeds_of, model_of
from autodiff.test_rules import OPSETS, assert_close, narrowed, on_runtime

from onnxviz._reference.evaluator import run
from onnxviz.autodiff.pullback import gradient
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.model import load

FOREIGN = [
    key
    for key, case in CASES.items()
    if not onnx.defs.has(*key.split("-")[0].split("::")[::-1]) and case.runs != NEVER
]


@pytest.mark.parametrize("key", [*FOREIGN, *(key for key in CASES if key.startswith("ai.onnx.ml::"))])
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
    assert found.shape is not None
    assert tuple(found.shape) == y.shape


def test_what_a_fused_node_computes_is_not_recomputed() -> None:
    """The mask of a Relu fused to a convolution is read from the node's own output."""
    derived = gradient(model_of(CASES["com.microsoft::FusedConv-relu"], "float"), "y", "a")
    found = [node.op_type for node in derived.ir_model.graph]
    assert found.count("FusedConv") == 1
    assert "Relu" not in found


@pytest.mark.parametrize(
    ("key", "old", "new", "what"),
    [
        ("FusedConv-relu", '"Relu"', '"Odd"', "activation 'Odd'"),
        ("GroupQueryAttention-plain", "kv_num_heads=2", "kv_num_heads=2, softcap=2.0", "a soft cap"),
        ("Attention-plain", "num_heads=2", "num_heads=2, do_rotary=1", "rotary places"),
    ],
)
def test_refusal_names_the_node(key: str, old: str, new: str, what: str) -> None:
    case = CASES[f"com.microsoft::{key}"]
    model = model_of(replace(case, body=case.body.replace(old, new)))
    with pytest.raises(
        UnsupportedOperator, match=rf"{key.split('-')[0]} node 'y' with .*{what}.*numerical route"
    ):
        gradient(model, "y", case.inputs.split(" ")[1].rstrip(","))


def test_norms_that_the_optimiser_writes_into_older_opsets_are_raised() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 12]> m (float[N,4] x, float[4] s) => (float[N,4] y) '
        "{ a = LayerNormalization(x, s) b = SimplifiedLayerNormalization(a, s) y = Relu(b) }"
    )
    model = load(proto)
    assert model.opset == 18
    assert [layer.domain for layer in model.ir_model.graph] == [""] * 3
    assert set(model.ir_model.opset_imports) == {""}
    assert gradient(model, "y", "x").outputs[0].shape == ("N", 4)
