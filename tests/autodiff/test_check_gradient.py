"""The checker itself: it must pass what is right, and fail what is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from onnxviz.autodiff.ruleset import GRADIENT, Answer, Rule, gradient_of
from onnxviz.errors import SelectorError, ShapeError, UnsupportedOperator
from onnxviz.graph.ops import Ops
from onnxviz.testing import check_gradient


def model(inputs: str, body: str, opset: int = 21) -> onnx.ModelProto:
    head = f'<ir_version: 10, opset_import: ["": {opset}, "my.domain": 1]>'
    return onnx.parser.parse_model(f"{head} m ({inputs}) => (float[] y) {{ {body} }}")


NET = model(
    "float[2,3,6,6] x",
    "w = Constant<value=float[1]{0.5}>() h = Mul(x, w) r = Tanh(h) p = GlobalAveragePool(r) y = Exp(p)",
)


def scaled(change: float) -> Rule:
    def rule(op: Ops, node: ir.Node, g: ir.Value) -> list[Answer]:
        return [op.Mul(gradient_of(op, node, g)[0], change)]

    return rule


def test_right_gradient_passes_with_its_error() -> None:
    assert check_gradient(NET, "y", "x") < 1e-8


def test_floats_are_doubled() -> None:
    """In float32 such small steps would leave no digit."""
    net = model(
        "float[2,3] x",
        "c = Constant<value_float=0.3>() d = Constant<value_floats=[1.0,2.0,3.0]>() h = Cast<to=1>(x) "
        "i = Mul(h, c) j = Add(i, d) s = Shape(x) k = ConstantOfShape<value=float[1]{2}>(s) "
        "l = Mul(j, k) y = Exp(l)",
    )
    assert 0 < check_gradient(net, "y", "x", step=1e-6) < 1e-7


def test_what_an_attribute_says_of_the_inner_floats_is_doubled() -> None:
    weights = "w = Constant<value=float[3]{1.5,-0.5,2.0}>()"
    net = model("float[2,3] x", f"{weights} y = LayerNormalization<stash_type=1>(x, w)")
    assert check_gradient(net, "y", "x") < 1e-8


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_floats_are_doubled(dtype: str) -> None:
    net = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 18]> m ({dtype}[2,3] x) => ({dtype}[2,3] y) {{ y = Tanh(x) }}'
    )
    assert check_gradient(net, "y", "x") < 1e-8


@pytest.mark.parametrize("change", [-1, 0, 1.0001, 2, float("nan")])
def test_wrong_rule_fails(change: float) -> None:
    wrong = GRADIENT.override("wrong", {"Tanh": scaled(change)})
    with pytest.raises(AssertionError, match="gradient of 'y' with respect to 'x' is wrong"):
        check_gradient(NET, "y", "x", rules=wrong)


def test_message_says_both_numbers() -> None:
    wrong = GRADIENT.override("wrong", {"Tanh": scaled(3)})
    with pytest.raises(AssertionError) as caught:
        check_gradient(NET, "y", "x", rules=wrong)
    found = re.search(r"the graph says (\S+), finite differences say (\S+) \(", str(caught.value))
    assert found is not None
    assert float(found[1]) == pytest.approx(3 * float(found[2]))


def test_gradient_of_another_shape_fails() -> None:
    def transposed(op: Ops, _node: ir.Node, g: ir.Value) -> list[Answer]:
        return [op.Transpose(g, perm=[1, 0])]

    wrong = GRADIENT.override("wrong", {"Identity": transposed})
    with pytest.raises(AssertionError, match=r"'x' is wrong: it has the shape \(3, 2\), 'x' has \(2, 3\)"):
        check_gradient(model("float[2,3] x", "y = Identity(x)"), "y", "x", rules=wrong)


def test_tolerance_is_the_limit() -> None:
    slightly = GRADIENT.override("wrong", {"Tanh": scaled(1.001)})
    assert 1e-5 < check_gradient(NET, "y", "x", rules=slightly, tolerance=1e-2) < 2e-3
    with pytest.raises(AssertionError, match="tolerance 1e-05"):
        check_gradient(NET, "y", "x", rules=slightly, tolerance=1e-5)


def test_gradient_that_vanishes_is_right_where_it_does() -> None:
    """The probabilities of a softmax add up to 1 whatever the input; only rounding is left."""
    net = model("float[2,5] x", "p = Softmax(x) s = Constant<value_ints=[1]>() y = ReduceSum(p, s)")
    assert check_gradient(net, "y", "x") < 1e-6
    wrong = GRADIENT.override("wrong", {"Softmax": lambda _op, _node, g: [g]})
    with pytest.raises(AssertionError):
        check_gradient(net, "y", "x", rules=wrong)


@pytest.mark.parametrize("wrt", ["x", "w", "h", "r", "y", ["x", "h"], ["w", "r", "x", "y"]])
def test_any_tensor_can_be_moved(wrt: str | list[str]) -> None:
    net = model("float[2,3] x", "h = Mul(x, w) r = Tanh(h) q = Mul(r, h) y = Mul(q, x)")
    net.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0.5, -2, 3], np.float32), "w"))
    assert check_gradient(net, "y", wrt) < 1e-8


@pytest.mark.parametrize("tensor", ["x", "w", "h"])
def test_each_tensor_is_checked(tensor: str) -> None:
    """A rule that is wrong for one input alone, however small that input's gradient is."""
    net = model("float[3] x", "h = Exp(x) m = Mul(h, w) n = Mul(x, x) y = Sum(m, n)")
    net.graph.initializer.append(onnx.numpy_helper.from_array(np.full(3, 1e-3, np.float32), "w"))
    rules = {
        "x": {"Exp": scaled(2)},
        "w": {"Mul": lambda op, node, g: [gradient_of(op, node, g)[0], op.Neg(gradient_of(op, node, g)[1])]},
        "h": {"Mul": lambda op, node, g: [op.Neg(gradient_of(op, node, g)[0]), gradient_of(op, node, g)[1]]},
    }
    wrong = GRADIENT.override("wrong", rules[tensor])
    with pytest.raises(AssertionError, match=f"with respect to '{tensor}'"):
        check_gradient(net, "y", [tensor], rules=wrong)


