"""Rule sets: the guided ones against dense replicas in NumPy, and how rule sets are made."""

import itertools

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from onnxviz._reference.evaluator import run
from onnxviz.autodiff import ruleset
from onnxviz.autodiff.pullback import gradient
from onnxviz.autodiff.rectifiers import is_rectifier
from onnxviz.autodiff.ruleset import GRADIENT, ZERO, Answer, gradient_of, vjp
from onnxviz.autodiff.variants import GRADIENTS, RULE_SETS
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.model import Model, load
from onnxviz.graph.ops import Ops

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w1": RNG.standard_normal((3, 2, 3, 3)),
    "b1": RNG.standard_normal(3),
    "w2": RNG.standard_normal((4, 3, 2, 3)),
    "b2": RNG.standard_normal(4),
    "zero": np.array(0.0),
    "six": np.array(6.0),
}
NET = (
    "a = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(a) b = Conv<strides=[2,1]>(r, w2, b2) y = Relu(b)",
    "double[1,2,5,4] x",
)


def net(body: str = NET[0], inputs: str = NET[1]) -> Model:
    head = '<ir_version: 10, opset_import: ["": 18, "my.domain": 1]>'
    proto = onnx.parser.parse_model(f"{head} m ({inputs}) => (double[] y) {{ {body} }}")
    for name, numbers in WEIGHTS.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(numbers, name))
    return load(proto)


def dense(
    w: np.ndarray,
    inputs: tuple[int, int, int],
    outputs: tuple[int, int, int],
    strides: tuple[int, int],
    pad: int,
) -> np.ndarray:
    """The convolution as a matrix, from its definition."""
    matrix = np.zeros((*outputs, *inputs))
    for m, i, j in itertools.product(*map(range, outputs)):
        for c, k, n in itertools.product(*map(range, w.shape[1:])):
            h, v = i * strides[0] + k - pad, j * strides[1] + n - pad
            if 0 <= h < inputs[1] and 0 <= v < inputs[2]:
                matrix[m, i, j, c, h, v] += w[m, c, k, n]
    return matrix.reshape(np.prod(outputs), np.prod(inputs))


def relu(v: np.ndarray) -> np.ndarray:
    return np.maximum(v, 0)


@pytest.mark.parametrize("name", ["gradient", "auto", "deconvnet", "guided-backprop"])
def test_rule_set_is_its_dense_replica(name: str) -> None:
    first = dense(WEIGHTS["w1"], (2, 5, 4), (3, 5, 4), (1, 1), 1)
    second = dense(WEIGHTS["w2"], (3, 5, 4), (4, 2, 2), (2, 1), 0)
    x, u = RNG.standard_normal(40), RNG.standard_normal(16)
    a = first @ x + np.repeat(WEIGHTS["b1"], 20)
    b = second @ relu(a) + np.repeat(WEIGHTS["b2"], 4)
    deconvnet = first.T @ relu(second.T @ relu(u))
    guided = first.T @ ((a > 0) * relu(second.T @ ((b > 0) * relu(u))))
    true = first.T @ ((a > 0) * (second.T @ ((b > 0) * u)))
    want = {"gradient": true, "auto": true, "deconvnet": deconvnet, "guided-backprop": guided}[name]

    derived = gradient(net(), "y", "x", rules=name)
    feeds = {"x": x.reshape(1, 2, 5, 4), "y_grad": u.reshape(1, 4, 2, 2)}
    np.testing.assert_allclose(run(derived, feeds)["x_grad"].ravel(), want, rtol=1e-12, atol=1e-12)
    assert np.abs(want).max() > 0.1


# ReLUs by other names


def model_of(body: str, head: str, **arrays: np.ndarray) -> Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 18]> m {head} {{ {body} }}')
    for name, array in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return load(proto)


