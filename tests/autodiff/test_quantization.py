"""Quantisers against the definition of the straight-through estimator; finite differences say zero."""

import re
from collections.abc import Mapping

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from autodiff.cases.quantization import BY_HAND, QUANTISED, Quantised
from autodiff.test_rules import on_runtime

from onnxviz._reference.evaluator import run
from onnxviz.autodiff.pullback import gradient
from onnxviz.autodiff.rules.quantization import STRAIGHT_THROUGH_RULES
from onnxviz.errors import DisconnectedError, UnsupportedOperator
from onnxviz.graph.model import Model, load

Array = np.ndarray


def parse(inputs: str, outputs: str, body: str, weights: Mapping[str, Array], opset: int = 20) -> Model:
    """A model of ONNX text, with arrays as initializers."""
    head = f'<ir_version: 10, opset_import: ["": {opset}, "com.microsoft": 1]>'
    proto = onnx.parser.parse_model(f"{head} m ({inputs}) => ({outputs}) {{ {body} }}")
    read = {name for node in proto.graph.node for name in node.input}
    for name in weights.keys() & read:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weights[name], name))
    return load(proto)


# Operators on quantised tensors


class Numbers:
    """Integers for a case's tensors, their scales and zero points, and the floats that they stand for."""

    def __init__(self, case: Quantised) -> None:
        rng = np.random.default_rng(0)
        self.feeds: dict[str, Array] = {}
        self.weights: dict[str, Array] = {}
        self.floats: dict[str, Array] = {}
        self.scales: dict[str, Array] = {}
        for kind, dims, name in re.findall(r"(\w+)\[([^\]]*)\] (\w+)", case.inputs):
            shape = [int(dim) for dim in dims.split(",")]
            if name in case.feeds:
                dtype = {"bool": np.bool_, "float": np.float32}[kind]
                self.feeds[name] = np.asarray(case.feeds[name], dtype)
                continue
            limits = np.iinfo(kind if kind != "int32" else "int8")
            axis = case.places.get(name)
            size = () if axis is None else (shape[axis],)
            scale = case.feeds.get(f"s{name}", rng.uniform(0.01, 0.03, size))
            zero = case.feeds.get(f"z{name}", rng.integers(-9, 9, size) + (limits.min + limits.max + 1) // 2)
            self.feeds[name] = rng.integers(limits.min, limits.max + 1, shape).astype(kind)
            self.weights[f"s{name}"] = np.asarray(scale, np.float32)
            self.weights[f"z{name}"] = np.asarray(zero, kind)
            wide = [1] * len(shape)
            if axis is not None:
                wide[axis] = -1
            self.scales[name] = self.weights[f"s{name}"].astype(np.float64).reshape(wide)
            exact = self.feeds[name].astype(np.float64) - self.weights[f"z{name}"].reshape(wide)
            self.floats[name.upper()] = exact * self.scales[name]

    def twin(self, case: Quantised) -> tuple[Model, dict[str, Array]]:
        """The same of floats, in float64, and what to feed it."""
        kept = {name: v.astype(np.float64) if v.dtype == np.float32 else v for name, v in self.feeds.items()}
        others = {name: v for name, v in kept.items() if name.upper() not in self.floats}
        names = {np.dtype(np.bool_): "bool", np.dtype(np.float64): "double"}
        inputs = [
            f"{names[v.dtype]}[{','.join(map(str, v.shape))}] {name}"
            for name, v in (self.floats | others).items()
        ]
        return parse(", ".join(inputs), "double[] y", case.twin, {}), self.floats | others


@pytest.mark.parametrize("key", QUANTISED)
def test_integers_are_differentiated_as_the_floats_that_they_stand_for(key: str) -> None:
    """dq = s dF^T u, where u is the cotangent at the integers strictly inside the range."""
    case = QUANTISED[key]
    numbers = Numbers(case)
    twin, floats = numbers.twin(case)
    (exact,) = run(twin, floats).values()
    weights, body = dict(numbers.weights), case.body
    inside = np.ones(exact.shape, bool)
    if case.out != "float":
        # A range that cuts off a good part of what comes out, at both ends.
        limits = np.iinfo(case.out)
        low, high = np.quantile(exact, [0.2, 0.8]) if case.cut else (0, 255 / 256)
        scale = np.float32((high - low) / 255)
        weights["sy"] = scale
        weights["zy"] = np.asarray(
            np.clip(np.round(limits.min - low / scale), limits.min, limits.max), case.out
        )
        got = parse(case.inputs, f"{case.out}[] y", body, weights)
        (y,) = on_runtime(got.proto(), numbers.feeds)
        want = np.clip(np.round(exact / scale) + float(weights["zy"]), limits.min, limits.max)
        assert np.abs(y.astype(int) - want).max() <= 1
        inside = (limits.min < y) & (y < limits.max)
        assert inside.any()
        assert not case.cut or not inside.all()
        body = re.sub(r"\by = ", "q = ", body) + " y = DequantizeLinear(q, sy, zy)"
    # From opset 21 on ONNX Runtime fails to load an int8 dequantiser that is transposed.
    model = parse(case.inputs, "float[] y", body, weights, opset=21)
    wrt = list(numbers.scales)
    derived = gradient(model, "y", wrt)
    onnx.checker.check_model(derived.proto(), full_check=True)
    assert derived.taken_at == {name: name for name in wrt}
    if case.out != "float":
        assert derived.rules == "straight-through"

    u = np.random.default_rng(1).standard_normal(exact.shape)
    back = gradient(twin, "y", [name.upper() for name in wrt], rules="gradient")
    slopes = run(back, {**floats, str(back.cotangent): np.where(inside, u, 0)})
    found = on_runtime(derived.proto(), {**numbers.feeds, str(derived.cotangent): u.astype(np.float32)})
    for name, slope in zip(wrt, found, strict=True):
        want = numbers.scales[name] * slopes[f"{name.upper()}_grad"]
        np.testing.assert_allclose(slope, want, rtol=0, atol=1e-4 * np.abs(want).max())
        assert np.abs(want).max() > 0


def test_every_quantised_operator_has_cases() -> None:
    tested = {key.split("-")[0] for key in QUANTISED}
    assert tested >= STRAIGHT_THROUGH_RULES.keys() - BY_HAND
    assert not tested & BY_HAND


# Quantisers themselves


def quantiser(
    x: Array, scale: Array, zero: Array | None, attributes: str = "", out: str = "uint8", opset: int = 21
) -> Model:
    """y = QuantizeLinear(x, s, z)."""
    kinds = {np.dtype(np.float32): "float", np.dtype(np.float16): "float16"}
    kind, dims = kinds[x.dtype], ",".join(map(str, x.shape))
    call = f"q = QuantizeLinear{attributes}(x, s{', z' if zero is not None else ''})"
    weights = {"s": scale} if zero is None else {"s": scale, "z": zero}
    return parse(f"{kind}[{dims}] x", f"{out}[{dims}] q", call, weights, opset)


def slope(model: Model, x: Array, u: Array, *wrt: str) -> list[Array]:
    """The gradients of the integer itself, by the reference evaluator."""
    proto = model.proto()
    kind = onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((), x.dtype), "one"))
    proto.graph.node.append(onnx.helper.make_node("DequantizeLinear", ["q", "one"], ["y"]))
    del proto.graph.output[:]
    proto.graph.output.append(onnx.helper.make_tensor_value_info("y", kind, x.shape))
    derived = gradient(load(proto), "y", wrt)
    assert derived.rules == "straight-through"
    onnx.checker.check_model(derived.proto(), full_check=True)
    found = run(derived, {"x": x, str(derived.cotangent): u})
    return [found[derived.gradients[name]] for name in wrt]


