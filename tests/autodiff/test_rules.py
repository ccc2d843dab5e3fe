"""Every rule against finite differences in float64, and its graph on ONNX Runtime against that."""

from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from autodiff.cases import CASES, quantization
from autodiff.cases.table import NUMPY_TYPES, Case, cases, feeds_of, floats_of, model_of, newest_opset

from onnxviz._reference.evaluator import OPERATORS, run
from onnxviz.autodiff.pullback import gradient
from onnxviz.autodiff.ruleset import GRADIENT
from onnxviz.errors import ShapeError, UnsupportedOperator
from onnxviz.graph.model import Model, load
from onnxviz.testing import check_gradient

OPSETS = sorted({18, newest_opset()})


def opsets_of(case: Case) -> list[int]:
    """Where to check a case: an operator newer than the runtime in the standard's own evaluator alone."""
    return [opset for opset in OPSETS if case.since <= opset < case.until] or [case.since]


def on_runtime(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(feeds))


def derivative(case: Case, dtype: str, opset: int) -> Model:
    derived = gradient(model_of(case, dtype, opset), of="y", wrt=floats_of(case))
    onnx.checker.check_model(derived.proto(), full_check=True)
    return derived


def with_cotangent(case: Case, derived: Model, opset: int) -> dict[str, np.ndarray]:
    feeds = feeds_of(case)
    if derived.cotangent is not None:
        (y,) = run(load(model_of(case, opset=opset)), feeds).values()
        feeds[derived.cotangent] = np.random.default_rng(1).standard_normal(y.shape)
    return feeds


