import dataclasses
import json
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.inliner
import pytest
from graph.nets import listing, net, noise, run, session, watched
from onnx import TensorProto, helper, numpy_helper

from onnxviz import samples
from onnxviz.errors import ModelError, OutputError, SelectorError
from onnxviz.graph.expose import cut, expose
from onnxviz.graph.model import Derivative, Model, format_shape, load

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
LIGHT_NAMES = [path.stem.removeprefix("light_") for path in sorted(LIGHT.glob("*.onnx"))]

RELU = "(float[N,3] x) => (float[N,3] y) { h = Neg(x) y = Relu(h) }"


def relu(**fields):
    model = net(RELU)
    for name, value in fields.items():
        setattr(model, name, value)
    return model


# --- what is loaded, and how ---------------------------------------------------------------------------


def test_a_path_a_string_and_a_proto_are_the_same_model(tmp_path):
    proto = relu(producer_name="maker", doc_string="what it does")
    proto.metadata_props.add(key="author", value="me")
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    given = [load(path), load(str(path)), load(proto)]
    assert [model.path for model in given] == [path, path, None]
    assert len({model.serialize() for model in given}) == 1
    for model in given:
        assert model.metadata == {"author": "me"}
        assert model.ir_model.producer_name == "maker"
        assert model.ir_model.doc_string == "what it does"
        assert [str(value) for value in (*model.inputs, *model.outputs)] == [
            "x float32[N,3]",
            "y float32[N,3]",
        ]


def test_a_model_passes_through():
    model = load(relu())
    assert load(model) is model


def test_the_proto_given_is_not_changed():
    weights = noise(40, 40)
    text = "(float[-1,40] x, float[40,40] w) => (float[N,40] y) { h = MatMul(x, w) y = Clip<min=0.0>(h) }"
    proto = net(text, opset=9, ir=4, w=weights)
    before = proto.SerializeToString(deterministic=True)
    model = load(proto)
    _ = (
        model.layers,
        model.serialize(),
        expose(model, "h"),
        cut(model, "h", "y"),
        model.resized({"x": [2, 40]}),
    )
    assert proto.SerializeToString(deterministic=True) == before


def test_the_file_is_not_changed(tmp_path):
    path = tmp_path / "squeezenet.onnx"
    before = samples.sample_model().read_bytes()
    path.write_bytes(before)
    model = load(path)
    _ = model.layers
    expose(model, "conv1").save(tmp_path / "conv1.onnx")
    with pytest.raises(OutputError):
        model.save(path)
    assert path.read_bytes() == before


def test_a_model_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(relu()).path = Path("elsewhere")


# --- files that are no models --------------------------------------------------------------------------


def one_line(path, words=""):
    with pytest.raises(ModelError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert words in message


def test_a_missing_file(tmp_path):
    one_line(tmp_path / "no.onnx", "No such file")


def test_a_folder(tmp_path):
    one_line(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a model\n",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4956208\n",
        b"\x08\x08",  # nothing but the version
        helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 2]).SerializeToString(),
        onnx.GraphProto(name="g", doc_string="a graph alone").SerializeToString(),
        onnx.ValueInfoProto(name="v").SerializeToString(),
    ],
    ids=["empty", "text", "png", "git-lfs", "version", "tensor", "graph", "value"],
)
def test_a_file_that_is_no_model(tmp_path, content):
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    one_line(path)


def test_an_empty_file_holds_no_graph(tmp_path):
    (tmp_path / "empty.onnx").touch()
    one_line(tmp_path / "empty.onnx", "is not an ONNX model, or it is truncated: it holds no graph")


def test_a_truncated_file(tmp_path):
    whole = samples.sample_model().read_bytes()
    path = tmp_path / "short.onnx"
    rng = np.random.default_rng(0)
    cuts = [
        1,
        2,
        10,
        100,
        1000,
        len(whole) // 2,
        len(whole) - 20_000,
        *rng.integers(3, len(whole) - 40_000, 30),
    ]
    for length in cuts:
        path.write_bytes(whole[: int(length)])
        one_line(path)


def test_a_graph_that_contradicts_itself(tmp_path):
    path = tmp_path / "odd.onnx"
    twice = net("(float[2] x) => (float[2] y) { y = Relu(x) }")
    twice.graph.node.append(helper.make_node("Neg", ["x"], ["y"]))
    circle = net("(float[2] x) => (float[2] y) { a = Add(x, b) b = Relu(a) y = Neg(b) }")
    for model in (twice, circle):
        path.write_bytes(model.SerializeToString())
        one_line(path, "the graph cannot be read")


def test_an_operator_that_onnx_has_dropped(tmp_path):
    """ONNX Runtime still runs it in opset 7, but it has no meaning in a later one."""
    path = tmp_path / "m.onnx"
    proto = net("(float[1,3,2,2] x) => (float[1,3,2,2] y) { y = ImageScaler<scale = 0.5>(x) }", opset=7, ir=3)
    proto.graph.node[0].name = "scaler"
    path.write_bytes(proto.SerializeToString())
    one_line(
        path, "ImageScaler (node 'scaler') is no operator of ONNX, so the model's opset 7 cannot be raised"
    )


