"""One small network, exported in the ways in which exporters differ, and broken in known ways."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIZE, CLASSES = 32, 10
MEAN, STD = (0.45, 0.5, 0.4), (0.25, 0.2, 0.3)
FEED = {"color": "RGB", "scale": 1 / 255, "mean": list(MEAN), "std": list(STD)}


def weights(seed=3):
    """The weights of all exports; with a BatchNormalization behind each layer but the last."""
    rng = np.random.default_rng(seed)

    def normal(*shape, fan):
        return (rng.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32)

    def norm(channels):
        return {
            "gamma": rng.uniform(0.6, 1.4, channels).astype(np.float32),
            "beta": rng.uniform(0.0, 0.4, channels).astype(np.float32),
            "mean": rng.normal(0, 0.3, channels).astype(np.float32),
            "var": rng.uniform(0.5, 1.5, channels).astype(np.float32),
        }

    return {
        "stem": (normal(12, 3, 3, 3, fan=27), norm(12)),
        "depthwise": (normal(12, 1, 3, 3, fan=9), norm(12)),
        "pointwise": (normal(20, 12, 1, 1, fan=12), norm(20)),
        "dense": (normal(CLASSES, 20, fan=5), rng.normal(0, 0.1, CLASSES).astype(np.float32)),
    }


LAYERS = {
    "stem": {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    "depthwise": {"pads": [1, 1, 1, 1], "group": 12},
    "pointwise": {},
}


def folded(kernel, norm, epsilon=1e-5):
    """A convolution with its BatchNormalization inside: kernel and bias."""
    scale = norm["gamma"] / np.sqrt(norm["var"] + epsilon)
    return kernel * scale[:, None, None, None], norm["beta"] - norm["mean"] * scale


def plain(values=None, fold=False, opset=18, names="", feed=FEED):
    """The network as PyTorch exports it, its BatchNormalizations kept, or folded."""
    values = values or weights()
    nodes, tensors = [], []

    def keep(name, array):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    x = "image"
    for layer, attributes in LAYERS.items():
        kernel, norm = values[layer]
        name = names + layer
        if fold:
            kernel, bias = folded(kernel, norm)
            inputs = [x, keep(f"{name}.w", kernel), keep(f"{name}.b", bias)]
            nodes.append(helper.make_node("Conv", inputs, [f"{name}/conv"], name=name, **attributes))
            x = f"{name}/conv"
        else:
            inputs = [x, keep(f"{name}.w", kernel)]
            nodes.append(helper.make_node("Conv", inputs, [f"{name}/conv"], name=name, **attributes))
            stats = [keep(f"{name}.{key}", norm[key]) for key in ("gamma", "beta", "mean", "var")]
            nodes.append(
                helper.make_node(
                    "BatchNormalization", [f"{name}/conv", *stats], [f"{name}/bn"], name=f"{name}_bn"
                )
            )
            x = f"{name}/bn"
        nodes.append(helper.make_node("Relu", [x], [f"{name}/relu"], name=f"{name}_relu"))
        x = f"{name}/relu"
    kernel, bias = values["dense"]
    nodes += [
        helper.make_node("GlobalAveragePool", [x], ["pooled"], name=f"{names}pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name=f"{names}flatten"),
        helper.make_node(
            "Gemm",
            ["flat", keep("dense.w", kernel), keep("dense.b", bias)],
            ["scores"],
            name=f"{names}dense",
            transB=1,
        ),
    ]
    return finished(nodes, tensors, ["N", 3, SIZE, SIZE], opset, feed)


def channels_last(values=None, feed=FEED):
    """The network as a TensorFlow exporter writes it: pictures of channels last, bias added apart, MatMul."""
    values = values or weights()
    nodes, tensors = [helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2], name="t0")], []

    def keep(name, array, kind=np.float32):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(array, kind), name))
        return name

    x = "first"
    for number, (layer, attributes) in enumerate(LAYERS.items()):
        kernel, bias = folded(*values[layer])
        name, attributes = f"model/conv2d_{number};Conv2D", dict(attributes)
        if attributes.pop("pads", None):
            pads = keep(f"pads{number}", [0, 0, 1, 1, 0, 0, 1, 1], np.int64)
            nodes.append(helper.make_node("Pad", [x, pads], [f"padded{number}"]))
            x = f"padded{number}"
        nodes += [
            helper.make_node(
                "Conv", [x, keep(f"k{number}", kernel)], [f"c{number}"], name=name, **attributes
            ),
            helper.make_node("Add", [f"c{number}", keep(f"b{number}", bias[:, None, None])], [f"a{number}"]),
            helper.make_node("Relu", [f"a{number}"], [f"r{number}"]),
        ]
        x = f"r{number}"
    kernel, bias = values["dense"]
    axes = keep("axes", [2, 3], np.int64)
    nodes += [
        helper.make_node("ReduceMean", [x, axes], ["pooled"], keepdims=0, name="global_average"),
        helper.make_node("MatMul", ["pooled", keep("kd", kernel.T)], ["product"], name="dense/MatMul"),
        helper.make_node("Add", ["product", keep("bd", bias)], ["dense_out"], name="dense/BiasAdd"),
    ]
    return finished(nodes, tensors, ["batch", SIZE, SIZE, 3], 18, feed, "dense_out")


def finished(nodes, tensors, shape, opset, feed, output="scores"):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [shape[0], CLASSES])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if feed is not None:
        import json

        entry = model.metadata_props.add()
        entry.key, entry.value = "onnxviz.preprocess", json.dumps(feed)
    return model


def photographs(folder, count=24, seed=0):
    """Pictures of coloured blobs, in a folder."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        coarse = rng.integers(0, 256, (5, 5, 3), np.uint8)
        coarse[..., 2] //= 3  # little blue, so that the order of colours matters
        Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")
    return folder


def quantised(path, out, folder, operators=False):
    """The file statically quantised by ONNX Runtime's own tool, calibrated on the pictures of a folder."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    arrays = [feed(file) for file in sorted(folder.glob("*.png"))]

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = iter(arrays)

        def get_next(self):
            array = next(self.left, None)
            return None if array is None else {"image": array}

    quantize_static(
        str(path),
        str(out),
        Reader(),
        quant_format=QuantFormat.QOperator if operators else QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    model = onnx.load(out)
    source = onnx.load(path)
    if not any(entry.key == "onnxviz.preprocess" for entry in model.metadata_props):
        model.metadata_props.extend(source.metadata_props)
        onnx.save(model, out)
    return model


def feed(file):
    """A picture as the network takes it."""
    pixels = np.asarray(Image.open(file).resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32) / 255
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)


def tensor(model, name):
    """A weight of a model."""
    return next(each for each in model.graph.initializer if each.name == name)


def changed(model, name, change):
    """A copy of a model, one weight of it changed in place by a function."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    array = numpy_helper.to_array(tensor(copy, name)).copy()
    found = change(array)
    tensor(copy, name).CopyFrom(
        numpy_helper.from_array(array if found is None else found.astype(array.dtype), name)
    )
    return copy


def halved(model):
    """A copy in float16."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for each in copy.graph.initializer:
        array = numpy_helper.to_array(each)
        if array.dtype == np.float32:
            each.CopyFrom(numpy_helper.from_array(array.astype(np.float16), each.name))
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return copy