@pytest.mark.parametrize("name", ["deconvnet", "guided-backprop"])
@pytest.mark.parametrize("low", [0.0, -0.5])
def test_a_clip_from_zero_on_is_a_relu(name: str, low: float) -> None:
    rng = np.random.default_rng(1)
    body = NET[0].replace("r = Relu(a)", "r = Clip(a, low, high)")
    model = model_of(body, f"({NET[1]}) => (double[] y)", **WEIGHTS, low=np.array(low), high=np.array(1.5))
    first = dense(WEIGHTS["w1"], (2, 5, 4), (3, 5, 4), (1, 1), 1)
    second = dense(WEIGHTS["w2"], (3, 5, 4), (4, 2, 2), (2, 1), 0)
    x, u = rng.standard_normal(40), rng.standard_normal(16)
    a = first @ x + np.repeat(WEIGHTS["b1"], 20)
    b = second @ np.clip(a, low, 1.5) + np.repeat(WEIGHTS["b2"], 4)
    inside = (a > low) & (a < 1.5)
    if name == "deconvnet":
        down = second.T @ relu(u)
        want = first.T @ (relu(down) if low == 0 else inside * down)
    else:
        down = second.T @ ((b > 0) * relu(u))
        want = first.T @ (inside * (relu(down) if low == 0 else down))
    derived = gradient(model, "y", "x", rules=name)
    feeds = {"x": x.reshape(1, 2, 5, 4), "y_grad": u.reshape(1, 4, 2, 2)}
    np.testing.assert_allclose(run(derived, feeds)["x_grad"].ravel(), want, rtol=1e-12, atol=1e-12)
    assert np.abs(want).max() > 0.1


QUANTISED = """
    a = Conv(x, w1, b1) q = QuantizeLinear(a, s, z) r = DequantizeLinear(q, s, z)
    b = Conv(r, w2, b2) y = Relu(b)
"""


@pytest.mark.parametrize("name", ["deconvnet", "guided-backprop"])
@pytest.mark.parametrize("zero", [0, 100])
def test_a_quantiser_whose_range_begins_at_zero_is_a_relu(name: str, zero: int) -> None:
    """Exporters fold a ReLU into the quantiser behind it; one that has room below zero is none."""
    rng = np.random.default_rng(2)
    weights = {key: array.astype(np.float32) for key, array in WEIGHTS.items()}
    scale = {"s": np.float32(0.005), "z": np.uint8(zero)}
    model = model_of(QUANTISED, "(float[1,2,6,6] x) => (float[] y)", **weights, **scale)
    first = dense(WEIGHTS["w1"], (2, 6, 6), (3, 4, 4), (1, 1), 0)
    second = dense(WEIGHTS["w2"], (3, 4, 4), (4, 3, 2), (1, 1), 0)
    x, u = rng.standard_normal(72).astype(np.float32), rng.standard_normal(24).astype(np.float32)
    a = first @ x + np.repeat(WEIGHTS["b1"], 16)
    steps = np.rint(a / 0.005) + zero
    inside = (steps >= 0) & (steps <= 255)
    b = second @ ((np.clip(steps, 0, 255) - zero) * 0.005) + np.repeat(WEIGHTS["b2"], 6)
    if name == "deconvnet":
        down = second.T @ relu(u)
        want = first.T @ (relu(down) if zero == 0 else down)
    else:
        down = second.T @ ((b > 0) * relu(u))
        want = first.T @ (inside * (relu(down) if zero == 0 else down))
    derived = gradient(model, "y", "x", rules=name)
    feeds = {"x": x.reshape(1, 2, 6, 6), "y_grad": u.reshape(1, 4, 3, 2)}
    np.testing.assert_allclose(run(derived, feeds)["x_grad"].ravel(), want, rtol=1e-4, atol=1e-4)
    assert np.abs(want).max() > 0.1
    assert not inside.all()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("y = Relu(x)", True),
        ("y = Clip(x, zero)", True),
        ("y = Clip(x, one)", False),
        ("y = Clip(x, , one)", False),
        ("y = Identity(x)", False),
        ("c = Add(x, one) y = QuantizeLinear(c, one, low)", True),
        ("c = Add(x, one) y = QuantizeLinear(c, one, middle)", False),
        ("c = Relu(x) y = QuantizeLinear(c, one, low)", False),
        ("y = QuantizeLinear(x, one, low)", False),
    ],
)
def test_what_is_a_rectifier(body: str, found: bool) -> None:
    arrays = {"zero": np.float32(0), "one": np.float32(1), "low": np.uint8(0), "middle": np.uint8(9)}
    kind = "uint8" if "Quantize" in body else "float"
    used = {name: array for name, array in arrays.items() if name in body}
    model = model_of(body, f"(float[4] x) => ({kind}[4] y)", **used)
    assert is_rectifier(model.tensor("y").producer()) is found