def test_a_proto_that_cannot_be_read_is_called_the_model():
    circle = net("(float[2] x) => (float[2] y) { a = Add(x, b) b = Relu(a) y = Neg(b) }")
    with pytest.raises(ModelError, match=r"^the model: the graph cannot be read: "):
        load(circle)


def test_a_model_without_an_opset(tmp_path):
    model = relu()
    del model.opset_import[:]
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    one_line(path, "it says no opset")
    with pytest.raises(ModelError, match="it says no opset"):
        load(model)


# --- opsets --------------------------------------------------------------------------------------------


def test_a_model_of_custom_operators_alone():
    proto = net("(float[2,3] x) => (float[2,3] y) { y = com.microsoft.Gelu(x) }")
    del proto.opset_import[:]
    proto.opset_import.add(domain="com.microsoft", version=1)
    model = load(proto)
    assert model.opset == 18
    x = noise(2, 3)
    np.testing.assert_array_equal(run(model.serialize(), {"x": x})["y"], run(proto, {"x": x})["y"])


@pytest.mark.parametrize("version", [11, 18])
def test_the_long_name_of_the_default_domain(version):
    axes = "<axes = [1]>" if version == 11 else ""
    proto = net(f"(float[2,1,3] x) => (float[2,3] y) {{ h = Squeeze{axes}(x) y = Relu(h) }}", opset=version)
    proto.opset_import[0].domain = "ai.onnx"
    for node in proto.graph.node:
        node.domain = "ai.onnx"
    model = load(proto)
    assert model.opset == 18
    assert [layer.op for layer in model.layers] == ["Squeeze", "Relu"]
    x = noise(2, 1, 3)
    np.testing.assert_array_equal(run(model.serialize(), {"x": x})["y"], np.maximum(x[:, 0], 0))


@pytest.mark.parametrize("opset", [18, 19, 21, 23])
def test_a_newer_opset_stays(opset):
    model = load(net(RELU, opset=opset, ir=10))
    assert (model.opset, model.ir_model.ir_version) == (opset, 10)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17])
def test_an_older_opset_is_raised(opset):
    model = load(net(RELU, opset=opset, ir=3))
    assert (model.opset, model.ir_model.ir_version) == (18, 8)


def light(name):
    return onnx.load(LIGHT / f"light_{name}.onnx")


def data_input(model):
    weights = {tensor.name for tensor in model.graph.initializer}
    (data,) = [value for value in model.graph.input if value.name not in weights]
    return data.name, [dim.dim_value for dim in data.type.tensor_type.shape.dim]


def with_random_weights(model, seed=0):
    """The light models make their weights up, all 0.02: put numbers there that tell them apart."""
    rng = np.random.default_rng(seed)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    variances = {node.input[4] for node in model.graph.node if node.op_type == "BatchNormalization"}
    kept = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            shape = shapes[node.input[0]]
            numbers = rng.standard_normal(shape, dtype=np.float32) * np.sqrt(2 / max(1, np.prod(shape[1:])))
            if node.output[0] in variances:
                numbers = np.abs(numbers) + 0.5
            array = numbers.astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.ir_version = 4
    return model


def test_the_onnx_wheel_has_its_nine_models():
    assert len(LIGHT_NAMES) == 9


@pytest.mark.parametrize("name", LIGHT_NAMES)
def test_the_models_of_the_onnx_wheel_are_raised(name):
    """Each layer keeps its name and its numbers."""
    proto = light(name)
    assert (proto.ir_version, proto.opset_import[0].version) == (3, 9)
    model = load(LIGHT / f"light_{name}.onnx")
    assert model.opset == 18
    where, shape = data_input(proto)
    assert [(value.name, value.shape) for value in model.inputs] == [(where, (1, 3, 224, 224))]
    assert {node.op_type for node in proto.graph.node} - {"ConstantOfShape", "Unsqueeze"} <= {
        layer.op for layer in model.layers
    }
    convolutions = [layer.tensor for layer in model.layers if layer.op == "Conv"]
    logits = next(node.input[0] for node in reversed(proto.graph.node) if node.op_type in ("Softmax", "Conv"))
    seen = [convolutions[0], logits]
    feeds = {where: noise(*shape)}
    before, after = run(watched(proto, seen), feeds, seen), run(expose(model, seen).serialize(), feeds)
    for tensor in seen:
        scale = np.abs(before[tensor]).max()
        np.testing.assert_allclose(after[tensor], before[tensor], rtol=1e-5, atol=1e-6 * scale)
    assert np.unique(before[convolutions[0]]).size > 1000


@pytest.mark.parametrize("name", ["densenet121", "inception_v2", "resnet50", "shufflenet", "squeezenet"])
def test_the_models_of_the_onnx_wheel_with_random_weights(name):
    proto = with_random_weights(light(name))
    where, shape = data_input(proto)
    last = proto.graph.node[-1]
    logits = last.input[0] if last.op_type == "Softmax" else last.output[0]
    feeds = {where: noise(*shape)}
    (before,) = run(watched(proto, [logits]), feeds, [logits]).values()
    (after,) = run(expose(proto, logits).serialize(), feeds).values()
    assert np.unique(before).size > 700
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-5 * np.abs(before).max())


