"""Elementwise functions, reductions, normalisations and losses at ties, at zero and far out."""

import numpy as np
import pytest
from autodiff.cases import CASES
from autodiff.cases.table import Case, feeds_of, floats_of, model_of
from autodiff.test_rules import (
    OPSETS,
    assert_close,
    derivative,
    gradients_at,
    half_gradient,
    model_with_node_names,
    narrowed,
    on_runtime,
    with_cotangent,
)

from onnxviz._reference.evaluator import run
from onnxviz.autodiff.pullback import gradient
from onnxviz.errors import UnsupportedOperator
from onnxviz.testing import check_gradient


@pytest.mark.parametrize(
    ("body", "slope"),
    [
        ("y = Elu<alpha=0.5>(a)", 0.5),
        ("y = Selu<alpha=0.5, gamma=3.0>(a)", 1.5),
        ("y = Celu<alpha=0.5>(a)", 1),
        ("y = Softsign(a)", 1),
        ("y = Shrink<lambd=0.0>(a)", 0),
        ("y = ThresholdedRelu<alpha=0.0>(a)", 0),
        ("y = ReduceL1<keepdims=0>(a)", 0),
        ("y = ReduceL2<keepdims=0>(a)", 0),
        ("y = LpNormalization<p=1>(a)", 0),
        ("y = LpNormalization<p=2>(a)", 0),
    ],
)
def test_slope_at_zero(body: str, slope: float) -> None:
    cotangent = [1.0, -2.0] if "Reduce" not in body else 3.0
    (da,) = gradients_at("double[2] a", body, a=[0, 0], y_grad=cotangent)
    np.testing.assert_allclose(da, np.multiply(slope, cotangent) * np.ones(2))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_global_norm_of_zeros_has_no_slope(p: int) -> None:
    derived = derivative(Case("double[1,1,3] a", f"y = GlobalLpPool<p={p}>(a)"), "float", 22)
    feeds = {"a": np.zeros((1, 1, 3), np.float32), "y_grad": np.ones((1, 1, 1), np.float32)}
    np.testing.assert_array_equal(run(derived, feeds)["a_grad"], np.zeros((1, 1, 3)))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_global_norm_on_the_opset_that_the_runtime_has_it_in(p: int) -> None:
    case = CASES[f"GlobalLpPool-rank4-p{p}"]
    exact = derivative(case, "double", 18)
    feeds = with_cotangent(case, exact, 18)
    got = on_runtime(derivative(case, "float", 18).proto(), narrowed(feeds, "float"))
    assert_close(got, run(exact, feeds), 1e-4)


@pytest.mark.parametrize("operator", ["Max", "Min"])
def test_operands_that_tie_share(operator: str) -> None:
    body = f"y = {operator}(a, b, c)"
    sign = 1 if operator == "Max" else -1
    a, b, c = sign * np.array([[2, 5, 7], [1, 5, 7], [2, 4, 7]])
    da, db, dc = gradients_at(
        "double[3] a, double[3] b, double[3] c", body, a=a, b=b, c=c, y_grad=[6, 12, 18]
    )
    np.testing.assert_allclose([da, db, dc], [[3, 6, 6], [0, 6, 6], [3, 0, 6]])


@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("keep", [0, 1])
def test_elements_that_tie_share(operator: str, keep: int) -> None:
    sign = 1 if operator == "ReduceMax" else -1
    (da,) = gradients_at(
        "double[2,3] a",
        f"x = Constant<value_ints=[1]>() y = {operator}<keepdims={keep}>(a, x)",
        a=sign * np.array([[7, 1, 7], [1, 2, 3]]),
        y_grad=np.reshape([6, 5], [2, 1] if keep else [2]),
    )
    np.testing.assert_allclose(da, [[3, 0, 3], [0, 0, 5]])