def test_rule_sets_are_called_by_their_names() -> None:
    assert all(rules.name == name for name, rules in RULE_SETS.items())
    assert {"gradient", "deconvnet", "guided-backprop"} <= set(RULE_SETS)


# How rule sets are made


def times(number: float) -> ruleset.Rule:
    def rule(op: Ops, node: ir.Node, g: ir.Value) -> list[Answer]:
        return [answer and op.Mul(answer, number) for answer in gradient_of(op, node, g)]

    return rule


def slope(rules: ruleset.RuleSet, body: str, at: float = 1.0) -> float:
    derived = gradient(net(body, "double[1] x"), "y", "x", rules=rules)
    return float(run(derived, {"x": np.array([at]), "y_grad": np.ones(1)})["x_grad"][0])


def test_override_answers_for_its_operators_and_inherits_the_rest() -> None:
    tripled = GRADIENT.override("tripled", {"Neg": times(3)})
    assert tripled.name == "tripled"
    assert slope(tripled, "a = Neg(x) y = Mul(a, a)") == pytest.approx(6.0)
    assert slope(GRADIENT, "a = Neg(x) y = Mul(a, a)") == pytest.approx(2.0)
    again = tripled.override("again", {"Mul": times(10)})
    assert slope(again, "a = Neg(x) y = Mul(a, a)") == pytest.approx(60.0)


def test_when_comes_before_the_type_and_the_latest_before_the_others() -> None:
    rules = GRADIENT.when(lambda node: node.op_type == "Neg", times(3))
    rules = rules.when(lambda node: node.outputs[0].name == "b", times(5))
    assert rules.name == "gradient"
    assert slope(rules, "a = Neg(x) y = Identity(a)") == pytest.approx(-3.0)
    assert slope(rules, "b = Neg(x) y = Identity(b)") == pytest.approx(-5.0)
    assert slope(rules, "b = Neg(x) y = Neg(b)") == pytest.approx(15.0)
    assert slope(GRADIENT, "b = Neg(x) y = Neg(b)") == pytest.approx(1.0)
    assert slope(rules.override("other", {"Neg": times(7)}), "a = Neg(x) y = Identity(a)") == pytest.approx(
        -3.0
    )


def test_rules_cannot_be_changed_behind_a_rule_set() -> None:
    for rules in (GRADIENT, GRADIENT.override("mine", {})):
        with pytest.raises(TypeError, match="does not support item assignment"):
            rules.by_type["Relu"] = times(2)  # type: ignore[index]


def test_error_names_the_rule_set() -> None:
    mine = ruleset.RuleSet("mine", {})
    with pytest.raises(UnsupportedOperator, match=r"no 'mine' rule for operator Neg \(node 'y'\)"):
        gradient(net("y = Neg(x)", "double[1] x"), "y", "x", rules=mine)


# Redirected ReLUs