X4 = noise(2, 3, 4, 6)
VECTORS = {name: noise(3, seed=seed) for seed, name in enumerate("sbm", start=5)}

# name: (opset, graph, feeds)
LEGACY = {
    "Squeeze-11": (11, "(float[2,1,3] x) => (float[2,3] y) { y = Squeeze<axes=[1]>(x) }", [noise(2, 1, 3)]),
    "Unsqueeze-11": (11, "(float[2,3] x) => (float[2,1,3] y) { y = Unsqueeze<axes=[1]>(x) }", [noise(2, 3)]),
    "Clip-6": (9, "(float[2,3] x) => (float[2,3] y) { y = Clip<min=-0.5, max=0.5>(x) }", [noise(2, 3)]),
    "Clip-6 low": (9, "(float[2,3] x) => (float[2,3] y) { y = Clip<min=-0.5>(x) }", [noise(2, 3)]),
    "Clip-11 high": (11, "(float[2,3] x, float m) => (float[2,3] y) { y = Clip(x, , m) }",
                     [noise(2, 3), np.array(0.5, np.float32)]),
    "Clip-11 half": (11, "(float16[2,3] x) => (float16[2,3] y) <float16 m = {1}> { y = Clip(x, , m) }",
                     [noise(2, 3).astype(np.float16)]),
    "ReduceMean-13": (13, "(float[2,3,4] x) => (float[2,3,1] y) { y = ReduceMean<axes=[-1]>(x) }",
                      [noise(2, 3, 4)]),
    "ReduceMean-13 all": (13, "(float[2,3] x) => (float[] y) { y = ReduceMean<keepdims=0>(x) }",
                          [noise(2, 3)]),
    "ReduceSum-11": (11, "(float[2,3,4] x) => (float[2,4] y) { y = ReduceSum<axes=[1], keepdims=0>(x) }",
                     [noise(2, 3, 4)]),
    "Softmax-11 front": (11, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }", [noise(2, 3, 4)]),
    "Softmax-11 pixel": (11, "(float[2,3,1,1] x) => (float[2,3,1,1] y) { y = Softmax(x) }",
                         [noise(2, 3, 1, 1)]),
    "Softmax-11 last": (11, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=2>(x) }",
                        [noise(2, 3, 4)]),
    "Softmax-11 symbol": (11, "(float[N,C,4] x) => (float[N,C,4] y) { y = Softmax<axis=-2>(x) }",
                          [noise(2, 3, 4)]),
    "LogSoftmax-11": (11, "(float[2,3,4] x) => (float[2,3,4] y) { y = LogSoftmax(x) }", [noise(2, 3, 4)]),
    "Hardmax-11 front": (11, "(float[2,3,4] x) => (float[2,3,4] y) { y = Hardmax(x) }", [noise(2, 3, 4)]),
    "Hardmax-9 pixel": (9, "(float[2,3,1,1] x) => (float[2,3,1,1] y) { y = Hardmax(x) }",
                        [noise(2, 3, 1, 1)]),
    "Hardmax-11 last": (11, "(float[2,3,4] x) => (float[2,3,4] y) { h = Hardmax<axis=2>(x) y = Add(h, x) }",
                        [noise(2, 3, 4)]),
    "Hardmax-12 inner": (12, """(float[2,3,4] x, bool c) => (float[2,3,4] y) { y = If(c) <
        then_branch = t () => (float[2,3,4] a) { a = Hardmax<axis=-2>(x) },
        else_branch = e () => (float[2,3,4] b) { b = Neg(x) }> }""", [noise(2, 3, 4), np.array(True)]),
    "Hardmax-13": (13, "(float[2,3,4] x) => (float[2,3,4] y) { y = Hardmax(x) }", [noise(2, 3, 4)]),
    "Hardmax-13 front": (13, "(float[2,3,4] x) => (float[2,3,4] y) { y = Hardmax<axis=1>(x) }",
                         [noise(2, 3, 4)]),
    "Resize-11": (11, """(float[2,3,4,6] x, float[8] r) => (float[2,3,a,b] y) <float[4] s = {1, 1, 2, 2}>
        { y = Resize<mode="linear">(x, r, s) }""", [X4, np.zeros(8, np.float32)]),
    "Dropout-7": (9, "(float[2,3] x) => (float[2,3] y) { y = Dropout<ratio=0.3>(x) }", [noise(2, 3)]),
    "Dropout-10 mask": (11, "(float[2,3] x) => (float[2,3] y) { y, m = Dropout<ratio=0.3>(x) }",
                        [noise(2, 3)]),
    "BatchNormalization-9": (9, """(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v)
        => (float[2,3,4] y) { y = BatchNormalization<epsilon=0.01>(x, s, b, m, v) }""",
                             [noise(2, 3, 4), *VECTORS.values(), np.array([1, 2, 3], np.float32)]),
    "BatchNormalization-7": (7, """(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v)
        => (float[2,3,4] y) { y = BatchNormalization<epsilon=0.01>(x, s, b, m, v) }""",
                             [noise(2, 3, 4), *VECTORS.values(), np.array([1, 2, 3], np.float32)]),
    "InstanceNormalization-6": (9, """(float[2,3,4] x, float[3] s, float[3] b) => (float[2,3,4] y)
        { y = InstanceNormalization(x, s, b) }""", [noise(2, 3, 4), VECTORS["s"], VECTORS["b"]]),
    "LRN-1": (9, "(float[2,3,4,6] x) => (float[2,3,4,6] y) { y = LRN<size=3, alpha=0.5>(x) }", [X4]),
    "Pad-2": (9, "(float[2,3] x) => (float[4,4] y) { y = Pad<pads=[1,0,1,1], value=2.5>(x) }", [noise(2, 3)]),
    "Pad-2 reflect": (9, "(float[2,3] x) => (float[2,6] y) { y = Pad<pads=[0,1,0,2], mode=\"reflect\">(x) }",
                      [noise(2, 3)]),
    "Pad-2 edge": (9, """(float[N,3,H,W] x) => (float[N,3,a,b] y)
        { y = Pad<pads=[0,0,1,1,0,0,1,1], mode="edge">(x) }""", [X4]),
    "Slice-1": (9, """(float[4,6] x) => (float[a,b] y)
        { y = Slice<starts=[1,-4], ends=[3,9223372036854775807], axes=[0,1]>(x) }""", [noise(4, 6)]),
    "Slice-1 all": (9, "(float[4,6] x) => (float[a,b] y) { y = Slice<starts=[1,-4], ends=[3,900]>(x) }",
                    [noise(4, 6)]),
    "Slice-10 back": (10, """(float[4,6] x, int64[1] s, int64[1] e) => (float[a,6] y)
        <int64[1] axes = {0}, int64[1] steps = {-1}> { y = Slice(x, s, e, axes, steps) }""",
                      [noise(4, 6), np.array([3]), np.array([0])]),
    "Flatten-9": (9, "(float[2,3,4] x) => (float[6,4] y) { y = Flatten<axis=2>(x) }", [noise(2, 3, 4)]),
    "Reshape-5": (7, "(float[2,3,4] x, int64[2] s) => (float[a,b] y) { y = Reshape(x, s) }",
                  [noise(2, 3, 4), np.array([0, -1])]),
    "PRelu-7": (7, "(float[2,3,4] x, float[3,1] s) => (float[2,3,4] y) { y = PRelu(x, s) }",
                [noise(2, 3, 4), noise(3, 1)]),
    "Sum-8": (8, "(float[2,3] x, float[3] z) => (float[2,3] y) { y = Sum(x, z, z) }",
              [noise(2, 3), noise(3)]),
    "Split-2": (11, "(float[2,6] x) => (float[2,2] y, float[2,4] z) { y, z = Split<axis=1, split=[2,4]>(x) }",
                [noise(2, 6)]),
    "Split-13 even": (13, "(float[2,6] x) => (float[2,3] y, float[2,3] z) { y, z = Split<axis=1>(x) }",
                      [noise(2, 6)]),
    "TopK-1": (9, "(float[2,6] x) => (float[2,3] y, int64[2,3] z) { y, z = TopK<axis=1, k=3>(x) }",
               [noise(2, 6)]),
    "Scatter-9": (9, "(float[2,3] x, int64[1,3] i, float[1,3] u) => (float[2,3] y) { y = Scatter(x, i, u) }",
                  [noise(2, 3), np.array([[1, 0, 1]]), noise(1, 3, seed=1)]),
    "Gemm-9": (9, "(float[2,3] x, float[4,3] w, float[4] b) => (float[2,4] y) { y=Gemm<transB=1>(x, w, b) }",
               [noise(2, 3), noise(4, 3), noise(4)]),
    "MaxPool-8 indices": (9, """(float[2,3,4,6] x) => (float[2,3,a,b] y, int64[2,3,a,b] i)
        { y, i = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x) }""", [X4]),
    "AveragePool-10 ceil": (10, """(float[2,3,4,6] x) => (float[2,3,a,b] y)
        { y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1, pads=[1,1,1,1]>(x) }""", [X4]),
    "LpPool-2": (9, """(float[2,3,4,6] x) => (float[2,3,a,b] y)
        { y = LpPool<kernel_shape=[2,2], strides=[2,2]>(x) }""", [X4]),
    "RoiAlign-10": (10, """(float[1,3,4,6] x, float[1,4] r, int64[1] i) => (float[1,3,2,2] y)
        { y = RoiAlign<output_height=2, output_width=2, sampling_ratio=2>(x, r, i) }""",
                    [X4[:1], np.array([[1, 1, 4, 3]], np.float32), np.array([0])]),
    "GRU-7": (9, """(float[5,2,3] x, float[1,12,3] w, float[1,12,4] r) => (float[5,1,2,4] y)
        { y = GRU<hidden_size=4>(x, w, r) }""", [noise(5, 2, 3), noise(1, 12, 3), noise(1, 12, 4)]),
    "If-11": (11, """(float[2,1,3] x, bool c) => (float[2,3] y) { y = If(c) <
        then_branch = t () => (float[2,3] a) { a = Squeeze<axes=[1]>(x) },
        else_branch = e () => (float[2,3] b) { q = Squeeze<axes=[1]>(x) b = Neg(q) }> }""",
              [noise(2, 1, 3), np.array(False)]),
    "Loop-11": (11, """(float[2,1] x, int64 n, bool c) => (float[2,1] y) { y = Loop(n, c, x) <
        body = b (int64 i, bool go, float[2,1] s) => (bool on, float[2,1] s2)
        { on = Identity(go) q = Squeeze<axes=[1]>(s) q2 = Unsqueeze<axes=[1]>(q) s2 = Add(q2, x) }> }""",
                [noise(2, 1), np.array(3), np.array(True)]),
    "Scan-9": (10, """(float[2] s, float[3,2] x) => (float[2] y, float[3,2] z) { y, z = Scan<
        num_scan_inputs = 1, body = b (float[2] a, float[2] e) => (float[2] a2, float[2] z2)
        { a2 = Add(a, e) z2 = Clip<min=0.0>(a2) }>(s, x) }""", [noise(2), noise(3, 2)]),
    "Scan-8": (8, """(float[2,3] s, float[2,4,3] x) => (float[2,3] y, float[2,4,3] z) { y, z = Scan<
        num_scan_inputs = 1, body = b (float[3] a, float[3] e) => (float[3] a2, float[3] z2)
        { a2 = Add(a, e) z2 = Exp(e) }>("", s, x) }""", [noise(2, 3), noise(2, 4, 3)]),
    "Scan-8 backward": (8, """(float[N,2,2] s, float[N,T,2,2] x, float[N,T] w, float[2] c)
        => (float[N,T,2] u, float[N,T,2,2] z) { h = Neg(s) y, z, u = Scan<
        num_scan_inputs = 2, directions = [0, 1],
        body = b (float[2,2] a, float[2,2] e, float f) => (float[2,2] a2, float[2,2] z2, float[2] u2)
        { g = Add(a, e) a2 = Mul(g, f) z2 = Hardmax(a2) d = Sub(e, c)
        u2 = ReduceSum<axes=[0], keepdims=0>(d) }
        >("", h, x, w) }""", [noise(2, 2, 2), noise(2, 3, 2, 2), noise(2, 3), noise(2)]),
    "Scan-8 twice": (8, """(float[1,2] s, float[1,3,2] x) => (float[1,3,2] y) { t, z = Scan<
        num_scan_inputs = 1, body = b (float[2] a, float[2] e) => (float[2] a2, float[2] z2)
        { a2 = Add(a, e) z2 = Exp(a) }>("", s, x) q, y = Scan<
        num_scan_inputs = 1, body = b (float[2] a, float[2] e) => (float[2] a2, float[2] z2)
        { a2 = Mul(a, e) z2 = Add(a, e) }>("", t, z) }""", [noise(1, 2), noise(1, 3, 2)]),
    "custom": (11, "(float[2,3] x) => (float[2,3] y) { h = com.microsoft.Gelu(x) y = Clip(h) }",
               [noise(2, 3)]),
}  # fmt: skip

