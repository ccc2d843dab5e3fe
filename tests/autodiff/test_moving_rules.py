"""What the cases cannot say of the rules that move, choose and pool: masks, ties, zeros and old operators."""

import numpy as np
import onnx
import onnx.parser
import pytest
from autodiff.cases.table import Case, model_of
from autodiff.test_rules import OPSETS, gradients_at, on_runtime

from onnxviz.autodiff.pullback import gradient
from onnxviz.testing import check_gradient

# Dropout


@pytest.mark.parametrize("outputs", ["y", "y, mask"])
def test_dropout_differentiates_the_mask_that_it_drew(outputs: str) -> None:
    case = Case(
        "double[50] a, float r, bool t",
        f"{outputs} = Dropout(a, r, t)",
    )
    model = model_of(case, "float", OPSETS[-1])
    derived = gradient(model, of="y", wrt="a", keep=["y"])
    a, g = np.linspace(1, 2, 50, dtype=np.float32), np.linspace(3, 5, 50, dtype=np.float32)
    feeds = {"a": a, "r": np.array(0.25, np.float32), "t": np.array(True), "y_grad": g}
    da, y = on_runtime(derived.proto(), feeds)
    np.testing.assert_allclose(da, g * y / a, rtol=1e-6)
    assert 0 < np.count_nonzero(da) < 50
    assert list(model.graph.node[0].output) == outputs.split(", ")


# Ties


@pytest.mark.parametrize("operator", ["ScatterElements", "ScatterND"])
@pytest.mark.parametrize(("reduction", "sign"), [("max", 1), ("min", -1)])
def test_scatter_shares_a_tie(operator: str, reduction: str, sign: int) -> None:
    da, du = gradients_at(
        "double[3] a, double[4] u, int64[4,1] n",
        f"l = Constant<value_ints=[-1]>() i = Reshape(n, l) "
        f'y = {operator}<reduction="{reduction}">(a, {"n" if operator == "ScatterND" else "i"}, u)',
        a=np.multiply(sign, [1, 5, 2]),
        u=np.multiply(sign, [1, 1, 5, 7]),
        n=[[0], [0], [1], [2]],
        y_grad=[6, 4, 3],
    )
    np.testing.assert_allclose(da, [2, 2, 0])
    np.testing.assert_allclose(du, [2, 2, 2, 3])


def test_unique_sends_back_to_the_first() -> None:
    (da,) = gradients_at(
        "double[5] a",
        "z = Unique(a) w = Constant<value=double[2]{10,20}>() p = Mul(z, w) y = ReduceSum<keepdims=0>(p)",
        a=[3, 1, 3, 1, 1],
    )
    np.testing.assert_array_equal(da, [20, 10, 0, 0, 0])


@pytest.mark.parametrize("pads", ["", ", pads=[0,0,1,1]"])
def test_max_pool_gives_a_tie_to_the_first(pads: str) -> None:
    """With windows that tile the input, and with others."""
    (da,) = gradients_at(
        "double[1,1,4,4] a",
        f"y = MaxPool<kernel_shape=[2,2], strides=[2,2]{pads}>(a)",
        a=[[[[0, 0, -3, -1], [0, 0, -1, -1], [-2, 5, 5, 4], [5, 5, 4, 5]]]],
        y_grad=[[[[1, 2], [3, 4]]]],
    )
    np.testing.assert_array_equal(da[0, 0], [[1, 0, 0, 2], [0, 0, 0, 0], [0, 3, 4, 0], [0, 0, 0, 0]])


# Zeros


@pytest.mark.parametrize("p", [1, 2, 3])
def test_norm_of_an_empty_window_has_no_slope(p: int) -> None:
    (da,) = gradients_at(
        "double[1,1,4] a",
        f"y = LpPool<kernel_shape=[2], strides=[2], p={p}>(a)",
        a=[[[0, 0, 0, -4]]],
        y_grad=[[[3, 5]]],
    )
    np.testing.assert_allclose(da, [[[0, 0, 0, -5]]])


# Operators of other opsets


def old_model(opset: int, inputs: str, body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 4, opset_import: ["": {opset}]> m ({inputs}) => (float[] y) {{ {body} }}'
    )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    ("opset", "scales", "call"),
    [
        (7, "", "Upsample<scales=[1.0,1.0,2.5,1.3], mode={}>(a)"),
        (9, "s = Constant<value=float[4]{1,1,2.5,1.3}>()", "Upsample<mode={}>(a, s)"),
        (10, "s = Constant<value=float[4]{1,1,0.7,0.6}>()", "Resize<mode={}>(a, s)"),
    ],
)
def test_old_resize(opset: int, scales: str, call: str, mode: str) -> None:
    """Linear, so its directional derivative is what it makes of the direction."""
    model = old_model(opset, "float[1,2,3,4] a", f"{scales} y = {call}".replace("{}", f'"{mode}"'))
    rng = np.random.default_rng(0)
    direction = rng.standard_normal((1, 2, 3, 4)).astype(np.float32)
    (moved,) = on_runtime(model, {"a": direction})
    g = rng.standard_normal(moved.shape).astype(np.float32)
    (da,) = on_runtime(gradient(model, of="y", wrt="a").proto(), {"a": direction, "y_grad": g})
    np.testing.assert_allclose((da * direction).sum(), (moved * g).sum(), rtol=1e-4)


def test_old_scatter() -> None:
    model = old_model(9, "float[2,3] a, float[1,2] u, int64[1,2] i", "y = Scatter<axis=1>(a, i, u)")
    check_gradient(model, "y", ["a", "u"], inputs={"i": np.array([[1, -1]])})


@pytest.mark.parametrize("operator", ["SpaceToDepth", "DepthToSpace"])
def test_column_row_depth(operator: str) -> None:
    """SpaceToDepth knows that order from opset 28 on, which ONNX Runtime does not run yet."""
    model = model_of(Case("double[1,4,4,2] a", f'y = {operator}<blocksize=2, mode="CRD">(a)'), opset=28)
    check_gradient(model, "y", "a")


def test_unpooling_to_another_size_follows_the_runtime() -> None:
    """Which places the indices mean, ONNX Runtime and the standard do not agree on."""
    case = Case(
        "double[1,1,2,2] a, int64[1,1,2,2] i",
        "s = Constant<value_ints=[1,1,5,5]>() z = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(a, i, s) "
        "n = Constant<value_ints=[25]>() y = Reshape(z, n)",
    )
    model = model_of(case, "float", OPSETS[-1])
    a, places = np.array([[[[1, 2], [3, 4]]]], np.float32), np.array([[[[5, 7], [13, 15]]]])
    g = np.arange(25, dtype=np.float32)
    (y,) = on_runtime(model, {"a": a, "i": places})
    (da,) = on_runtime(gradient(model, of="y", wrt="a").proto(), {"a": a, "i": places, "y_grad": g})
    np.testing.assert_array_equal((da * a).sum(), (y * g).sum())