@pytest.mark.parametrize(
    ("body", "low", "high"),
    [
        ("y = Relu(x)", 0, np.inf),
        ("y = Clip(x, zero, six)", 0, 6),
        ("y = Clip(x, , six)", -np.inf, 6),
        ("y = Clip(x)", -np.inf, np.inf),
    ],
)
def test_redirected_relu_wakes_the_samples_that_nothing_passes(body: str, low: float, high: float) -> None:
    derived = gradient(net(body, "double[4,3] x"), "y", "x", rules="redirected-relu")
    x = np.array([[-1.0, 2.0, -3.0], [-1.0, -2.0, -3.0], [7.0, -1.0, 8.0], [-1.0, -2.0, 9.0]])
    g = np.array([[1.0, 2.0, 3.0], [1.0, -2.0, 3.0], [-1.0, 2.0, 3.0], [-4.0, 0.0, 5.0]])
    (found,) = run(derived, {"x": x, "y_grad": g}).values()
    plain = np.where((x > low) & (x < high), g, 0)
    outwards = ((x < low) & (g < 0)) | ((x > high) & (g > 0))
    woken = np.where(outwards, 0, g)
    want = np.where(plain.any(axis=1, keepdims=True), plain, woken)
    np.testing.assert_array_equal(found, want)


# A rule of one's own


@pytest.fixture
def own_operator(monkeypatch: pytest.MonkeyPatch) -> str:
    """An operator whose rule, if the test registers one, is gone after the test."""
    name = "my.domain::Double"
    monkeypatch.setitem(ruleset._gradient, name, times(0))
    del ruleset._gradient[name]
    return name


@pytest.mark.parametrize("rules", sorted(rules.name for rules in GRADIENTS))
def test_own_rule_for_a_custom_operator(own_operator: str, rules: str) -> None:
    @vjp(own_operator)
    def double(op: Ops, _node: ir.Node, g: ir.Value) -> list[Answer]:
        return [op.Mul(g, 2)]

    derived = gradient(net("h = my.domain.Double(x) y = Neg(h)", "double[3] x"), "y", "x", rules=rules)
    (found,) = run(derived, {"x": np.zeros(3), "y_grad": np.array([1.0, 2.0, 3.0])}).values()
    np.testing.assert_array_equal(found, [-2, -4, -6])


def test_operator_of_its_own_is_gone_without_its_rule(own_operator: str) -> None:
    with pytest.raises(UnsupportedOperator, match=r"register a rule with @vjp\('my.domain::Double'\)"):
        gradient(net("h = my.domain.Double(x) y = Neg(h)", "double[3] x"), "y", "x")
    assert own_operator not in GRADIENT.by_type


def test_second_rule_for_an_operator_is_refused(own_operator: str) -> None:
    vjp(own_operator)(times(1))
    with pytest.raises(ValueError, match=r"two rules for my.domain::Double"):
        vjp(own_operator)(times(2))


def test_declared_constant_has_no_gradient_anywhere(own_operator: str) -> None:
    ruleset.constant_everywhere(own_operator)
    node = ir.Node("my.domain", "Double", [ir.Value(name="a"), ir.Value(name="b")])
    assert GRADIENT.find(node)(None, node, None) == [ZERO, ZERO]


@pytest.mark.parametrize(
    ("domain", "key"), [("", "Conv"), ("ai.onnx", "Conv"), ("com.microsoft", "com.microsoft::Conv")]
)
def test_operator_key(domain: str, key: str) -> None:
    assert ruleset.operator_key(ir.Node(domain, "Conv", [])) == key


def test_node_is_called_by_its_name_or_its_output() -> None:
    assert ruleset.node_name(ir.Node("", "Conv", [], name="c1")) == "c1"
    assert ruleset.node_name(ir.Node("", "Conv", [], outputs=[ir.Value(name="y")])) == "y"
    assert ruleset.node_name(ir.Node("", "Conv", [], outputs=[])) == "Conv"


def test_zero_is_told_from_an_answer_that_is_missing() -> None:
    assert repr(ZERO) == "ZERO"
    assert ZERO is not None