for _mode in ("nearest", "linear"):
    for _factor in ("2.0", "3.0"):
        LEGACY[f"Upsample-7 {_mode} {_factor}"] = (7, f"""(float[2,3,4,6] x) => (float[2,3,a,b] y)
            {{ y = Upsample<mode="{_mode}", scales=[1.0,1.0,{_factor},{_factor}]>(x) }}""", [X4])  # fmt: skip
    for _factor in ("2", "3", "2.5", "0.5", "0.75", "0.6"):
        _text = f"""(float[N,3,H,W] x) => (float[N,3,a,b] y) <float[4] s = {{1, 1, {_factor}, {_factor}}}>
            {{ y = OPERATOR<mode="{_mode}">(x, s) }}"""
        LEGACY[f"Resize-10 {_mode} {_factor}"] = (10, _text.replace("OPERATOR", "Resize"), [X4])
        if float(_factor) > 1:
            LEGACY[f"Upsample-9 {_mode} {_factor}"] = (9, _text.replace("OPERATOR", "Upsample"), [X4])


@pytest.mark.parametrize("case", LEGACY)
def test_an_old_operator_answers_as_before(case):
    opset, text, arrays = LEGACY[case]
    proto = net(text, opset=opset, ir=3 if opset < 9 else 5)
    feeds = dict(zip([value.name for value in proto.graph.input], arrays, strict=False))
    model = load(proto)
    onnx.checker.check_model(model.proto()) if "custom" not in case else None
    before, after = run(proto, feeds), run(model.serialize(), feeds)
    assert list(before) == list(after)
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-5, atol=1e-6)