def test_scalar_needs_no_cotangent() -> None:
    assert check_gradient(model("float[2,3] x", "e = Exp(x) y = ReduceSum<keepdims=0>(e)"), "y", "x") < 1e-8


def test_same_symbol_is_the_same_size() -> None:
    net = model(
        "float[N,K] x, float[K,M] b, float[N,M] c, float[?,1] d",
        "m = MatMul(x, b) n = Mul(m, c) s = ReduceMean(d) t = Mul(n, s) y = Exp(t)",
    )
    assert check_gradient(net, "y", ["x", "b", "c", "d"]) < 1e-8


def test_given_inputs_are_fed() -> None:
    net = model("float[3] x, int64[2] i", "g = Gather(x, i) y = Relu(g)")
    assert check_gradient(net, "y", "x", inputs={"x": [-1, -2, -3], "i": [0, 2]}) == 0
    assert check_gradient(net, "y", "x", inputs={"x": [1, 2, 3], "i": [0, 2]}) > 0


def test_seed_chooses_the_numbers() -> None:
    errors = [check_gradient(NET, "y", "x", seed=seed) for seed in (0, 0, 1)]
    assert errors[0] == errors[1] != errors[2]


def test_quantised_weights_are_checked_in_float64() -> None:
    """The standard has no float64 scale, but the evaluator computes with one."""
    net = model(
        "float[4,3] x",
        "q = Constant<value=int8[3]{100,-50,3}>() s = Constant<value=float{0.05}>() "
        "w = DequantizeLinear(q, s) h = Mul(x, w) y = Tanh(h)",
    )
    assert check_gradient(net, "y", ["x", "w"]) < 1e-8


def test_what_is_float32_by_the_standard_is_checked_in_float32() -> None:
    """The steps are larger, and the tolerance with them."""
    net = model("float[4,3] x", "n = Constant<value=int64{3}>() w = HannWindow(n) h = Mul(x, w) y = Tanh(h)")
    assert 1e-7 < check_gradient(net, "y", "x") < 1e-2
    with pytest.raises(AssertionError, match="tolerance 1e-02"):
        check_gradient(net, "y", "x", rules=GRADIENT.override("wrong", {"Tanh": scaled(1.1)}))


def test_scales_of_a_resize_stay_as_they_are() -> None:
    net = model("float[1,2,3] x", 's = Constant<value=float[3]{1,1,2}>() y = Resize(x, "", s)')
    assert check_gradient(net, "y", "x") < 1e-8


def test_computed_scales_of_a_resize_do_no_harm() -> None:
    net = model(
        "float[1,2,3] x",
        "t = Constant<value=float[3]{1,1,4}>() o = Constant<value=float[3]{0,0,-1.5}>() "
        's = Add(t, o) y = Resize<mode="linear">(x, "", s)',
    )
    assert check_gradient(net, "y", "x") < 1e-8


def test_nested_graphs_are_doubled_too() -> None:
    net = model(
        "float[3] x, bool c",
        "b = If(c) <then_branch = t () => (float[3] u) { u = Constant<value=float[3]{1,2,3}>() }, "
        "else_branch = e () => (float[3] v) { v = Constant<value=float[3]{4,5,6}>() }> "
        "m = Mul(x, b) y = Exp(m)",
    )
    assert check_gradient(net, "y", "x", inputs={"c": True}) < 1e-8


def test_weights_on_disk_are_read(tmp_path: Path) -> None:
    net = model("float[2,300] x", "h = MatMul(x, w) y = Tanh(h)")
    weight = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32) / 20
    net.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    path = tmp_path / "net.onnx"
    onnx.save(net, path, save_as_external_data=True, location="net.data", size_threshold=0)
    before = path.read_bytes()
    assert check_gradient(path, "y", ["x", "w"]) < 1e-8
    assert path.read_bytes() == before


def test_model_is_left_as_it_was() -> None:
    before = NET.SerializeToString(deterministic=True)
    check_gradient(NET, "y", "x")
    assert NET.SerializeToString(deterministic=True) == before


def test_unknown_input_is_named() -> None:
    with pytest.raises(SelectorError, match=r"no input 'xx' in this model; did you mean 'x'\?"):
        check_gradient(NET, "y", "x", inputs={"xx": 1})


@pytest.mark.parametrize("declared", ["int64[2] i", "float[] i"])
def test_input_that_nobody_can_make_up_is_asked_for(declared: str) -> None:
    net = model(f"float[3] x, {declared}", "h = Exp(x) j = Cast<to=1>(i) y = Mul(h, h)")
    with pytest.raises(ShapeError, match=r"the input i .*; give inputs=\{'i': ...\}"):
        check_gradient(net, "y", "x")


def test_operator_that_nothing_here_runs_is_an_error() -> None:
    rules = GRADIENT.override("mine", {"my.domain::Odd": lambda _op, _node, g: [g]})
    with pytest.raises(UnsupportedOperator, match=r"reference evaluator cannot run this model .*Odd"):
        check_gradient(model("float[3] x", "h = my.domain.Odd(x) y = Identity(h)"), "y", "x", rules=rules)


def test_importing_it_is_cheap() -> None:
    code = "import sys, onnxviz.testing; print({'onnx', 'onnx_ir', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