def blocks(v: Array, axis: int, size: int, length: int) -> Array:
    return np.repeat(v, size, axis).take(range(length), axis)


X = (np.random.default_rng(0).standard_normal((4, 6, 5)) * 300).astype(np.float32)
U = np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint4", "int4"])
@pytest.mark.parametrize("form", ["tensor", "axis", "negative axis", "blocked"])
def test_quantiser_passes_the_gradient_within_its_range(dtype: str, form: str) -> None:
    """dx = u / s where min <= round(x / s) + z <= max; ds = -(x / s) u / s there."""
    numpy = ir.DataType[dtype.upper()].numpy()
    limits = ml_dtypes.iinfo(numpy)
    shape = {"tensor": (), "blocked": (4, 2, 5)}.get(form, (6,))
    rng = np.random.default_rng(2)
    scale = (rng.uniform(0.5, 1.5, shape) * 500 / (limits.max - limits.min)).astype(np.float32)
    zero = np.asarray(rng.integers(-2, 3, shape) + (limits.max + limits.min + 1) // 2).astype(numpy)
    attributes = {"axis": "<axis=1>", "negative axis": "<axis=-2>", "blocked": "<axis=1, block_size=4>"}.get(
        form, ""
    )
    s, z = scale, zero.astype(np.float32)
    if form == "blocked":
        s, z = (blocks(v, 1, 4, 6) for v in (s, z))
    elif form != "tensor":
        s, z = s[:, None], z[:, None]
    dx, ds = slope(quantiser(X, scale, zero, attributes, dtype), X, U, "x", "s")
    rounded = np.round(X / s) + z
    inside = (limits.min <= rounded) & (rounded <= limits.max)
    assert 0.2 < inside.mean() < 0.95
    np.testing.assert_allclose(dx, np.where(inside, U / s, 0), rtol=1e-6)
    each = np.where(inside, -X / s * U / s, 0).astype(np.float64)
    if form == "tensor":
        want = each.sum()
    elif form == "blocked":
        want = np.stack([each[:, :4].sum(axis=1), each[:, 4:].sum(axis=1)], axis=1)
    else:
        want = each.sum(axis=(0, 2))
    np.testing.assert_allclose(ds, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def test_the_ends_of_the_range_still_pass() -> None:
    """Rounding comes first: what rounds to the last number lies within."""
    x = np.array([-0.5, -0.6, 255.4, 255.6], np.float32)
    (dx,) = slope(quantiser(x, np.float32(1), np.uint8(0)), x, np.ones(4, np.float32), "x")
    np.testing.assert_array_equal(dx, [1, 0, 1, 0])


def test_quantiser_of_half_floats_without_a_zero_point() -> None:
    x = np.array([3, -2.5, 511, 90], np.float16)
    (dx,) = slope(quantiser(x, np.float16(2), None), x, np.ones(4, np.float16), "x")
    assert dx.dtype == np.float16
    np.testing.assert_array_equal(dx, [0.5, 0, 0, 0.5])


def test_half_floats_do_not_reach_the_end_of_uint16() -> None:
    x = np.array([6e4, -6e4], np.float16)
    with np.errstate(over="ignore"):
        (dx,) = slope(quantiser(x, np.float16(1), np.uint16(0), "", "uint16"), x, np.ones(2, np.float16), "x")
    np.testing.assert_array_equal(dx, [1, 0])


def test_small_floats_saturate() -> None:
    x = np.array([447, -447, 449, -1000, 0.1], np.float32)
    zero = np.zeros((), ml_dtypes.float8_e4m3fn)
    (dx,) = slope(quantiser(x, np.float32(1), zero, "", "float8e4m3fn"), x, np.ones(5, np.float32), "x")
    np.testing.assert_array_equal(dx, [1, 1, 0, 0, 1])


def test_true_derivative_of_a_quantiser_is_zero_and_says_so() -> None:
    model = quantiser(X, np.float32(1), np.uint8(0))
    text = "y = DequantizeLinear(q, s)"
    proto = model.proto()
    proto.graph.node.append(onnx.parser.parse_node(text))
    del proto.graph.output[:]
    proto.graph.output.append(onnx.helper.make_tensor_value_info("y", 1, X.shape))
    with pytest.raises(DisconnectedError, match=r"QuantizeLinear node"):
        gradient(proto, "y", "x", rules="gradient")


def test_fake_quantisation_learns_its_scale_as_lsq_does() -> None:
    """d(s (q - z)) / ds = q - z where saturated, round(x / s) - x / s elsewhere."""
    text = "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)"
    x = np.array([-70, -3.3, 0.2, 7.6, 300], np.float32)
    model = parse("float[5] x, float s", "float[5] y", text, {"z": np.asarray(3, np.int8)})
    derived = gradient(model, "y", ["x", "s"])
    for u, inside, want in zip(
        np.eye(5, dtype=np.float32), [0, 1, 1, 1, 0], [-131, -0.4, -0.4, -0.2, 124], strict=True
    ):
        dx, ds = on_runtime(
            derived.proto(), {"x": x, "s": np.array(0.5, np.float32), str(derived.cotangent): u}
        )
        np.testing.assert_allclose(ds, want, atol=1e-5)
        np.testing.assert_allclose(dx, u * inside)


# Dequantisers


@pytest.mark.parametrize("form", ["tensor", "axis", "blocked"])
def test_dequantiser_is_linear(form: str) -> None:
    """y = (q - z) s: ds = sum of u (q - z)."""
    rng = np.random.default_rng(0)
    shape = {"tensor": (), "axis": (6,), "blocked": (4, 2, 5)}[form]
    scale, zero = rng.uniform(0.5, 1.5, shape).astype(np.float32), rng.integers(-9, 9, shape).astype(np.int8)
    q = rng.integers(-128, 128, X.shape).astype(np.int8)
    call = {"tensor": "", "axis": "<axis=1>", "blocked": "<axis=1, block_size=4>"}[form]
    text = f"y = DequantizeLinear{call}(q, s, z)"
    size = f"[{','.join(map(str, shape))}]" if shape else ""
    model = parse(f"int8[4,6,5] q, float{size} s", "float[4,6,5] y", text, {"z": zero}, 21)
    derived = gradient(model, "y", "s")
    found = run(derived, {"q": q, "s": scale, str(derived.cotangent): U})
    s, z = scale, zero.astype(np.float32)
    if form == "axis":
        s, z = s[:, None], z[:, None]
    elif form == "blocked":
        s, z = (blocks(v, 1, 4, 6) for v in (s, z))
    each = U.astype(np.float64) * (q - z)
    want = {
        "tensor": each.sum(),
        "axis": each.sum(axis=(0, 2)),
        "blocked": np.stack([each[:, :4].sum(axis=1), each[:, 4:].sum(axis=1)], axis=1),
    }[form]
    np.testing.assert_allclose(found[derived.gradients["s"]], want, rtol=1e-4, atol=1e-2)


# Together


W = np.random.default_rng(3).integers(-128, 128, (3, 2, 3, 3)).astype(np.int8)
MOVED = {
    "conv": ("double[1,2,6,5]", W, "Conv<pads=[1,1,1,1]>(x, w)"),
    "conv stride": ("double[1,2,6,5]", W, "Conv<strides=[2,2]>(x, w)"),
    "matmul": ("double[2,5,9]", W.reshape(6, 9).T.copy(), "MatMul(x, w)"),
}


@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("zero", [0, 5])
@pytest.mark.parametrize("what", MOVED)
def test_weights_of_int8_are_turned_as_they_are(what: str, zero: int, opset: int) -> None:
    """ONNX Runtime's optimiser would take what a backward product makes of them for uint8, or fail."""
    kind, w, call = MOVED[what]
    inputs, output = f"{kind.replace('double', 'float')} x", "float[] y"
    text = (
        f"w = DequantizeLinear(q, s, z) a = {call} b = QuantizeLinear(a, t, o) y = DequantizeLinear(b, t, o)"
    )
    weights = {"q": w, "s": np.array(0.01, np.float32), "z": np.array(zero, np.int8)}
    ends = {"t": np.array(0.05, np.float32), "o": np.array(0, np.int8)}
    model = parse(inputs, output, text, weights | ends, opset)
    real = (w.astype(np.float64) - zero) * 0.01
    twin = parse(f"{kind} x", "double[] y", f"y = {call}", {"w": real})
    x = np.random.default_rng(4).standard_normal([int(size) for size in kind[7:-1].split(",")])
    (exact,) = run(twin, {"x": x}).values()
    u = np.random.default_rng(5).standard_normal(exact.shape)
    inside = np.abs(np.round(exact / 0.05) + 0.5) < 128
    back = gradient(twin, "y", "x")
    (want,) = run(back, {"x": x, str(back.cotangent): u * inside}).values()
    derived = gradient(model, "y", "x")
    feeds = {"x": x.astype(np.float32), str(derived.cotangent): u.astype(np.float32)}
    (dx,) = on_runtime(derived.proto(), feeds)
    np.testing.assert_allclose(dx, want, atol=1e-4 * np.abs(want).max())


DYNAMIC = (
    "q, t, o = DynamicQuantizeLinear(x) z = MatMulInteger(q, w, o, zw) c = Cast<to=1>(z) "
    "k = Mul(t, sw) y = Mul(c, k)"
)


@pytest.mark.parametrize("body", [DYNAMIC, "y = com.microsoft.DynamicQuantizeMatMul(x, w, sw, zw)"])
def test_dynamic_quantisation_is_straight_through(body: str) -> None:
    """dx = u W^T: the scale of x counts as a constant."""
    w = W.reshape(6, 9)[:, :4].T.copy()
    weights = {"w": w, "zw": np.array(3, np.int8), "sw": np.array(0.02, np.float32)}
    model = parse("float[2,4] x", "float[2,6] y", body, weights)
    derived = gradient(model, "y", "x")
    assert derived.rules == "straight-through"
    u = np.random.default_rng(1).standard_normal((2, 6)).astype(np.float32)
    x = np.random.default_rng(2).standard_normal((2, 4)).astype(np.float32)
    (dx,) = on_runtime(derived.proto(), {"x": x, str(derived.cotangent): u})
    np.testing.assert_allclose(dx, u @ ((w.astype(np.float32) - 3) * 0.02).T, rtol=1e-4)


@pytest.mark.parametrize(
    "move",
    [
        "MaxPool<kernel_shape=[2,2], strides=[2,2]>(q)",
        "Transpose<perm=[0,2,3,1]>(q)",
        "Flatten(q)",
        "Slice(q, one, four, two)",
        "Concat<axis=1>(q, q)",
        "Unsqueeze(q, one)",
        "Gather<axis=2>(q, four)",
    ],
)
def test_integers_are_moved_as_floats_are(move: str) -> None:
    ints = {"one": [1], "two": [2], "four": [4]}
    weights = {name: np.array(v, np.int64) for name, v in ints.items()}
    weights |= {"s": np.array(0.05, np.float32), "z": np.array(128, np.uint8)}
    text = f"q = QuantizeLinear(x, s, z) m = {move} y = DequantizeLinear(m, s, z)"
    model = parse("float[2,3,6,6] x", "float[] y", text, weights)
    twin = parse("double[2,3,6,6] q", "double[] y", f"y = {move}", weights)
    x = np.random.default_rng(2).permutation(216).reshape(2, 3, 6, 6) * 0.05 - 5
    (exact,) = run(twin, {"q": x}).values()
    u = np.random.default_rng(1).standard_normal(exact.shape)
    back, derived = gradient(twin, "y", "q"), gradient(model, "y", "x")
    (want,) = run(back, {"q": x, str(back.cotangent): u}).values()
    feeds = {"x": x.astype(np.float32), str(derived.cotangent): u.astype(np.float32)}
    (dx,) = on_runtime(derived.proto(), feeds)
    np.testing.assert_allclose(dx, want, atol=1e-5)


def test_integer_input_of_a_quantised_operator_is_taken_for_a_number() -> None:
    """No float lies behind it until the very end."""
    weights = {"w": W, "z": np.array(0, np.uint8), "zw": np.array(0, np.int8)}
    weights |= {name: np.array(0.01, np.float32) for name in ("s", "t")}
    text = "q = QLinearConv(p, s, z, w, t, zw, s, z) y = DequantizeLinear(q, s, z)"
    derived = gradient(parse("uint8[1,2,5,5] p", "float[] y", text, weights), "y", "p")
    assert derived.taken_at == {"p": "p"}
    assert derived.outputs[0].dtype == "float32"


def test_blocked_layout_is_refused() -> None:
    text = "r = com.microsoft.nchwc.ReorderOutput<channels=3>(x) y = Relu(r)"
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18, "com.microsoft.nchwc": 1]> '
        f"m (float[1,8,4,4] x) => (float[] y) {{ {text} }}"
    )
    message = r"ReorderOutput node 'r' is in the blocked layout .* save the model with ORT_ENABLE_EXTENDED"
    with pytest.raises(UnsupportedOperator, match=message):
        gradient(proto, "y", "x")


def test_scale_of_a_quantised_operator() -> None:
    """y = sigmoid / t, dequantised by s: dy/dt = -s sigmoid / t^2 within the range."""
    text = "q = com.microsoft.QLinearSigmoid(a, s, z, t, z) y = DequantizeLinear(q, s, z)"
    weights = {"z": np.array(0, np.uint8), "s": np.array(0.01, np.float32)}
    derived = gradient(parse("uint8[4] a, float t", "float[4] y", text, weights), "y", "t")
    a = np.array([0, 50, 100, 250], np.uint8)
    t = np.float32(0.0039)
    feeds = {"a": a, "t": np.array(t), str(derived.cotangent): np.ones(4, np.float32)}
    sigmoid = 1 / (1 + np.exp(-0.01 * a.astype(np.float64)))
    inside = np.round(sigmoid / t) < 255
    (found,) = onnxruntime.InferenceSession(derived.serialize()).run(["t_grad"], feeds)
    np.testing.assert_allclose(found, -(0.01 * sigmoid * inside).sum() / t**2, rtol=1e-3)