def test_scan_of_sequences_of_several_lengths_is_refused():
    proto = net(
        """(float[2,3] s, float[2,4,3] x, int64[2] n)
        => (float[2,3] last, float[2,4,3] z) { last, z = Scan<
        num_scan_inputs = 1, body = b (float[3] a, float[3] e) => (float[3] a2, float[3] z2)
        { a2 = Add(a, e) z2 = Exp(e) }>(n, s, x) }""",
        opset=8,
        ir=3,
    )
    with pytest.raises(
        ModelError, match=r"Scan \(node 'last'\) .* lengths \('n'\) .* export the model again"
    ):
        load(proto)


def test_resize_of_scales_that_are_computed_answers_as_before():
    text = '(float[2,3,4,6] x, float[4] s) => (float[a,b,c,d] y) { y = Resize<mode="linear">(x, s) }'
    proto = net(text, opset=10, ir=5)
    feeds = {"x": X4, "s": np.array([1, 1, 1.5, 2], np.float32)}
    np.testing.assert_allclose(run(load(proto).serialize(), feeds)["y"], run(proto, feeds)["y"], atol=1e-6)


def test_resize_of_a_newer_opset_keeps_its_modes():
    text = """(float[1,3,4,6] x) => (float[1,3,a,b] y) <float[4] s = {1, 1, 2, 2}>
        { y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(x, , s) }"""
    proto = net(text, opset=13)
    np.testing.assert_array_equal(
        run(load(proto).serialize(), {"x": X4[:1]})["y"], run(proto, {"x": X4[:1]})["y"]
    )


