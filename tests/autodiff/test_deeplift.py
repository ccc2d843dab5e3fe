import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

import onnxviz
from onnxviz import Session, load
from onnxviz.autodiff.deeplift import deeplift


def net(text, weights, opset=18):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> net {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def multipliers(model, x, start, target=0, classes=1, of="y"):
    seed = np.zeros((len(x), classes), x.dtype)
    seed[:, target] = 1
    made = deeplift(model, of, "x")
    return Session(made).run({"x": x, "x_baseline": start, f"{of}_grad": seed})["x_grad"]


def close(found, expected, rtol=1e-4):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


RNG = np.random.default_rng(0)
DENSE = {"w": RNG.normal(0, 1, (6, 5)), "b": RNG.normal(0, 1, 5), "v": RNG.normal(0, 1, (5, 2))}
ACTIVATIONS = {
    "Relu": lambda h: np.maximum(h, 0),
    "Sigmoid": lambda h: 1 / (1 + np.exp(-h)),
    "Tanh": np.tanh,
    "Softplus": lambda h: np.log1p(np.exp(h)),
    "Elu": lambda h: np.where(h > 0, h, np.expm1(h)),
    "Exp": np.exp,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_dense_layer_takes_the_slope_between_both_ends(activation):
    text = f"""
        (double[N,6] x) => (double[N,2] y) {{
            z = MatMul (x, w)
            h = Add (z, b)
            a = {activation} (h)
            y = MatMul (a, v)
        }}"""
    model, act = net(text, DENSE), ACTIVATIONS[activation]
    x, start = RNG.normal(size=(3, 6)), RNG.normal(size=(3, 6))
    h, low = x @ DENSE["w"] + DENSE["b"], start @ DENSE["w"] + DENSE["b"]
    slope = (act(h) - act(low)) / (h - low)
    expected = (slope * DENSE["v"][:, 1]) @ DENSE["w"].T
    close(multipliers(model, x, start, 1, 2), expected, rtol=1e-9)


def test_where_nothing_differs_the_slope_answers():
    text = "(double[N,6] x) => (double[N,5] y) { z = MatMul (x, w) h = Add (z, b) y = Tanh (h) }"
    x = RNG.normal(size=(1, 6))
    h = x @ DENSE["w"] + DENSE["b"]
    expected = (1 - np.tanh(h[:, 2:3]) ** 2) * DENSE["w"][:, 2]
    close(multipliers(net(text, DENSE), x, x.copy(), 2, 5), expected, rtol=1e-9)


def test_a_linear_network_has_its_gradient():
    text = "(double[N,6] x) => (double[N,5] y) { z = MatMul (x, w) y = Add (z, b) }"
    x, start = RNG.normal(size=(2, 6)), RNG.normal(size=(2, 6))
    close(multipliers(net(text, DENSE), x, start, 3, 5), np.tile(DENSE["w"][:, 3], (2, 1)), rtol=1e-12)


def test_a_pool_follows_the_larger_of_both_ends():
    """By hand: 2 = max(2, 1) here and 3 = max(0, 3) there; z = 3, so -1 goes to the place of the 3 alone."""
    text = "(double[1,1,2] x) => (double[1,1,1] p) { p = MaxPool <kernel_shape = [2]> (x) }"
    made = deeplift(net(text, {}), "p", "x")

    def run(x, start):
        feeds = {"x": [[x]], "x_baseline": [[start]], "p_grad": [[[1.0]]]}
        return Session(made).run(feeds)["x_grad"][0, 0]

    close(run([2.0, 1.0], [0.0, 3.0]), [0, (2 - 3) / (1 - 3)])
    close(run([2.0, 1.0], [0.0, -1.0]), [(2 - 0) / (2 - 0), 0])
    close(run([1.0, 4.0], [3.0, 0.0]), [0, (4 - 3) / (4 - 0)])


def test_a_product_takes_the_mean_of_both_ends():
    text = "(double[N,6] x) => (double[N,6] y) { s = Sigmoid (x) y = Mul (x, s) }"
    x, start = RNG.normal(size=(2, 6)), RNG.normal(size=(2, 6))
    s, low = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(-start))
    full = (s + low) / 2 + (x + start) / 2 * (s - low) / (x - start)
    expected = np.zeros((2, 6))
    expected[:, 4] = full[:, 4]
    close(multipliers(net(text, {}), x, start, 4, 6), expected, rtol=1e-9)


NETS = {
    "attention": """
        q = MatMul (t, wq) k = MatMul (t, wk) kt = Transpose <perm = [0,2,1]> (k)
        s = MatMul (q, kt) a = Softmax <axis = -1> (s) o = MatMul (a, t)""",
    "layer normalisation": "o = LayerNormalization (t, scale, shift)",
    "a residual": "r = Relu (t) m = MatMul (r, wq) o = Add (m, t)",
    "a quotient": "e = Exp (t) n = ReduceSum <keepdims = 1> (e, last) o = Div (e, n)",
    "the largest": "m = ReduceMax <keepdims = 1> (t, last) o = Sub (t, m)",
    "several activations": "g = Sigmoid (t) h = Tanh (g) e = Exp (h) o = Clip (e, low, high)",
    "a condition": "r = Relu (t) h = Max (r, wide) o = Mul (h, t)",
    "the least": "m = ReduceMin <keepdims = 1> (t, last) l = Min (t, wide) o = Sub (l, m)",
    "instance normalisation": """
        c = Cast <to = 1> (t) n = InstanceNormalization (c, three, three) o = Cast <to = 11> (n)""",
    "a norm": "n = ReduceL2 <keepdims = 1> (t, last) o = Div (t, n)",
}


@pytest.mark.parametrize("name", NETS)
def test_contributions_add_up_to_the_difference(name):
    text = f"""
        (double[N,12] x) => (double[N,1] y) {{
            shape = Constant <value_ints = [-1, 3, 4]> ()
            t = Reshape (x, shape)
            {NETS[name]}
            f = Flatten (o)
            y = MatMul (f, w)
        }}"""
    weights = {
        **{key: RNG.normal(0, 0.7, (4, 4)) for key in ("wq", "wk")},
        **{key: RNG.normal(1, 0.3, 4) for key in ("scale", "shift", "wide")},
        "w": RNG.normal(0, 1, (12, 1)),
        "three": RNG.normal(1, 0.3, 3).astype(np.float32),
        "last": np.array([-1]),
        "low": np.array(1.1),
        "high": np.array(1.6),
    }
    used = {key: array for key, array in weights.items() if key in text}
    model = net(text, used, opset=20)
    x, start = RNG.normal(size=(3, 12)), RNG.normal(size=(3, 12))
    m = multipliers(load(model), x, start)
    here, there = (Session(model).run({"x": one})["y"][:, 0] for one in (x, start))
    # ONNX Runtime normalises instances in float32 alone.
    atol = 3e-6 if "InstanceNormalization" in text else 1e-9
    np.testing.assert_allclose((m * (x - start)).sum(axis=1), here - there, rtol=1e-6, atol=atol)
    plain = Session(onnxviz.gradient(model, of="y", wrt="x"))
    slope = plain.run({"x": x, "y_grad": np.ones((3, 1))})["x_grad"]
    assert np.abs((slope * (x - start)).sum(axis=1) - (here - there)).max() > 1e-3


def near(step, dtype, depth=4, width=64):
    """The multipliers of a deep net of Tanh whose two ends lie close together."""
    rng = np.random.default_rng(0)
    layers = " ".join(f"z{i} = MatMul (h{i}, w{i}) h{i + 1} = Tanh (z{i})" for i in range(depth))
    name = {np.float32: "float", np.float64: "double"}[dtype]
    text = f"({name}[N,{width}] h0) => ({name}[N,1] y) {{ {layers} y = MatMul (h{depth}, v) }}"
    weights = {f"w{i}": rng.normal(0, 2 * width**-0.5, (width, width)) for i in range(depth)}
    weights["v"] = rng.normal(0, 1, (width, 1))
    x = rng.normal(size=(20, width)).astype(np.float32)
    start = (x + step * rng.normal(size=x.shape)).astype(np.float32)
    kept = {key: array.astype(np.float32).astype(dtype) for key, array in weights.items()}
    feeds = {"h0": x.astype(dtype), "h0_baseline": start.astype(dtype), "y_grad": np.ones((20, 1), dtype)}
    return Session(deeplift(net(text, kept), "y", "h0")).run(feeds)["h0_grad"]


@pytest.mark.parametrize("step", [1e-3, 1e-5])
def test_small_differences_are_not_drowned_in_the_rounding_of_float32(step):
    single, double = (near(step, dtype) for dtype in (np.float32, np.float64))
    assert np.linalg.norm(single - double) < 1e-3 * np.linalg.norm(double)


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
def test_a_softmax_takes_the_logarithmic_mean_of_both_ends(operator):
    """Against y = exp(x - c) with c the logarithm of the sum, whose multipliers are solved for."""
    text = f"(double[N,6] x) => (double[N,6] y) {{ y = {operator} <axis = -1> (x) }}"
    x, start = RNG.normal(0, 3, (2, 6)), RNG.normal(0, 3, (2, 6))
    start[:, 1] = x[:, 1]  # a number may stay where it is and win or lose all the same
    logs = [end - np.log(np.exp(end).sum(axis=1, keepdims=True)) for end in (x, start)]
    mean = (np.exp(logs[0]) - np.exp(logs[1])) / (logs[0] - logs[1])
    share = mean / mean.sum(axis=1, keepdims=True)
    for target in range(6):
        unit = np.eye(6)[target]
        expected = (mean[:, target, None] if operator == "Softmax" else 1) * (unit - share)
        found = multipliers(net(text, {}), x, start, target, 6)
        close(found, expected, rtol=1e-7)
        ends = logs if operator == "LogSoftmax" else np.exp(logs)
        np.testing.assert_allclose((found * (x - start)).sum(axis=1), (ends[0] - ends[1])[:, target], 1e-7)


def test_a_softmax_whose_ends_are_one_has_its_gradient():
    text = "(double[N,6] x) => (double[N,6] y) { y = Softmax <axis = -1> (x) }"
    x = RNG.normal(size=(2, 6))
    y = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    close(multipliers(net(text, {}), x, x.copy(), 3, 6), y[:, 3:4] * (np.eye(6)[3] - y), rtol=1e-9)


def test_what_is_masked_out_of_a_softmax_has_no_part():
    text = "(double[N,6] x) => (double[N,6] y) { m = Add (x, mask) y = Softmax <axis = -1> (m) }"
    mask = np.array([0, 0, -np.inf, 0, 0, -np.inf])
    x, start = RNG.normal(size=(2, 6)), RNG.normal(size=(2, 6))
    found = multipliers(net(text, {"mask": mask}), x, start, 0, 6)
    shown = [0, 1, 3, 4]
    plain = net("(double[N,4] x) => (double[N,4] y) { y = Softmax <axis = -1> (x) }", {})
    close(found[:, shown], multipliers(plain, x[:, shown], start[:, shown], 0, 4), rtol=1e-9)
    assert not found[:, [2, 5]].any()


def test_a_quantiser_is_an_activation():
    """Rounding is part of it, and the end of its range serves as a Relu."""
    text = """
        (float[1,4] x) => (float[1,4] y) {
            q = QuantizeLinear (x, scale, zero) y = DequantizeLinear (q, scale, zero)
        }"""
    model = net(text, {"scale": np.float32(0.1), "zero": np.uint8(0)})
    x = np.array([[3.0, -1.0, 2.04, 30.0]], np.float32)
    start = np.array([[-1.0, -2.0, 1.01, 15.5]], np.float32)
    found = np.concatenate([multipliers(model, x, start, place, 4)[:, place] for place in range(4)])
    close(found, [3 / 4, 0, 1 / 1.03, 10 / 14.5], rtol=1e-5)


def test_a_quantised_layer_clips_what_it_makes():
    text = """
        (uint8[1,3] q) => (float[1,1] y) {
            s = QLinearMatMul (q, sx, zx, w, sw, zw, sy, zy) y = DequantizeLinear (s, sy, zy)
        }"""
    one, byte = np.float32, np.uint8
    weights = {"w": np.array([[1], [2], [-3]], np.int8), "zw": np.int8(0), "zx": byte(10), "zy": byte(0)}
    weights |= {"sx": one(0.5), "sw": one(0.25), "sy": one(0.125)}
    made = deeplift(net(text, weights), "y", "q")
    q, start = np.array([[30, 12, 9]], np.uint8), np.array([[14, 13, 33]], np.uint8)
    feeds = {"q": q, "q_baseline": start, "y_grad": np.ones((1, 1), np.float32)}
    [found] = Session(made).run(feeds).values()
    w = np.array([1.0, 2, -3]) / 8
    here, there = ((end - 10.0) @ w for end in (q[0], start[0]))
    assert here > 0 > there
    close(found[0], w * here / (here - there), rtol=1e-5)


def test_operators_without_a_rule_are_named():
    text = "(float[1,4,3,3] x) => (float[1,4,3,3] y) { r = Relu (x) l = LRN <size = 3> (r) y = Neg (l) }"
    assert deeplift(net(text, {}), "y", "x").derivative.by_slope == ("LRN",)
    plain = "(float[N,6] x) => (float[N,6] y) { r = Relu (x) f = Flatten (r) y = Mul (f, r) }"
    assert deeplift(net(plain, {}), "y", "x").derivative.by_slope == ()


def test_a_condition_on_the_picture_is_walked_by_the_gradient():
    text = """
        (float[N,6] x, bool c) => (float[N,6] y) {
            r = Tanh (x)
            b = If (c) <
                then_branch = one () => (float[N,6] t) { t = Mul (r, r) },
                else_branch = two () => (float[N,6] e) { e = Neg (r) }
            >
            y = Add (b, r)
        }"""
    made = deeplift(net(text, {}), "y", "x")
    assert made.derivative.by_slope == ("If",)
    x, start = (RNG.normal(size=(1, 6)).astype(np.float32) for _ in range(2))
    feeds = {"x": x, "x_baseline": start, "y_grad": np.ones((1, 6), np.float32), "c": np.array(True)}
    secant = (np.tanh(x) - np.tanh(start)) / (x - start)
    close(Session(made).run(feeds)["x_grad"], secant * (2 * np.tanh(x) + 1))