@cache
def exact(key: str, opset: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What to feed a case's derivative, and what it answers in float64."""
    derived = derivative(CASES[key], "double", opset)
    feeds = with_cotangent(CASES[key], derived, opset)
    return feeds, run(derived, feeds)


def narrowed(feeds: Mapping[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    return {name: v.astype(NUMPY_TYPES[dtype]) if v.dtype == np.float64 else v for name, v in feeds.items()}


def assert_close(got: list[np.ndarray], want: Mapping[str, np.ndarray], tolerance: float) -> None:
    for answer, (name, expected) in zip(got, want.items(), strict=True):
        assert answer.shape == expected.shape, name
        largest = np.abs(expected).max(initial=0.0)
        np.testing.assert_allclose(
            answer, expected, rtol=0, atol=tolerance * max(largest, 1e-6), err_msg=name
        )


@pytest.mark.parametrize(
    ("key", "opset"),
    [(key, opset) for key, case in CASES.items() for opset in opsets_of(case)],
)
def test_rule_agrees_with_finite_differences(key: str, opset: int) -> None:
    case = CASES[key]
    # Not the seed of the inputs: a cotangent equal to x hides the mistakes of a normalisation.
    check_gradient(model_of(case, opset=opset), "y", floats_of(case), inputs=feeds_of(case), seed=1)


@pytest.mark.parametrize(
    ("key", "opset"),
    [
        (key, opset)
        for key, case in CASES.items()
        for opset in OPSETS
        if max(case.since, case.runs) <= opset < case.until
        and (opset == OPSETS[-1] or not key.endswith("-symbolic"))
    ],
)
def test_runtime_agrees_in_float32(key: str, opset: int) -> None:
    feeds, want = exact(key, opsets_of(CASES[key])[-1])
    got = on_runtime(derivative(CASES[key], "float", opset).proto(), narrowed(feeds, "float"))
    assert_close(got, want, 1e-4)


@pytest.mark.parametrize("key", [key for key, case in CASES.items() if case.runs > OPSETS[-1]])
def test_graph_is_valid_where_the_runtime_has_no_kernel(key: str) -> None:
    derived = derivative(CASES[key], "float", opsets_of(CASES[key])[-1])
    assert set(derived.gradients) == set(floats_of(CASES[key]))


@pytest.mark.parametrize(
    "operator", sorted({key.split("-")[0] for key, case in CASES.items() if case.runs <= OPSETS[-1]})
)
def test_runtime_agrees_in_float16(operator: str) -> None:
    key = next(key for key in cases(operator) if CASES[key].runs <= OPSETS[-1])
    case, opset = CASES[key], OPSETS[-1]
    derived = derivative(case, "double", opset)
    feeds = narrowed(with_cotangent(case, derived, opset), "float16")
    wide = {name: v.astype(np.float64) if v.dtype == np.float16 else v for name, v in feeds.items()}
    got = on_runtime(derivative(case, "float16", opset).proto(), feeds)
    assert_close(got, run(derived, wide), 5e-3)


def test_every_operator_with_a_rule_has_cases() -> None:
    assert {key.split("-")[0] for key in CASES} == GRADIENT.by_type.keys() - quantization.OPERATORS


@pytest.mark.parametrize(
    ("key", "opset"),
    [
        (key, opset)
        for operator in OPERATORS
        for key in cases(operator.__name__)
        for opset in OPSETS
        if max(CASES[key].since, CASES[key].runs) <= opset < min(CASES[key].until, CASES[key].forward)
    ],
)
def test_reference_operators_agree_with_the_runtime(key: str, opset: int) -> None:
    """The corrected operators that the differences rest on, forwards."""
    case = CASES[key]
    feeds = feeds_of(case)
    want = run(load(model_of(case, opset=opset)), feeds)
    assert_close(on_runtime(model_of(case, "float", opset), narrowed(feeds, "float")), want, 1e-5)


# Ties and limits, where differences say nothing


def gradients_at(inputs: str, body: str, **feeds: object) -> list[np.ndarray]:
    """The gradients of y, for a cotangent of ones, on ONNX Runtime; the reference evaluator must agree."""
    case = Case(inputs, body, feeds={name: value for name, value in feeds.items() if name != "y_grad"})
    derived = derivative(case, "float", OPSETS[-1])
    given = narrowed(feeds_of(case), "float")
    if derived.cotangent is not None:
        given[derived.cotangent] = np.asarray(feeds["y_grad"], np.float32)
    got = on_runtime(derived.proto(), given)
    assert_close(got, run(derived, given), 1e-6)
    return got


@pytest.mark.parametrize(
    ("body", "slope"),
    [
        ("y = Relu(a)", 0),
        ("y = LeakyRelu(a)", 1),
        ("y = Abs(a)", 0),
        ("y = HardSwish(a)", 0.5),
        ("z = Constant<value_float=0.0>() y = Clip(a, z)", 0),
        ('z = Constant<value_float=0.0>() y = Clip(a, "", z)', 0),
    ],
)
def test_slope_at_a_kink(body: str, slope: float) -> None:
    (da,) = gradients_at("double[2] a", body, a=[0, 0], y_grad=[1, -2])
    np.testing.assert_allclose(da, [slope, -2 * slope])


def test_prelu_at_zero_passes_the_gradient_and_leaves_the_slope() -> None:
    da, ds = gradients_at("double[2] a, double[1] s", "y = PRelu(a, s)", a=[0, 0], s=[0.2], y_grad=[1, 2])
    np.testing.assert_allclose(da, [1, 2])
    np.testing.assert_allclose(ds, [0])


@pytest.mark.parametrize("attributes", ["", ", pads=[1,1,1,1]", ", ceil_mode=1", ', auto_pad="SAME_LOWER"'])
def test_max_pool_gives_a_tie_to_one_input(attributes: str) -> None:
    body = f"y = MaxPool<kernel_shape=[2,2], strides=[2,2]{attributes}>(a)"
    size = 3 if "pads" in attributes else 2
    cotangent = np.arange(1.0, size * size + 1).reshape(1, 1, size, size)
    (da,) = gradients_at("double[1,1,4,4] a", body, a=np.zeros((1, 1, 4, 4)), y_grad=cotangent)
    assert da.sum() == cotangent.sum()
    assert sorted(da[da != 0]) == sorted(cotangent.ravel())


def test_max_pool_adds_up_where_windows_share_their_largest() -> None:
    (da,) = gradients_at(
        "double[1,1,4] a", "y = MaxPool<kernel_shape=[3]>(a)", a=[[[0, 9, 1, 2]]], y_grad=[[[2, 3]]]
    )
    np.testing.assert_array_equal(da, [[[0, 5, 0, 0]]])


def test_global_max_pool_shares_a_tie() -> None:
    (da,) = gradients_at(
        "double[1,2,3] a", "y = GlobalMaxPool(a)", a=[[[7, 1, 7], [1, 2, 3]]], y_grad=[[[6], [5]]]
    )
    np.testing.assert_array_equal(da, [[[3, 0, 3], [0, 0, 5]]])


def test_power_of_zero_has_no_logarithm() -> None:
    da, db = gradients_at(
        "double[3] a, double[3] b", "y = Pow(a, b)", a=[0, 0, 0], b=[1, 2, 3], y_grad=[5, 5, 5]
    )
    np.testing.assert_array_equal(da, [5, 0, 0])
    np.testing.assert_array_equal(db, [0, 0, 0])


@pytest.mark.parametrize(("replaced", "hole"), [("nan", np.nan), ("2.5", 2.5)])
def test_imputer_passes_nothing_where_it_fills(replaced: str, hole: float) -> None:
    body = f"y = ai.onnx.ml.Imputer<imputed_value_floats=[7.0], replaced_value_float={replaced}>(a)"
    (da,) = gradients_at("double[1,3] a", body, a=[[hole, 1, 2]], y_grad=[[3, 4, 5]])
    np.testing.assert_array_equal(da, [[0, 4, 5]])


@pytest.mark.parametrize(("operator", "moments"), [("Adagrad", "h"), ("Adam", "v, h")])
def test_optimizer_that_has_not_moved_has_a_finite_slope(operator: str, moments: str) -> None:
    """A tiny gradient moves x by R G / epsilon, whatever it is."""
    body = f"y, {moments} = ai.onnx.preview.training.{operator}<epsilon=0.5>(r, t, x, g, {moments})"
    body = body.replace("y, v, h", "y, v1, h1").replace("y, h", "y, h1")
    case = Case("double r, int64 t, double[1] x, double[1] g, double[1] v, double[1] h", body)
    derived = gradient(model_of(case), of="y", wrt=["g", "h"])
    feeds = {"r": np.array(0.3), "t": np.array(0), "y_grad": np.ones(1)}
    feeds |= {name: np.zeros(1) for name in ("x", "g", "v", "h")}
    dg, dh = run(derived, feeds).values()
    np.testing.assert_allclose(dg, [-0.6 if operator == "Adagrad" else -0.06])
    np.testing.assert_array_equal(dh, [0])


def test_gather_adds_up_what_it_took_twice() -> None:
    (da,) = gradients_at(
        "double[2] a, int64[3] i", "y = Gather(a, i)", a=[1, 2], i=[1, -1, 0], y_grad=[10, 20, 40]
    )
    np.testing.assert_array_equal(da, [40, 30])


# Half floats, whose range and digits end early


def half_gradient(inputs: str, body: str, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    derived = derivative(Case(inputs, body), "float16", OPSETS[-1])
    (found,) = on_runtime(derived.proto(), feeds)
    # ONNX Runtime computes many half floats in float32; the reference evaluator does not.
    np.testing.assert_allclose(run(derived, feeds)["a_grad"], found, rtol=5e-3)
    return found


@pytest.mark.parametrize("body", ["y = GlobalAveragePool(a)", "y = ReduceMean(a)"])
def test_half_mean_of_more_than_a_half_can_count(body: str) -> None:
    feeds = {"a": np.zeros((1, 1, 300, 300), np.float16), "y_grad": np.full((1, 1, 1, 1), 90, np.float16)}
    da = half_gradient("double[1,1,300,300] a", body, feeds)
    np.testing.assert_allclose(da, np.full((1, 1, 300, 300), 1e-3), rtol=5e-3)


def test_half_scatter_counts_beyond_what_a_half_can() -> None:
    feeds = {
        "a": np.zeros(2, np.float16),
        "i": np.zeros(3000, np.int64),
        "y_grad": np.ones(3000, np.float16),
    }
    np.testing.assert_array_equal(
        half_gradient("double[2] a, int64[3000] i", "y = Gather(a, i)", feeds), [3000, 0]
    )


# The shorter way, where there is one


@pytest.mark.parametrize(
    ("inputs", "body", "operators"),
    [
        (
            "double[4,5] a",
            "s = Constant<value_ints=[1,2]>() e = Constant<value_ints=[3,4]>() y = Slice(a, s, e)",
            {"Pad"},
        ),
        (
            "double[1,2,5,5] a, double[3,2,3,3] w",
            "y = Conv<pads=[1,1,1,1]>(a, w)",
            {"Transpose", "Slice", "Conv"},
        ),
        ("double[N,2,H,W] a, double[3,2,1,1] w", "y = Conv(a, w)", {"Transpose", "Conv"}),
        (
            "double[N,2,H,W] a, double[3,2,3,3] w",
            'y = Conv<auto_pad="SAME_LOWER">(a, w)',
            {"Transpose", "Slice", "Conv"},
        ),
        ("double[1,2,6,5] a, double[3,2,3,3] w", "y = Conv<strides=[2,2]>(a, w)", {"ConvTranspose"}),
        ("double[2,3] a, double[3] w", "y = Add(a, w)", set()),
    ],
)
def test_known_sizes_make_a_short_graph(inputs: str, body: str, operators: set[str]) -> None:
    derived = gradient(model_of(Case(inputs, body)), of="y", wrt="a")
    assert {node.op_type for node in derived.ir_model.graph} == operators | {"Identity"}


# What is refused


def model_with_node_names(inputs: str, body: str) -> onnx.ModelProto:
    model = model_of(Case(inputs, body), opset=OPSETS[-1])
    for node in model.graph.node:
        node.name = f"the {node.op_type.lower()}"
    return model


@pytest.mark.parametrize(
    ("inputs", "body", "message"),
    [
        (
            "double[8] a",
            "x = Constant<value=double[1,1,2,2]{1,2,3,4}>() s = Constant<value_ints=[1,1,3,3]>() "
            'y = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize">(x, a, "", s)',
            r"rule for Resize \(node 'the resize'\) has no gradient for its input 'a'",
        ),
    ],
)
def test_refusal_names_the_node(inputs: str, body: str, message: str) -> None:
    with pytest.raises(UnsupportedOperator, match=message):
        gradient(model_with_node_names(inputs, body), of="y", wrt="a")


def test_output_shape_of_an_unknown_input_is_refused() -> None:
    model = model_with_node_names(
        "double[1,2,H,3] a, double[2,3,2,2] w", "y = ConvTranspose<output_shape=[5,4]>(a, w)"
    )
    message = (
        r"ConvTranspose node 'the convtranspose' .* takes a known input size; give the model's input a shape"
    )
    with pytest.raises(ShapeError, match=message):
        gradient(model, of="y", wrt="a")


def test_cast_from_an_unknown_type_is_no_silent_zero() -> None:
    case = Case("double[2] a", "h = my.domain.Odd(a) c = Cast<to=11>(h) y = Neg(c)")
    with pytest.raises(UnsupportedOperator, match=r"rule for Cast .* has no gradient for its input 'h'"):
        gradient(model_of(case), of="y", wrt="a")