# --- functions, weights, shapes ------------------------------------------------------------------------


def test_local_functions_are_inlined():
    proto = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["": 18, "l": 1]>
        net (float[2,3] x) => (float[2,3] y) { h = l.outer(x) y = l.outer(h) }
        <domain: "l", opset_import: ["": 18, "l": 1]>
        outer (a) => (b) { t = l.inner<alpha = 0.5>(a) b = Add(t, a) }
        <domain: "l", opset_import: ["": 18]>
        inner <alpha: float = 0.1> (a) => (b) { b = LeakyRelu<alpha: float = @alpha>(a) }
    """)
    model = load(proto)
    assert not model.proto().functions
    assert [layer.op for layer in model.layers] == ["LeakyRelu", "Add", "LeakyRelu", "Add"]
    x = noise(2, 3)
    slope = lambda a: np.where(a < 0, a * np.float32(0.5), a) + a  # noqa: E731
    np.testing.assert_allclose(run(model.serialize(), {"x": x})["y"], slope(slope(x)), rtol=1e-6)
    np.testing.assert_array_equal(run(model.serialize(), {"x": x})["y"], run(proto, {"x": x})["y"])


def test_local_functions_of_an_old_opset_are_inlined_and_raised():
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 11, "l": 1]>
        net (float[2,3] x) => (float[2,3] y) { z = l.f(x) y = Clip(z) }
        <domain: "l", opset_import: ["": 11]>
        f (a) => (b) { t = ReduceSum<axes=[1]>(a) b = Add(t, a) }
    """)
    x = noise(2, 3)
    model = load(proto)
    assert (model.opset, len(model.proto().functions)) == (18, 0)
    np.testing.assert_allclose(run(model.serialize(), {"x": x})["y"], x + x.sum(1, keepdims=True), rtol=1e-5)


