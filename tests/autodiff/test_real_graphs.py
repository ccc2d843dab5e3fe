"""Graphs as files have them: the nine networks that the onnx package ships, and the oddities of exporters."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from onnxviz._reference.evaluator import run
from onnxviz.autodiff.pullback import gradient
from onnxviz.graph.model import Model, load
from onnxviz.methods.scores import find_scores
from onnxviz.testing import check_gradient

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NETWORKS = sorted(path.stem.removeprefix("light_") for path in LIGHT.glob("*.onnx"))

# Their weights are one number each, so that some saturate: there a float32 difference says nothing.
SMOOTH = ("bvlc_alexnet", "inception_v1", "resnet50", "shufflenet", "zfnet512")


def session(model: Model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(model.serialize(), options, providers=["CPUExecutionProvider"])


def test_there_are_nine_networks() -> None:
    assert len(NETWORKS) == 9


@pytest.mark.parametrize("name", NETWORKS)
def test_logit_by_pixels_of_the_networks_of_the_onnx_package(name: str) -> None:
    path = LIGHT / f"light_{name}.onnx"
    shipped = onnx.load(path)
    assert (shipped.opset_import[0].version, shipped.ir_version) == (9, 3)
    model = load(path)
    logits, image = find_scores(model).tensor, model.inputs[0]
    derived = gradient(model, logits, image.name, keep=[logits])
    onnx.checker.check_model(derived.proto(), full_check=True)
    run_derived = session(derived)
    [seed] = [value for value in derived.inputs if value.name == derived.cotangent]
    one_hot = np.zeros([int(size) for size in seed.shape or ()], np.float32)  # type: ignore[arg-type]
    one_hot.reshape(-1)[3] = 1
    x = np.random.default_rng(0).standard_normal(image.shape).astype(np.float32)  # type: ignore[arg-type]

    def at(shift: np.ndarray | float) -> tuple[np.ndarray, float]:
        feeds = {image.name: (x + shift).astype(np.float32), seed.name: one_hot}
        slope, scores = run_derived.run([derived.gradients[image.name], logits], feeds)
        return slope.astype(np.float64), float(scores.reshape(-1)[3])

    slope, _ = at(0)
    assert np.isfinite(slope).all()
    if name != "vgg19":  # its weights are so large that its units are dead or overflow
        assert slope.any()
    if name in SMOOTH:
        along = slope / np.abs(slope).max()
        along /= np.linalg.norm(along)
        (_, ahead), (_, behind) = at(0.1 * along), at(-0.1 * along)
        assert np.vdot(slope, along) == pytest.approx((ahead - behind) / 0.2, rel=1e-2)


def parsed(text: str, opset: int = 21, ir_version: int = 10) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["": {opset}]> {text}')


def test_weights_listed_as_inputs_of_an_old_file() -> None:
    model = parsed("m (float[2,3] x, float[3,4] w) => (float[2,4] y) { h = MatMul(x, w) y = Tanh(h) }", 7, 3)
    w = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    derived = gradient(model, "y", ["x", "w"])
    assert [value.name for value in derived.inputs] == ["x", "y_grad"]
    assert check_gradient(model, "y", ["x", "w"]) < 1e-8


def test_weights_in_constant_nodes_and_behind_a_dequantiser() -> None:
    body = (
        "q = Constant<value=int8[3,2]{1,-2,3,4,-5,6}>() s = Constant<value=float{0.25}>() "
        "w = DequantizeLinear(q, s) b = Constant<value_floats=[0.5,-0.5]>() "
        "h = MatMul(x, w) z = Add(h, b) y = Tanh(z)"
    )
    model = parsed(f"m (float[2,3] x) => (float[2,2] y) {{ {body} }}")
    assert gradient(model, "y", "x").rules == "gradient"
    assert check_gradient(model, "y", ["x", "w", "b"]) < 1e-2


def test_nameless_nodes_odd_names_and_unused_outputs() -> None:
    model = parsed("m (float[2,4] x) => (float[2,2] y) { a, b = Split<axis=1, num_outputs=2>(x) y = Exp(a) }")
    model.graph.node.add(op_type="Relu", input=["b"], output=["unused"])
    names = {"x": "im age:0", "a": "a;b/c{1}", "b": "gradient/b", "y": "y_grad"}
    for node in model.graph.node:
        node.name = ""
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                field[place] = names.get(name, name)
    model.graph.input[0].name, model.graph.output[0].name = "im age:0", "y_grad"
    derived = gradient(model, "y_grad", "im age:0")
    assert derived.cotangent == "y_grad_grad"
    feeds = {"im age:0": np.zeros((2, 4), np.float32), "y_grad_grad": np.ones((2, 2), np.float32)}
    (found,) = session(derived).run(None, feeds)
    np.testing.assert_array_equal(found, [[1, 1, 0, 0]] * 2)


def test_nodes_that_share_a_name() -> None:
    model = parsed("m (float[3] x) => (float[3] y) { a = Exp(x) y = Tanh(a) }")
    for node in model.graph.node:
        node.name = "node"
    assert check_gradient(model, "y", "x") < 1e-8


def test_unknown_ranks_until_the_input_has_a_shape() -> None:
    model = parsed("m (float[2] x, float[2] w) => (float[2] y) { h = MatMul(x, w) y = Softmax(h) }")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    resized = load(model).resized({"x": ["N", 3], "w": [3, 4]})
    derived = gradient(resized, "y", "x")
    assert derived.outputs[0].shape == ("N", 3)
    feeds = {"x": np.ones((2, 3)), "w": np.random.default_rng(0).standard_normal((3, 4))}
    assert check_gradient(resized, "y", ["x", "w"], inputs=feeds) < 1e-8


@pytest.mark.parametrize(
    ("kind", "dtype", "digits"),
    [
        ("float16", np.float16, 2e-3),
        ("bfloat16", ml_dtypes.bfloat16, 3e-2),
        ("float", np.float32, 1e-6),
        ("double", np.float64, 1e-12),
    ],
)
def test_narrow_and_wide_floats(kind: str, dtype: type, digits: float) -> None:
    body = "h = MatMul(x, w) s = Sigmoid(h) y = Softmax(s)"
    text = f"m (double[2,5] x, double[5,3] w) => (double[2,3] y) {{ {body} }}"
    exact, narrow = (
        gradient(parsed(text.replace("double", k), 22), "y", ["x", "w"]) for k in ("double", kind)
    )
    assert {value.dtype for value in narrow.outputs} == {np.dtype(dtype).name}
    onnx.checker.check_model(narrow.proto(), full_check=True)
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.standard_normal(v.shape).astype(dtype) for v in narrow.inputs}  # type: ignore[arg-type]
    want = run(exact, {name: array.astype(np.float64) for name, array in feeds.items()})
    got = [run(narrow, feeds)]
    if kind != "bfloat16":  # ONNX Runtime has few kernels for it on a CPU
        names = [value.name for value in narrow.outputs]
        got.append(dict(zip(names, session(narrow).run(None, feeds), strict=True)))
    for answers in got:
        for name, expected in want.items():
            found, limit = answers[name].astype(np.float64), digits * np.abs(expected).max()
            np.testing.assert_allclose(found, expected, atol=limit)


# Second order

NETS = {
    "dense": (
        "double[2,3] x, double[3,4] w",
        "h = MatMul(x, w) t = Tanh(h) s = Mul(t, t) y = ReduceSum<keepdims=0>(s)",
    ),
    "softmax": ("double[2,3] x", "s = Softmax(x) l = Log(s) m = Mul(l, s) y = ReduceSum<keepdims=0>(m)"),
    "conv": (
        "double[1,2,6,6] x, double[3,2,3,3] w",
        "h = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w) t = Sigmoid(h) p = AveragePool<kernel_shape=[2,2]>(t) "
        "q = Mul(p, p) y = ReduceSum<keepdims=0>(q)",
    ),
    "pool": (
        "double[1,2,7,7] x",
        "t = Tanh(x) p = MaxPool<kernel_shape=[3,3], strides=[2,2]>(t) q = Mul(p, p) "
        "r = Mul(q, p) y = ReduceSum<keepdims=0>(r)",
    ),
    "norm": (
        "double[3,4] x, double[4] s, double[4] b",
        "n = LayerNormalization(x, s, b) e = Exp(n) y = ReduceSum<keepdims=0>(e)",
    ),
    "gather": (
        "double[4,3] x",
        "i = Constant<value_ints=[1,1,3]>() g = Gather(x, i) e = Exp(g) y = ReduceSum<keepdims=0>(e)",
    ),
}


def scalar_net(name: str, kind: str = "double") -> onnx.ModelProto:
    inputs, body = NETS[name]
    return parsed(f"m ({inputs}) => (double y) {{ {body} }}".replace("double", kind))


@pytest.mark.parametrize("name", NETS)
def test_gradient_of_a_gradient(name: str) -> None:
    once = gradient(scalar_net(name), "y", "x")
    assert once.cotangent is None
    assert check_gradient(once, "x_grad", "x") < 1e-6


@pytest.mark.parametrize("name", NETS)
def test_hessian_vector_product(name: str) -> None:
    """H v is the gradient of the gradient with v for its cotangent: symmetric, and what differences say."""
    once = gradient(scalar_net(name), "y", "x")
    twice = gradient(once, "x_grad", "x")
    assert (twice.cotangent, twice.gradients) == ("x_grad_grad", {"x": "x_grad_2"})
    rng = np.random.default_rng(0)
    feeds = {value.name: rng.standard_normal(value.shape) for value in once.inputs}  # type: ignore[arg-type]
    u, v = (rng.standard_normal(feeds["x"].shape) for _ in range(2))
    hu, hv = (run(twice, {**feeds, "x_grad_grad": along})["x_grad_2"] for along in (u, v))
    assert np.vdot(hu, v) == pytest.approx(np.vdot(hv, u), rel=1e-9)
    ahead, behind = (run(once, {**feeds, "x": feeds["x"] + h * v})["x_grad"] for h in (1e-6, -1e-6))
    np.testing.assert_allclose(hv, (ahead - behind) / 2e-6, atol=1e-6 * np.abs(hv).max())
    single = gradient(gradient(scalar_net(name, "float"), "y", "x"), "x_grad", "x")
    narrow = {k: array.astype(np.float32) for k, array in {**feeds, "x_grad_grad": v}.items()}
    (found,) = session(single).run(None, narrow)
    np.testing.assert_allclose(found, hv, atol=1e-4 * np.abs(hv).max())
