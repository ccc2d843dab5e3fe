"""Relevance: rules against their formulas on the explicit matrices of layers, and nets with a closed form."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir
import pytest

from onnxviz._reference.evaluator import run
from onnxviz.autodiff import lrp, ruleset
from onnxviz.autodiff.pullback import gradient
from onnxviz.autodiff.ruleset import ZERO, RuleSet
from onnxviz.autodiff.variants import RULE_SETS
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.expose import expose
from onnxviz.graph.model import Model, load
from onnxviz.graph.ops import Ops
from onnxviz.runtime.session import Session

Array = npt.NDArray[np.float64]
EPS = 1e-6
LOW, HIGH = np.array([-1.5, -2.0]), np.array([2.0, 1.5])


def net(
    body: str, weights: dict[str, Array] | None = None, x: str = "double[2,2,6,5] x", dtype: type = np.float64
) -> Model:
    """A model from its nodes; the weights are random where their shapes alone are given."""
    name = {np.float64: "double", np.float32: "float", np.float16: "float16"}[dtype]
    head = '<ir_version: 10, opset_import: ["": 23, "my.domain": 1]>'
    proto = onnx.parser.parse_model(f"{head} m ({x.replace('double', name)}) => ({name}[] y) {{ {body} }}")
    for key, numbers in (weights or {}).items():
        kept = numbers.astype(dtype) if numbers.dtype == np.float64 else numbers
        proto.graph.initializer.append(onnx.numpy_helper.from_array(kept, key))
    return load(proto)


def relevance(model: Model, rules: str | RuleSet, x: Array, r: Array, wrt: str = "x", of: str = "y") -> Array:
    return run(gradient(model, of, wrt, rules), {"x": x, f"{of}_grad": r})[f"{wrt}_grad"]


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


# The layers of a small network as matrices


def matrix(body: str, weights: dict[str, Array], shape: tuple[int, ...]) -> Array:
    """A linear operator as a matrix: what it makes of each unit vector."""
    size = int(np.prod(shape))
    model = net(body, weights, x=f"double[{size},{','.join(map(str, shape))}] x")
    return run(model, {"x": np.eye(size).reshape(size, *shape)})["y"].reshape(size, -1).T


WEIGHTS = {
    "w1": random(4, 2, 3, 3),
    "b1": random(4),
    "w2": random(6, 2, 3, 2),
    "b2": random(6),
    "w3": random(3, 24),
    "b3": np.array([-0.5, 0.3, -1.0]),
}
CONV1 = "Conv<pads=[1,1,1,1], strides=[2,1]>(x, w1{})"
CONV2 = "Conv<group=2, pads=[1,0,1,1]>({}, w2{})"
POOL = "AveragePool<kernel_shape=[2,2], strides=[1,2]>({})"
NET = (
    f"a = {CONV1.format(', b1')} h = Relu(a) b = {CONV2.format('h', ', b2')} k = Relu(b) "
    f"m = MaxPool<kernel_shape=[1,2], strides=[1,1]>(k) p = {POOL.format('m')} f = Flatten(p) "
    "y = Gemm<transB=1>(f, w3, b3)"
)


@dataclass
class Dense:
    """z = W x + b with W explicit; `links` tells which inputs are connected at all."""

    w: Array
    b: Array
    links: Array


def dense_layers() -> tuple[Dense, Dense, Array, Dense]:
    ones = {name: np.ones_like(w) for name, w in WEIGHTS.items()}
    first, second = CONV1.format(""), CONV2.format("x", "")
    one, two = ((f"y = {body}", shape) for body, shape in ((first, (2, 6, 5)), (second, (4, 3, 5))))
    return (
        Dense(matrix(one[0], WEIGHTS, one[1]), np.repeat(WEIGHTS["b1"], 15), matrix(one[0], ones, one[1])),
        Dense(matrix(two[0], WEIGHTS, two[1]), np.repeat(WEIGHTS["b2"], 15), matrix(two[0], ones, two[1])),
        matrix(f"y = {POOL.format('x')}", {}, (6, 3, 4)),
        Dense(WEIGHTS["w3"], WEIGHTS["b3"], np.ones((3, 24))),
    )


# The rules, one layer and one example at a time: parts[j, i] is what input i adds to output j


def over(r: Array, z: Array, eps: float = EPS) -> Array:
    if eps == 0:
        return np.divide(r, z, out=np.zeros_like(r), where=z != 0)
    return r / (z + np.where(z >= 0, eps, -eps))


def plus(v: Array) -> Array:
    return np.maximum(v, 0)


def minus(v: Array) -> Array:
    return np.minimum(v, 0)


Share = Callable[[Dense, Array, Array], Array]


def by_parts(parts: Array, b: Array | float, r: Array) -> Array:
    return parts.T @ over(r, parts.sum(1) + b)


def epsilon(layer: Dense, x: Array, r: Array) -> Array:
    return by_parts(layer.w * x, layer.b, r)


def zero(layer: Dense, x: Array, r: Array) -> Array:
    return (layer.w * x).T @ over(r, layer.w @ x + layer.b, 0)


def alpha_beta(alpha: float, beta: float) -> Share:
    def share(layer: Dense, x: Array, r: Array) -> Array:
        parts = layer.w * x
        return alpha * by_parts(plus(parts), plus(layer.b), r) - beta * by_parts(
            minus(parts), minus(layer.b), r
        )

    return share


def gamma(amount: float) -> Share:
    def share(layer: Dense, x: Array, r: Array) -> Array:
        parts, above = layer.w * x, layer.w @ x + layer.b >= 0
        stronger = [
            v + amount * np.where(above.reshape(-1, *[1] * (v.ndim - 1)), plus(v), minus(v))
            for v in (parts, layer.b)
        ]
        return by_parts(*stronger, r)

    return share


def box(low: Array, high: Array) -> Share:
    def share(layer: Dense, x: Array, r: Array) -> Array:
        return by_parts(layer.w * x - plus(layer.w) * low - minus(layer.w) * high, 0, r)

    return share


def own_box(layer: Dense, x: Array, r: Array) -> Array:
    planes = x.reshape(2, -1)
    low, high = (np.repeat(bound(planes, axis=1), 30) for bound in (np.min, np.max))
    return box(low, high)(layer, x, r)


def w_square(layer: Dense, _x: Array, r: Array) -> Array:
    return by_parts(layer.w**2, 0, r)


def flat(layer: Dense, _x: Array, r: Array) -> Array:
    return by_parts(layer.links, 0, r)


def replica(first: Share, convolution: Share, last: Share, x: Array, r: Array, eps: float = EPS) -> Array:
    """Relevance through the network, an example at a time."""
    one, two, pool, three = dense_layers()
    found = []
    for image, arriving in zip(x.reshape(len(x), -1), r, strict=True):
        h = plus(one.w @ image + one.b)
        k = plus(two.w @ h + two.b)
        windows = np.lib.stride_tricks.sliding_window_view(k.reshape(6, 3, 5), 2, axis=2)
        m, winner = windows.max(-1).ravel(), windows.argmax(-1)
        p = pool @ m
        down = last(three, p, arriving)
        down = m * (pool.T @ over(down, p, eps))
        at_k = np.zeros((6, 3, 5))
        c, i, j = np.indices(winner.shape)
        np.add.at(at_k, (c, i, j + winner), down.reshape(winner.shape))
        found.append(first(one, image, convolution(two, h, at_k.ravel())))
    return np.stack(found).reshape(x.shape)


Z_PLUS, ALPHA2, GAMMA = alpha_beta(1, 0), alpha_beta(2, 1), gamma(0.25)
GIVEN = box(np.repeat(LOW, 30), np.repeat(HIGH, 30))
REPLICAS: dict[str, tuple[RuleSet, tuple[Share, Share, Share]]] = {
    "lrp-0": (lrp.lrp_0(), (zero, zero, zero)),
    "lrp-epsilon": (lrp.lrp_epsilon(), (epsilon, epsilon, epsilon)),
    "lrp-gamma": (lrp.lrp_gamma(), (GAMMA, GAMMA, GAMMA)),
    "lrp-z-plus": (lrp.lrp_z_plus(), (Z_PLUS, Z_PLUS, Z_PLUS)),
    "lrp-alpha-beta": (lrp.lrp_alpha_beta(), (ALPHA2, ALPHA2, ALPHA2)),
    "lrp-z-box": (lrp.lrp_z_box(), (own_box, Z_PLUS, Z_PLUS)),
    "lrp-w-square": (lrp.lrp_w_square(), (w_square, Z_PLUS, Z_PLUS)),
    "lrp-flat": (lrp.lrp_flat(), (flat, Z_PLUS, Z_PLUS)),
    "lrp-epsilon-plus": (lrp.epsilon_plus(), (Z_PLUS, Z_PLUS, epsilon)),
    "lrp-epsilon-gamma-box": (lrp.epsilon_gamma_box(), (own_box, GAMMA, epsilon)),
    "lrp-epsilon-alpha2-beta1": (lrp.epsilon_alpha2_beta1(), (ALPHA2, ALPHA2, epsilon)),
    "strong gamma": (lrp.lrp_gamma(2), (gamma(2), gamma(2), gamma(2))),
    "alpha 1.5": (lrp.lrp_alpha_beta(1.5, 0.5), (alpha_beta(1.5, 0.5),) * 3),
    "box given": (lrp.lrp_z_box(LOW, HIGH), (GIVEN, Z_PLUS, Z_PLUS)),
    "composite box given": (lrp.epsilon_gamma_box(LOW, HIGH), (GIVEN, GAMMA, epsilon)),
    "numbers": (lrp.lrp_z_box(-3, 3), (box(np.full(60, -3.0), np.full(60, 3.0)), Z_PLUS, Z_PLUS)),
    "full arrays": (lrp.lrp_z_box(LOW.reshape(1, 2, 1, 1), HIGH.reshape(2, 1, 1)), (GIVEN, Z_PLUS, Z_PLUS)),
}


@pytest.mark.parametrize("case", REPLICAS)
def test_rule_is_its_formula_on_the_matrices_of_the_layers(case: str) -> None:
    rules, shares = REPLICAS[case]
    x, r = random(2, 2, 6, 5), random(2, 3)
    want = replica(*shares, x, r, 0 if case == "lrp-0" else EPS)
    found = relevance(net(NET, WEIGHTS), RULE_SETS.get(case, rules), x, r)
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-9 * np.abs(want).max())
    assert np.abs(want).max() > 1e-2


@pytest.mark.parametrize("case", REPLICAS)
def test_rules_on_the_runtime(case: str) -> None:
    rules, shares = REPLICAS[case]
    x, r = np.float32(random(2, 2, 6, 5)), np.float32(random(2, 3))
    session = Session(gradient(net(NET, WEIGHTS, dtype=np.float32), "y", "x", rules), device="cpu")
    found = session.run({"x": x, "y_grad": r})["x_grad"]
    want = replica(*shares, np.float64(x), np.float64(r), 0 if case == "lrp-0" else EPS)
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-3 * np.abs(want).max())


def test_named_sets_are_all_there() -> None:
    assert {name for name in REPLICAS if name.startswith("lrp-")} == {
        name for name in RULE_SETS if name.startswith("lrp-")
    }
    assert all(rules.name in RULE_SETS for rules, _ in REPLICAS.values())


# Closed forms


def test_of_a_linear_network_it_is_input_times_gradient() -> None:
    body = (
        f"a = {CONV1.format('')} b = {CONV2.format('a', '')} f = Flatten(b) "
        "y = Gemm<transB=1, alpha=-2.0>(f, w)"
    )
    model, x, chosen = (
        net(body, WEIGHTS | {"w": random(3, 90)}),
        random(2, 2, 6, 5),
        np.array([[0.0, 1, 0], [0, 0, 1]]),
    )
    want = x * relevance(model, "gradient", x, chosen)
    score = chosen * run(expose(model, ["y"]), {"x": x})["y"]
    np.testing.assert_allclose(relevance(model, "lrp-0", x, score), want, rtol=1e-8)
    np.testing.assert_allclose(relevance(model, lrp.lrp_epsilon(1e-12), x, score), want, rtol=1e-6)


UNBIASED = (
    f"a = {CONV1.format('')} h = Relu(a) b = {CONV2.format('h', '')} c = Relu(b) "
    f"d = Mul(c, two) e = Add(d, b) k = MaxPool<kernel_shape=[2,2]>(e) p = {POOL.format('k')} "
    "f = Flatten(p) y = MatMul(f, w)"
)
UNBIASED_WEIGHTS = WEIGHTS | {"w": random(12, 3), "two": np.array(2.0)}


NAMED = sorted(name for name in RULE_SETS if name.startswith("lrp-"))


# With beta, what has no negative part gives away alpha of its relevance and takes nothing back.
@pytest.mark.parametrize("rules", [name for name in NAMED if "alpha" not in name])
def test_nothing_is_lost_without_biases(rules: str) -> None:
    x, r = random(2, 2, 6, 5), np.abs(random(2, 3))
    found = relevance(net(UNBIASED, UNBIASED_WEIGHTS), rules, x, r)
    np.testing.assert_allclose(found.sum((1, 2, 3)), r.sum(1), rtol=1e-3)


def test_of_a_relu_network_without_biases_it_is_input_times_gradient() -> None:
    model, x, chosen = net(UNBIASED, UNBIASED_WEIGHTS), random(2, 2, 6, 5), np.array([[1.0, 0, 0], [0, 0, 1]])
    want = x * relevance(model, "gradient", x, chosen)
    score = chosen * run(expose(model, ["y"]), {"x": x})["y"]
    np.testing.assert_allclose(relevance(model, "lrp-0", x, score), want, rtol=1e-8, atol=1e-10)


# One layer, written in several ways


S, T = random(4, seed=1), random(4, seed=2)
V, M = np.abs(random(4, seed=3)) + 0.5, random(4, seed=4)
SLOPE = S / np.sqrt(V + 1e-5)
LAYER = {
    "w": WEIGHTS["w1"],
    "b": WEIGHTS["b1"],
    "k": random(5, 4),
    "turned": random(2, 4, 3, 3),
    "s": S,
    "t": T,
    "v": V,
    "m": M,
    "sc": S.reshape(4, 1, 1),
    "tc": T.reshape(1, 4, 1, 1),
    "three": np.array(3.0),
    "kt": random(5, 4).T,
    "bb": T / 2,
    "folded": WEIGHTS["w1"] * SLOPE.reshape(4, 1, 1, 1),
    "shift": (WEIGHTS["b1"] - M) * SLOPE + T,
    "bare": -M * SLOPE + T,
    "scaled": WEIGHTS["w1"] * S.reshape(4, 1, 1, 1),
    "scaled_b": WEIGHTS["b1"] * S + T,
    "turned_w": random(2, 4, 3, 3) * SLOPE.reshape(4, 1, 1),
    "k3": random(5, 4) / 3,
    "k3b": 3 - T / 3,
    "ks": random(5, 4) * S,
    "km": -2 * random(5, 4),
}
BN = "BatchNormalization({}, s, t, m, v)"
IMAGE, ROWS, STACK = "double[2,2,6,5] x", "double[3,5] x", "double[2,3,5] x"
FORMS = {
    "bias of its own": ("c = Conv(x, w) y = Add(c, tc)", "y = Conv(x, w, t)", IMAGE),
    "bias first": ("c = Conv(x, w) y = Add(tc, c)", "y = Conv(x, w, t)", IMAGE),
    "batch norm": (f"c = Conv(x, w, b) y = {BN.format('c')}", "y = Conv(x, folded, shift)", IMAGE),
    "batch norm, no bias": (f"c = Conv(x, w) y = {BN.format('c')}", "y = Conv(x, folded, bare)", IMAGE),
    "scale and bias": (
        "c = Conv(x, w, b) d = Mul(c, sc) y = Add(d, tc)", "y = Conv(x, scaled, scaled_b)", IMAGE,
    ),
    "transposed": (
        f"c = ConvTranspose(x, turned) y = {BN.format('c')}", "y = ConvTranspose(x, turned_w, bare)", IMAGE,
    ),
    "product and bias": ("c = MatMul(x, k) y = Add(c, t)", "y = Gemm(x, k, t)", ROWS),
    "gemm without transpose": ("y = Gemm<transB=1>(x, kt, t)", "y = Gemm(x, k, t)", ROWS),
    "gemm scaled": ("c = Gemm(x, k) y = Mul(c, s)", "y = Gemm(x, ks)", ROWS),
    "gemm transposed and scaled": ("c = Gemm<transB=1>(x, kt) y = Mul(c, s)", "y = Gemm(x, ks)", ROWS),
    "alpha and beta": ("y = Gemm<alpha=-2.0, beta=0.5>(x, k, t)", "y = Gemm(x, km, bb)", ROWS),
    "quotient and difference": (
        "c = MatMul(x, k) e = Sub(c, t) f = Div(e, three) y = Add(f, three)", "y = Gemm(x, k3, k3b)", ROWS,
    ),
    "more axes": (
        "c = MatMul(x, k) y = Add(c, t)",
        "shape = Constant<value_ints=[6,5]>() back = Constant<value_ints=[2,3,4]>() "
        "f = Reshape(x, shape) c = Gemm(f, k, t) y = Reshape(c, back)", STACK,
    ),
}  # fmt: skip


BOXES = {"lrp-epsilon-gamma-box": lrp.epsilon_gamma_box(-3, 3), "lrp-z-box": lrp.lrp_z_box(-3, 3)}


@pytest.mark.parametrize("rules", NAMED)
@pytest.mark.parametrize("form", FORMS)
def test_layer_is_the_same_in_whatever_form(form: str, rules: str) -> None:
    written, plain, x = FORMS[form]
    feeds = random(*map(int, x[x.index("[") + 1 : x.index("]")].split(",")))
    one, two = net(written, LAYER, x), net(plain, LAYER, x)
    r = random(*run(one, {"x": feeds})["y"].shape)
    chosen = BOXES.get(rules, rules)
    want = relevance(two, chosen, feeds, r)
    np.testing.assert_allclose(
        relevance(one, chosen, feeds, r), want, rtol=1e-7, atol=1e-7 * np.abs(want).max()
    )


def test_relevance_before_the_bias_is_that_behind_it() -> None:
    model, x, r = (
        net(f"c = Conv(x, w, b) d = {BN.format('c')} y = Relu(d)", LAYER),
        random(2, 2, 6, 5),
        random(2, 4, 4, 3),
    )
    derived = gradient(model, "y", ["x", "c", "d"], "lrp-z-plus")
    found = run(derived, {"x": x, "y_grad": r})
    np.testing.assert_array_equal(found["c_grad"], r)
    np.testing.assert_array_equal(found["d_grad"], r)
    merged = relevance(net("c = Conv(x, folded, shift) y = Relu(c)", LAYER), "lrp-z-plus", x, r)
    np.testing.assert_allclose(found["x_grad"], merged, rtol=1e-9)


def test_what_follows_the_target_is_no_part_of_its_layer() -> None:
    model, x, r = (
        net(f"c = Conv(x, w, b) y = {BN.format('c')}", LAYER),
        random(2, 2, 6, 5),
        random(2, 4, 4, 3),
    )
    want = relevance(net("y = Conv(x, w, b)", LAYER), "lrp-gamma", x, r)
    np.testing.assert_array_equal(relevance(model, "lrp-gamma", x, r, of="c"), want)


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv(x, w, b) d = Relu(c) e = Mul(d, sc) y = Add(e, tc)",  # the activation lies between
        "c = Conv(x, w, b) y = Mul(c, per_pixel)",
        "c = Conv(x, w, b) y = Add(per_row, c)",
        f"c = Conv(x, w, b) d = {BN.format('c')} h = Relu(d) e = {BN.format('c')} i = Relu(e) y = Sub(h, i)",
    ],
)
def test_what_is_no_part_of_the_layer_hands_on_wholly(body: str) -> None:
    weights = LAYER | {"per_pixel": random(4, 3), "per_row": random(4, 4, 1)}
    x, r = random(2, 2, 6, 5), random(2, 4, 4, 3)
    model, alone = net(body, weights), net("y = Conv(x, w, b)", weights)
    arriving = relevance(model, "lrp-alpha-beta", x, r, "c")
    found = relevance(model, "lrp-alpha-beta", x, r)
    np.testing.assert_allclose(found, relevance(alone, "lrp-alpha-beta", x, arriving), rtol=1e-12)


def test_activation_parts_a_layer_from_what_follows() -> None:
    """Told by an example alone in its batch, whose activations look like one number per channel."""
    x, r, weights = random(1, 5), random(1, 4), {"k": random(5, 4), "s": S}
    found = relevance(
        net("c = MatMul(x, k) d = Relu(c) y = Mul(d, s)", weights, "double[1,5] x"), "lrp-gamma", x, r
    )
    want = relevance(net("y = MatMul(x, k)", weights, "double[1,5] x"), "lrp-gamma", x, r)
    np.testing.assert_allclose(found, want, rtol=1e-12)


def test_residual_gemm_shares_with_what_is_added() -> None:
    body = "h = MatMul(x, k) y = Gemm<beta=2.0, alpha=0.5>(x, e, h)"
    plain = "h = MatMul(x, k) a = MatMul(x, half) b = Mul(h, two) y = Add(a, b)"
    weights = {
        "k": random(5, 4),
        "e": random(5, 4, seed=1),
        "half": random(5, 4, seed=1) / 2,
        "two": np.array(2.0),
    }
    x, r = random(3, 5), random(3, 4)
    for rules in ("lrp-epsilon", "lrp-z-plus"):
        want = relevance(net(plain, weights, ROWS), rules, x, r)
        np.testing.assert_allclose(relevance(net(body, weights, ROWS), rules, x, r), want, rtol=1e-8)


def test_weights_may_stand_on_the_left() -> None:
    weights, x, r = {"w": random(4, 3)}, random(3, 5), random(4, 5)
    found = relevance(net("y = MatMul(w, x)", weights, "double[3,5] x"), "lrp-z-plus", x, r)
    turned = relevance(
        net("y = MatMul(x, w)", {"w": weights["w"].T}, "double[5,3] x"), "lrp-z-plus", x.T, r.T
    )
    np.testing.assert_allclose(found, turned.T, rtol=1e-12)
    gemm = net("y = Gemm<transA=1, transB=1>(w, x)", {"w": weights["w"].T}, "double[5,3] x")
    np.testing.assert_allclose(relevance(gemm, "lrp-z-plus", x.T, r), found.T, rtol=1e-12)


# Which layer is the first


FIRST = {
    "w": random(2, 2, 3, 3),
    "v": random(2, 2, 1, 1),
    "s": random(2, 1, 1),
    "one": np.array(1.0),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
}


@pytest.mark.parametrize(
    ("body", "first"),
    [
        ("y = Conv(x, w)", True),
        ("a = Transpose<perm=[0,1,3,2]>(x) b = Pad(a, pads) y = Conv(b, w)", True),
        ("a = Sub(x, s) b = Div(a, one) c = Cast<to=11>(b) y = Conv(c, w)", True),
        ("a = Identity(x) b = Neg(x) c = Concat<axis=0>(a, x) y = Conv(c, w)", True),
        ("a = QuantizeLinear(x, one) b = DequantizeLinear(a, one) y = Conv(b, w)", True),
        ("a = Conv(x, v) y = Conv(a, w)", False),
        ("a = Relu(x) y = Conv(a, w)", False),
        ("a = Add(x, x) y = Conv(a, w)", False),
        ("a = Conv(x, v) c = Concat<axis=0>(a, x) y = Conv(c, w)", False),
    ],
)
def test_first_layer_reads_the_input_through_moves_and_constants(body: str, first: bool) -> None:
    """Told by the last layer: what arrives there is spread evenly (flat), or not."""
    model, x = net(body, FIRST), random(2, 2, 6, 5)
    read = next(node for node in reversed(model.proto().graph.node) if node.op_type == "Conv").input[0]
    names = ["y", read] if read != "x" else ["y"]
    sizes = run(expose(model, names), {"x": x})
    r = random(*sizes["y"].shape)
    found = relevance(model, "lrp-flat", x, r, read)
    inner = f"double[{','.join(map(str, sizes.get(read, x).shape))}] x"
    alone = net("y = Conv(x, w)", FIRST, inner)
    rules = "lrp-flat" if first else "lrp-z-plus"
    np.testing.assert_allclose(found, relevance(alone, rules, sizes.get(read, x), r), rtol=1e-12)


def test_box_of_a_dense_first_layer_is_the_example() -> None:
    weights, x, r = {"w": random(60, 3)}, random(2, 2, 6, 5), random(2, 3)
    found = relevance(net("f = Flatten(x) y = Gemm(f, w)", weights), "lrp-z-box", x, r)
    for image, down, arriving in zip(x, found, r, strict=True):
        layer = Dense(weights["w"].T, np.zeros(3), np.ones((3, 60)))
        want = box(image.min(), image.max())(layer, image.ravel(), arriving)
        np.testing.assert_allclose(down.ravel(), want, rtol=1e-9)


@pytest.mark.parametrize("wrong", [(2.0, 1.0), (-1.0, -2.0), (3.0, 2.5), (0.5, -0.5)])
def test_alpha_minus_beta_is_one(wrong: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="alpha - beta must be 1") if wrong != (2.0, 1.0) else nullcontext():
        lrp.lrp_alpha_beta(*wrong)


def test_box_holds_something() -> None:
    with pytest.raises(ValueError, match="above the upper bound"):
        lrp.lrp_z_box([0, 2], [1, 1])


# The other operators, by what they hand to their inputs


X = np.array([[-2.0, -0.5, 0.5, 1.0, 3.0], [1.0, 2.0, 4.0, -1.0, 0.25]])
R = np.array([[1.0, 2.0, -3.0, 0.5, 4.0], [0.25, -1.0, 1.0, 2.0, 3.0]])
MEAN = X.mean(1, keepdims=True)
CENTRED = X * (over(R, X - MEAN) - over(R, X - MEAN).mean(1, keepdims=True))
SOFT = np.exp(X) / np.exp(X).sum(1, keepdims=True)
OVER_LOG = over(R, np.log(SOFT))
NORM2 = (X**2).sum(1, keepdims=True)
EXPECTED: dict[str, tuple[str, Array]] = {
    **{
        op: (f"y = {op}(x)", R)
        for op in ("Relu", "LeakyRelu", "Elu", "Sigmoid", "HardSwish", "Gelu", "Tanh", "Neg", "Exp")
    },
    "Clip": ("y = Clip(x, low, high)", R),
    "Pow": ("y = Pow(x, two)", R),
    "PRelu": ("y = PRelu(x, half)", R),
    "Max with a number": ("y = Max(x, zero)", R),
    "Add a constant": ("y = Add(row, x)", R),
    "Sub from a constant": ("y = Sub(row, x)", R),
    "Mul by a constant": ("y = Mul(x, row)", R),
    "Div by a constant": ("y = Div(x, row)", R),
    "constant over x": ("y = Div(row, x)", R),
    "broadcast": ("a = ReduceMean(x, last) y = Mul(a, row)", X * over(R.sum(1, keepdims=True), MEAN) / 5),
    "Add of two": ("a = Neg(x) b = Mul(x, two) y = Add(a, b)", R * X / (X + EPS * np.sign(X))),
    "Sub": ("a = Mul(x, three) y = Sub(a, x)", R * 2 * X / (2 * X + EPS * np.sign(X))),
    "gate": ("a = Sigmoid(x) y = Mul(x, a)", R),
    "gate by a mean": (
        "a = ReduceMean(x, last) y = Mul(x, a)",
        R / 2 + X * over(R.sum(1, keepdims=True) / 2, MEAN) / 5,
    ),
    "quotient": ("a = Exp(x) y = Div(x, a)", R),
    "times one over": ("a = Exp(x) b = Reciprocal(a) y = Mul(b, x)", R),
    "times one over, by Div": ("a = Exp(x) b = Div(two, a) c = Mul(b, row) y = Mul(x, c)", R),
    "one over times one over": ("a = Reciprocal(x) b = Reciprocal(x) y = Mul(a, b)", R),
    "Softmax": ("y = Softmax(x)", X * (R - SOFT * R.sum(1, keepdims=True))),
    "Softmax over rows": (
        "t = Transpose(x) s = Softmax<axis=0>(t) y = Transpose(s)", X * (R - SOFT * R.sum(1, keepdims=True)),
    ),
    "softmax in parts": (
        "a = Exp(x) b = ReduceSum(a, last) y = Div(a, b)", R,
    ),
    "LayerNormalization": ("y = LayerNormalization(x, row, row)", CENTRED),
    "layer norm in parts": (
        "m = ReduceMean(x, last) c = Sub(x, m) q = Pow(c, two) v = ReduceMean(q, last) e = Add(v, tiny) "
        "d = Sqrt(e) n = Div(c, d) g = Mul(n, row) y = Add(g, row)", CENTRED,
    ),
    "InstanceNormalization": (
        "u = Unsqueeze(x, zeroth) i = InstanceNormalization(u, pair, pair) y = Squeeze(i, zeroth)", CENTRED,
    ),
    "MeanVarianceNormalization": ("y = MeanVarianceNormalization<axes=[-1]>(x)", CENTRED),
    "GroupNormalization": (
        "f = Reshape(x, flat) g = GroupNormalization<num_groups=2>(f, ten, ten) y = Reshape(g, shape)",
        CENTRED,
    ),
    "RMSNormalization": ("y = RMSNormalization(x, row)", R),
    "rms norm in parts": (
        "q = Pow(x, two) v = ReduceMean(q, last) d = Sqrt(v) i = Reciprocal(d) n = Mul(x, i) y = Mul(row, n)",
        R,
    ),
    "ReduceSum": ("a = ReduceSum(x, last) y = Expand(a, shape)",
                  X * over(R.sum(1, keepdims=True), X.sum(1, keepdims=True))),
    "sum of squares": ("a = Mul(x, x) b = ReduceSum(a, last) y = Expand(b, shape)",
                       X**2 * over(R.sum(1, keepdims=True), NORM2)),
    "derivative without a rule": (
        "y = LogSoftmax(x)", X * (OVER_LOG - SOFT * OVER_LOG.sum(1, keepdims=True)),
    ),
    "Max of two": ("a = Neg(x) y = Max(x, a)", R),
    "Where": ("c = Greater(x, zero) y = Where(c, x, row)", R * (X > 0)),
    "Concat and Slice": ("a = Concat<axis=1>(x, x) y = Slice(a, three1, eight1, last)", np.roll(R, 3, 1)),
    "quantised": ("q = QuantizeLinear(x, scale) y = DequantizeLinear(q, scale)", R),
    "If": ("c = Constant<value=bool[1] {1}>() z = Squeeze(c) y = If(z) "
           "<then_branch = g () => (double[2,5] h) { s = Sigmoid(x) h = Mul(x, s) }, "
           "else_branch = g () => (double[2,5] k) { k = Neg(x) }>", R),
}  # fmt: skip
CONSTANTS: dict[str, npt.NDArray] = {
    "row": np.array([0.5, -2.0, 3.0, 1.5, -0.25]),
    "low": np.array(0.0), "high": np.array(1.0), "zero": np.array(0.0), "half": np.array(0.5),
    "two": np.array(2.0), "three": np.array(3.0), "tiny": np.array(1e-5), "last": np.array([-1]),
    "scale": np.array(0.5),
    "zeroth": np.array([0]), "one": np.array(1), "pair": np.array([2.0, -3.0]), "shape": np.array([2, 5]),
    "flat": np.array([1, 10, 1, 1]), "ten": np.arange(10) - 4.5, "three1": np.array([3]),
    "eight1": np.array([8]),
}  # fmt: skip


@pytest.mark.parametrize("case", EXPECTED)
def test_operator_hands_relevance_to(case: str) -> None:
    body, want = EXPECTED[case]
    used = {name: value for name, value in CONSTANTS.items() if name in body}
    found = relevance(net(body, used, "double[2,5] x"), "lrp-epsilon", X, R)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


def test_attention_shares_equally() -> None:
    """MatMul of two activations: epsilon, half to each factor."""
    model = net("a = Transpose(x) y = MatMul(x, a)", {}, "double[2,5] x")
    r = random(2, 2)
    s = over(r, X @ X.T) / 2
    np.testing.assert_allclose(relevance(model, "lrp-z-plus", X, r), X * (s @ X + s.T @ X), rtol=1e-9)
    einsum = net('y = Einsum<equation="ij,kj->ik">(x, x)', {}, "double[2,5] x")
    if "Einsum" in RULE_SETS["gradient"].by_type:
        np.testing.assert_allclose(relevance(einsum, "lrp-z-plus", X, r), X * (s @ X + s.T @ X), rtol=1e-9)


def test_where_nothing_arrives_nothing_is_nan() -> None:
    """A unit whose inputs are all zero: no relevance and no NaN, in half floats too."""
    weights = {"w": np.ones((4, 2))}
    for rules in NAMED:
        for dtype in (np.float64, np.float16):
            model = gradient(net("y = MatMul(x, w)", weights, "double[1,4] x", dtype), "y", "x", rules)
            feeds = {"x": np.zeros((1, 4), dtype), "y_grad": np.ones((1, 2), dtype)}
            found = run(model, feeds)["x_grad"]
            assert np.isfinite(found).all()


def test_symbolic_sizes() -> None:
    x, r = random(2, 2, 6, 5), random(2, 3)
    model = net(NET, WEIGHTS, "double[N,2,H,W] x")
    for rules in NAMED:
        want = relevance(net(NET, WEIGHTS), rules, x, r)
        np.testing.assert_allclose(
            relevance(model, rules, x, r), want, rtol=1e-8, atol=1e-8 * np.abs(want).max()
        )


BRANCHES = (
    "h = MatMul(x, k) g = Sigmoid(h) s = ReduceSum(x, last) a = Add(h, s) b = Mul(a, g) t = Transpose(b) "
    "c = MatMul(b, t) e = Exp(c) d = ReduceSum(e, last) y = Div(e, d)"
)


@pytest.mark.parametrize("rules", NAMED)
def test_relevance_of_a_tensor_does_not_depend_on_what_else_is_asked_for(rules: str) -> None:
    model = net(BRANCHES, {"k": random(5, 4), "last": np.array([-1])}, ROWS)
    inner = ["h", "g", "s", "a", "b", "t", "c", "e"]
    feeds = {"x": random(3, 5), "y_grad": random(3, 3)}
    together = run(gradient(model, "y", ["x", *inner], rules), feeds)
    for name in inner:
        alone = run(gradient(model, "y", name, rules), feeds)[f"{name}_grad"]
        np.testing.assert_allclose(alone, together[f"{name}_grad"], rtol=1e-12)


def test_what_the_shape_alone_tells_is_a_constant() -> None:
    body = "n = Shape<start=1>(x) f = Cast<to=11>(n) s = Sqrt(f) q = MatMul(x, k) y = Div(q, s)"
    x, r, weights = random(3, 5), random(3, 4), {"k": random(5, 4), "s": np.sqrt([5.0])}
    want = relevance(net("q = MatMul(x, k) y = Div(q, s)", weights, ROWS), "lrp-gamma", x, r)
    found = relevance(net(body, {"k": weights["k"]}, ROWS), "lrp-gamma", x, r)
    np.testing.assert_allclose(found, want, rtol=1e-12)
    times = net(body.replace("Div(q, s)", "Mul(s, q)"), {"k": weights["k"]}, ROWS)
    np.testing.assert_allclose(relevance(times, "lrp-gamma", x, r), want, rtol=1e-5)


def test_weights_have_no_relevance() -> None:
    model = net("y = MatMul(x, k)", {"k": random(5, 4)}, ROWS)
    with pytest.raises(UnsupportedOperator, match=r"'lrp-gamma' rule for MatMul .* its input 'k'"):
        gradient(model, "y", "k", "lrp-gamma")


@pytest.mark.parametrize("mapping", [False, True])
def test_operator_with_a_derivative_alone_shares_in_proportion(
    monkeypatch: pytest.MonkeyPatch, mapping: bool
) -> None:
    def rule(op: Ops, node: ir.Node, g: ir.Value) -> Any:
        back = op.CumSum(g, node.inputs[1], reverse=1)
        return {node.inputs[0]: back} if mapping else [back, ZERO]

    monkeypatch.setitem(ruleset._gradient, "CumSum", rule)
    found = relevance(net("y = CumSum(x, one)", {"one": np.array(1)}, "double[2,5] x"), "lrp-gamma", X, R)
    share = over(R, X.cumsum(1))
    np.testing.assert_allclose(found, X * share[:, ::-1].cumsum(1)[:, ::-1], rtol=1e-9)


def test_own_rule_of_relevance() -> None:
    model = net("h = my.domain.Sum(x, x) y = Identity(h)", {}, "double[2,5] x")
    own = {"my.domain::Sum": lambda op, _node, r: [op.Mul(r, 0.25), r]}
    mine = RULE_SETS["lrp-epsilon"].override("mine", own)
    np.testing.assert_array_equal(relevance(model, mine, X, R), 1.25 * R)


def test_operator_without_a_derivative_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match=r"no 'lrp-epsilon' rule for operator my\.domain::Double"):
        gradient(net("h = my.domain.Double(x) y = Neg(h)", {}, "double[3] x"), "y", "x", rules="lrp-epsilon")