def test_a_local_function_of_another_opset_than_the_model():
    """ONNX Runtime refuses to mix them; the standard does not."""
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18, "l": 1]>
        net (float[2,3] x) => (float[2,3] y) { z = l.f(x) y = Clip(z) }
        <domain: "l", opset_import: ["": 11]>
        f (a) => (b) { t = ReduceSum<axes=[1]>(a) b = Add(t, a) }
    """)
    x = noise(2, 3)
    found = run(load(proto).serialize(), {"x": x})["y"]
    np.testing.assert_allclose(found, x + x.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("size", [3, 4000])
def test_weights_listed_among_the_inputs_are_inputs_no_more(size):
    w = noise(size)
    text = f"(float[N,{size}] x, float[{size}] w) => (float[N,{size}] y) {{ y = Mul(x, w) }}"
    proto = net(text, ir=3, opset=9, w=w)
    model = load(proto)
    assert [value.name for value in model.inputs] == ["x"]
    assert [value.name for value in model.proto().graph.input] == ["x"]
    x = noise(2, size, seed=1)
    np.testing.assert_array_equal(run(model.serialize(), {"x": x})["y"], x * w)


def test_sparse_weights_become_dense():
    proto = net("(float[2,3] x) => (float[2,3] y) { h = Add(x, w) y = Mul(h, v) }")
    for name, places in (("w", [[1, 0], [1, 2]]), ("v", [0, 4])):
        values = helper.make_tensor(name, TensorProto.FLOAT, [2], [5, 7])
        indices = numpy_helper.from_array(np.array(places), f"{name}_places")
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
    x = noise(2, 3)
    expected = (x + np.array([[0, 0, 0], [5, 0, 7]])) * np.array([[5, 0, 0], [0, 7, 0]])
    np.testing.assert_allclose(run(load(proto).serialize(), {"x": x})["y"], expected, rtol=1e-6)
    np.testing.assert_allclose(run(proto, {"x": x})["y"], expected, rtol=1e-6)


def test_nodes_in_any_order():
    model = load(net("(float[N,3] x) => (float[N,3] y) { y = Relu(g) g = Identity(h) h = Neg(x) }"))
    assert [layer.op for layer in model.layers] == ["Neg", "Identity", "Relu"]
    assert [layer.shape for layer in model.layers] == [("N", 3)] * 3
    assert cut(model, "h", "y").crossing == ()
    np.testing.assert_array_equal(run(model.serialize(), {"x": [[-1, 2, -3]]})["y"], [[1, 0, 3]])


def test_negative_sizes_become_unknown_and_symbols_survive():
    model = load(net("(float[-1,3,H,W] x) => (float[-1,4,a,b] y) { y = Conv(x, w) }", w=noise(4, 3, 1, 1)))
    assert model.inputs[0].shape == (None, 3, "H", "W")
    assert str(model.inputs[0]) == "x float32[?,3,H,W]"
    batch, *others = model.outputs[0].shape
    assert not isinstance(batch, int)
    assert others == [4, "a", "b"]


@pytest.mark.parametrize("opset", [11, 18])
def test_symbols_survive_a_rewrite(opset):
    model = load(
        net("(float[batch,3,H,W] x) => (float[batch,3,H,W] y) { h = Relu(x) y = Clip(h) }", opset=opset)
    )
    for answer in (model, expose(model, "h"), cut(model, "h", "y").tail):
        assert answer.inputs[0].shape == ("batch", 3, "H", "W")
        assert answer.outputs[0].shape == ("batch", 3, "H", "W")


def test_shapes_are_inferred_through_small_weights():
    text = "(float[N,6,4] x) => (float[a,b,c] y) { h = Reshape(x, s) y = Relu(h) }"
    assert load(net(text, s=np.array([0, 3, 8]))).layers[0].shape == ("N", 3, 8)


def test_shapes_are_inferred_through_computed_shapes():
    text = """(float[4,3,5] x) => (float[a,b] y) {
        shape = Shape(x)
        first = Slice(shape, zero, one)
        target = Concat<axis = 0>(first, rest)
        h = Reshape(x, target)
        y = Relu(h)
    }"""
    model = load(net(text, zero=np.array([0]), one=np.array([1]), rest=np.array([-1])))
    assert [layer.shape for layer in model.layers] == [(4, 15), (4, 15)]


def test_a_declared_shape_that_contradicts_the_graph_is_not_believed():
    proto = net("(float[N,6,4] x) => (float[a,b,c] y) { h = Sigmoid(x) y = Exp(h) }")
    proto.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 4, 6]))
    assert load(proto).layers[0].shape == ("N", 6, 4)


def test_a_declared_shape_that_cannot_be_inferred_is_believed():
    proto = net("(float[N,6,4] x, int64[r] s) => (float[a,b,c] y) { h = Reshape(x, s) y = Exp(h) }")
    proto.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 8, 3]))
    assert load(proto).layers[0].shape == ("N", 8, 3)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_resize_by_a_rounded_scale_has_the_size_that_the_runtime_makes(mode):
    scales = np.array([1, 1, 5 / 3, 3], np.float32)
    text = f'(float[1,2,3,3] x) => (float[a,b,c,d] y) {{ y = Resize<mode="{mode}">(x, , scales) }}'
    model = load(net(text, scales=scales))
    assert model.outputs[0].shape == (1, 2, 5, 9)
    x = {"x": noise(1, 2, 3, 3)}
    np.testing.assert_array_equal(run(model.proto(), x)["y"], run(net(text, scales=scales), x)["y"])


def test_a_resize_whose_scale_no_size_gives_keeps_it():
    text = "(float[1,2,3,3] x) => (float[a,b,c,d] y) { y = Resize(x, , scales) }"
    model = load(net(text, scales=np.array([1, 1, 1.5, 1.6666666], np.float32)))
    assert [value and value.name for value in model.ir_model.graph[0].inputs] == ["x", None, "scales"]


def test_an_empty_axis_stays_empty():
    assert load(net("(float[0,3] x) => (float[0,3] y) { y = Relu(x) }")).inputs[0].shape == (0, 3)


def test_types_have_numpy_names():
    text = (
        "(bfloat16[2] a, float16[2] b, uint8[2] c, string[2] d, bool e) => (float[2] y) { y = Cast<to=1>(b) }"
    )
    model = load(net(text))
    assert [value.dtype for value in model.inputs] == ["bfloat16", "float16", "uint8", "string", "bool"]
    assert np.dtype(ml_dtypes.bfloat16).name == "bfloat16"
    assert model.inputs[4].shape == ()


def test_what_is_no_tensor_has_a_type_and_no_shape():
    model = load(net("(seq(float[N]) s, int64 i) => (float[N] y) { y = SequenceAt(s, i) }"))
    assert "float" in model.inputs[0].dtype
    assert model.inputs[0].shape is None


@pytest.mark.parametrize(
    ("shape", "text"), [(None, "[...]"), ((), "[]"), (("N", 3, None), "[N,3,?]"), ((0, 1), "[0,1]")]
)
def test_shapes_as_people_write_them(shape, text):
    assert format_shape(shape) == text


def test_a_tensor_by_name():
    model = load(
        net("(float[2] data) => (float[2] y) { hidden = Mul(data, w) y = Relu(hidden) }", w=noise(2))
    )
    assert sorted(model.tensors) == ["data", "hidden", "w", "y"]
    assert model.tensor("hidden").producer().op_type == "Mul"
    assert model.tensor("w").is_initializer()
    with pytest.raises(SelectorError, match=r"no tensor 'hiden' in this model; did you mean 'hidden'\?"):
        model.tensor("hiden")


# --- other sizes ---------------------------------------------------------------------------------------

CONVS = """(float[1,3,8,8] x) => (float[1,4,4,4] y) {
    h = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1)
    r = Relu(h)
    y = Conv(r, w2)
}"""


def convs():
    return net(CONVS, w1=noise(6, 3, 3, 3), w2=noise(4, 6, 1, 1))


def test_resized_infers_every_shape_anew():
    model = load(convs())
    larger = model.resized({"x": ["N", 3, 10, None]})
    assert larger.inputs[0].shape == ("N", 3, 10, None)
    assert [layer.shape[:3] for layer in larger.layers] == [("N", 6, 5), ("N", 6, 5), ("N", 4, 5)]
    assert model.inputs[0].shape == (1, 3, 8, 8)
    assert [value.name for value in larger.inputs] == ["x"]
    x = noise(2, 3, 10, 12)
    bare = convs()
    for value in (*bare.graph.input, *bare.graph.output):
        value.type.tensor_type.ClearField("shape")
    np.testing.assert_array_equal(run(larger.serialize(), {"x": x})["y"], run(bare, {"x": x})["y"])


def test_resized_reads_small_weights():
    text = "(float[2,6,4] x) => (float[a,b,c] y) { h = Reshape(x, s) y = Relu(h) }"
    larger = load(net(text, s=np.array([0, 3, -1]))).resized({"x": [5, 6, 8]})
    assert [layer.shape for layer in larger.layers] == [(5, 3, 16), (5, 3, 16)]


def test_resized_wants_an_input_of_that_name():
    with pytest.raises(SelectorError, match=r"no input 'X' in this model; did you mean 'x'\?"):
        load(convs()).resized({"X": [1, 3, 8, 8]})


# --- saving --------------------------------------------------------------------------------------------


def test_a_serialised_model_runs_as_the_file():
    x = noise(1, 3, 227, 227)
    model = load(samples.sample_model())
    before = session(str(samples.sample_model())).run(None, {"input": x})
    after = session(model.serialize()).run(None, {"input": x})
    np.testing.assert_array_equal(after, before)


def test_a_saved_model_is_loaded_again(tmp_path):
    model = load(convs())
    model.save(tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    assert again.serialize() == model.serialize()
    assert again.layers == model.layers
    assert listing(tmp_path) == ["m.onnx"]


def test_the_source_is_never_overwritten(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(convs(), path)
    before = path.read_bytes()
    model = load(path)
    os.link(path, tmp_path / "again.onnx")
    for target in (path, str(path), tmp_path / "again.onnx"):
        for version in (
            model,
            expose(model, "r"),
            model.resized({"x": [2, 3, 8, 8]}),
            cut(model, "r", "y").tail,
        ):
            with pytest.raises(OutputError, match="is the model itself, which is never changed"):
                version.save(target)
    assert path.read_bytes() == before


def test_another_file_is_replaced_whole(tmp_path):
    path = tmp_path / "out.onnx"
    path.write_bytes(b"old")
    load(convs()).save(path)
    assert load(path).outputs[0].shape == (1, 4, 4, 4)


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "out.onnx"
    path.write_bytes(b"old")

    def write_half(self, data):
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OutputError, match=r"out\.onnx: No space left on device; make room"):
        load(convs()).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["out.onnx"]


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="make the folder first"):
        load(convs()).save(tmp_path / "no" / "m.onnx")
    with pytest.raises(OutputError, match="this is a folder"):
        load(convs()).save(tmp_path)


def test_a_model_too_large_for_one_file_puts_its_weights_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxviz.graph.model._PROTOBUF_LIMIT", 100)
    model = load(convs())
    before = model.serialize()
    model.save(tmp_path / "m.onnx")
    assert listing(tmp_path) == ["m.onnx", "m.onnx.data"]
    x = noise(1, 3, 8, 8)
    expected = run(before, {"x": x})["y"]
    np.testing.assert_array_equal(run(str(tmp_path / "m.onnx"), {"x": x})["y"], expected)
    assert model.serialize() == before
    again = load(tmp_path / "m.onnx")
    assert again.weights_folder == tmp_path


# --- what a gradient model says of itself --------------------------------------------------------------


def test_a_gradient_model_says_where_its_gradients_are(tmp_path):
    plain = load(relu())
    assert (plain.gradients, plain.cotangent, plain.taken_at, plain.rules) == ({}, None, {}, None)
    copy = plain.ir_model.clone()
    said = Derivative({"x": "x_grad"}, "y_grad", {"x": "h"}, "gradient")
    said.mark(copy)
    marked = Model(copy)
    assert (marked.gradients, marked.cotangent) == ({"x": "x_grad"}, "y_grad")
    assert (marked.taken_at, marked.rules) == ({"x": "h"}, "gradient")
    assert json.loads(marked.metadata["onnxviz.derivative"])["gradients"] == {"x": "x_grad"}
    marked.save(tmp_path / "g.onnx")
    assert load(tmp_path / "g.onnx").derivative == said
    assert plain.metadata == {}
