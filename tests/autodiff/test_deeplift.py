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
        "last": np.array([-1]),
        "low": np.array(1.1),
        "high": np.array(1.6),
    }
    used = {key: array for key, array in weights.items() if key in text}
    model = net(text, used, opset=20)
    x, start = RNG.normal(size=(3, 12)), RNG.normal(size=(3, 12))
    m = multipliers(load(model), x, start)
    here, there = (Session(model).run({"x": one})["y"][:, 0] for one in (x, start))
    np.testing.assert_allclose((m * (x - start)).sum(axis=1), here - there, rtol=1e-6, atol=1e-9)
    plain = Session(onnxviz.gradient(model, of="y", wrt="x"))
    slope = plain.run({"x": x, "y_grad": np.ones((3, 1))})["x_grad"]
    assert np.abs((slope * (x - start)).sum(axis=1) - (here - there)).max() > 1e-3