def test_log_of_no_exponentials_has_no_slope() -> None:
    (da,) = gradients_at(
        "double[2,2] a",
        "x = Constant<value_ints=[1]>() y = ReduceLogSumExp<keepdims=0>(a, x)",
        a=[[-np.inf, -np.inf], [-np.inf, 1]],
        y_grad=[5, 6],
    )
    np.testing.assert_array_equal(da, [[0, 0], [0, 6]])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("operator", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_loss_that_ignores_everything_has_no_slope(operator: str) -> None:
    (da,) = gradients_at(
        "double[2,3] a, int64[2] t",
        f"y = {operator}<ignore_index=1>(a, t)",
        a=np.ones((2, 3)),
        t=[1, 1],
    )
    np.testing.assert_array_equal(da, np.zeros((2, 3)))


@pytest.mark.parametrize(
    "key",
    [
        "Gelu",
        "Celu",
        "GlobalLpPool-rank4-p3",
        "ReduceL2-keep0-last",
        "ReduceLogSumExp-keep0-last",
        "ReduceProd-zeros-last",
        "CumProd-zeros-exclusive0-reverse0",
        "LpNormalization-1-axis1",
        "LpNormalization-2-axis1",
        "BatchNormalization-training-variance",
        "LayerNormalization-all",
        "RMSNormalization-last",
        "GroupNormalization-2d",
        "SoftmaxCrossEntropyLoss-mean-rank3-ignore-weights",
    ],
)
def test_gradient_can_be_differentiated_again(key: str) -> None:
    case = CASES[key]
    derived = gradient(model_of(case, opset=OPSETS[-1]), of="y", wrt="a")
    feeds = with_cotangent(case, derived, OPSETS[-1])
    check_gradient(derived, derived.gradients["a"], "a", inputs=feeds, seed=2)


def test_group_normalization_per_group() -> None:
    case = Case(
        "double[2,6,5] a, double[2] s, double[2] b",
        "y = GroupNormalization<num_groups=2, epsilon=0.2>(a, s, b)",
        shape="2,6,5",
    )
    check_gradient(model_of(case), "y", floats_of(case), inputs=feeds_of(case), seed=1)


def test_bits_read_as_another_type_are_refused() -> None:
    model = model_with_node_names("double[2] a", "i = BitCast<to=7>(a) b = BitCast<to=DOUBLE>(i) y = Neg(b)")
    with pytest.raises(UnsupportedOperator, match=r"rule for BitCast .* has no gradient for its input 'i'"):
        gradient(model, of="y", wrt="a")


# Half floats, whose squares overflow


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("body", "slopes"),
    [
        ("y = Softplus(a)", [0, 0, 1, 1]),
        ("y = Softsign(a)", [0, 300.0**-2, 300.0**-2, 0]),
        ("y = Mish(a)", [0, 0, 1, 1]),
        ("y = Gelu(a)", [0, 0, 1, 1]),
        ('y = Gelu<approximate="tanh">(a)', [0, 0, 1, 1]),
        ("y = Elu(a)", [0, 0, 1, 1]),
        ("y = Celu(a)", [0, 0, 1, 1]),
        ("y = Selu<gamma=2.0>(a)", [0, 0, 2, 2]),
    ],
)
def test_half_slope_far_out(body: str, slopes: list[float]) -> None:
    feeds = {
        "a": np.array([-6e4, -300, 300, 6e4], np.float16),
        "y_grad": np.ones(4, np.float16),
    }
    np.testing.assert_allclose(half_gradient("double[4] a", body, feeds), slopes, rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("operator", ["LayerNormalization", "RMSNormalization"])
def test_half_normalisation_of_large_numbers(operator: str) -> None:
    case = Case("double[1,4] a, double[4] s", f"y = {operator}(a, s)")
    feeds = {
        "a": np.array([[1000, -3000, 2000, 500]], np.float16),
        "s": np.ones(4, np.float16),
        "y_grad": np.array([[2000, 0, 0, 0]], np.float16),
    }
    exact = run(derivative(case, "double", OPSETS[-1]), {n: v.astype(float) for n, v in feeds.items()})
    half = derivative(case, "float16", OPSETS[-1])
    # ONNX Runtime computes many half floats in float32; the reference evaluator does not.
    for got in (on_runtime(half.proto(), feeds)[0], run(half, feeds)["a_grad"]):
        np.testing.assert_allclose(got, exact["a_grad"], rtol=2e-3)


def test_half_loss_of_more_than_a_half_can_count() -> None:
    feeds = {"a": np.zeros((70_000, 2), np.float16), "t": np.zeros(70_000, np.int64)}
    da = half_gradient("double[70000,2] a, int64[70000] t", "y = SoftmaxCrossEntropyLoss(a, t)", feeds)
    np.testing.assert_allclose(da[0], [-0.5 / 70_000, 0.5 / 70_000], rtol=0.02)


def test_softmax_of_a_row_that_is_masked_whole() -> None:
    """As attention is exported: no number becomes 0, and its slope with it."""
    body = "b = Add(a, m) s = Softmax(b) n = IsNaN(s) z = Sub(a, a) y = Where(n, z, s)"
    with np.errstate(invalid="ignore"):
        da, _ = gradients_at(
            "double[2,2] a, double[2,1] m",
            body,
            a=[[0, 1], [2, 3]],
            m=[[0], [-np.inf]],
            y_grad=[[1, 0], [1, 0]],
        )
    p = 1 / (1 + np.e)
    np.testing.assert_allclose(da, [[p * (1 - p), -p * (1 - p)], [0, 0]], rtol=1e-5)
