"""Small models written as ONNX text, and plain onnxruntime to judge them by."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime
from onnx import numpy_helper

HEADER = '<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> net '

# Two convolutions, a global average pool and a Gemm: Grad-CAM of it can be written down.
CAM_NET = """
    (float[{shape}] x) => (float[N,4] logits) {{
        c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)
        r1 = Relu (c1)
        c2 = Conv <pads = [1,1,1,1]> (r1, w2)
        features = Relu (c2)
        pooled = GlobalAveragePool (features)
        flat = Flatten (pooled)
        logits = Gemm <transB = 1> (flat, w3, b3)
    }}
"""


def net(text, weights, opset=18, metadata=None):
    """A model from ONNX text and {name: array} of weights."""
    model = onnx.parser.parse_model(HEADER.format(opset=opset) + text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    return model


def cam_weights(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (6, 3, 3, 3), "b1": (6,), "w2": (5, 6, 3, 3), "w3": (4, 5), "b3": (4,)}
    return {name: rng.normal(0, 0.4, shape).astype(dtype) for name, shape in shapes.items()}


def cam_net(shape="N,3,8,10", seed=0):
    return net(CAM_NET.format(shape=shape), cam_weights(seed))


def noise(*shape, seed=1):
    """A float array that a model takes as it is, without preprocessing."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def run_plainly(model, feeds, outputs=()):
    """What plain onnxruntime answers, inner tensors added to the graph's outputs by hand."""
    model = onnx.load(model) if not isinstance(model, onnx.ModelProto) else model
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    own = [value.name for value in watched.graph.output]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs if name not in own)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [*own, *(name for name in outputs if name not in own)]
    return dict(zip(names, session.run(names, feeds), strict=True))


def correlation(first, second):
    return float(np.corrcoef(np.ravel(first), np.ravel(second))[0, 1])


# The same two convolutions under a head whose gradient differs from place to place, and with the scores.
HEAD_NET = """
    (float[{shape}] x) => (float[N,4] logits) {{
        c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)
        r1 = Relu (c1)
        c2 = Conv <pads = [1,1,1,1], strides = [2,2]> (r1, w2)
        features = Relu (c2)
        flat = Flatten (features)
        hidden = Gemm (flat, w3, b3)
        bent = Sigmoid (hidden)
        logits = Gemm (bent, w4, b4)
    }}
"""


def head_weights(seed=0, places=20):
    rng = np.random.default_rng(seed)
    shapes = {"w3": (5 * places, 7), "b3": (7,), "w4": (7, 4), "b4": (4,)}
    more = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    return {name: cam_weights(seed)[name] for name in ("w1", "b1", "w2")} | more


def head_net(shape="N,3,8,10", seed=0):
    return net(HEAD_NET.format(shape=shape), head_weights(seed))


def head(features, weights):
    """The scores [N, 4] of `HEAD_NET` from its features, in float64."""
    flat = features.astype(np.float64).reshape(len(features), -1)
    bent = 1 / (1 + np.exp(-(flat @ weights["w3"].astype(np.float64) + weights["b3"])))
    return bent @ weights["w4"].astype(np.float64) + weights["b4"]


def head_gradient(features, weights, targets):
    """The gradient of each picture's score by its features, written down: W3 (s (1 - s) W4)."""
    flat = features.astype(np.float64).reshape(len(features), -1)
    bent = 1 / (1 + np.exp(-(flat @ weights["w3"].astype(np.float64) + weights["b3"])))
    w4 = weights["w4"].astype(np.float64)[:, list(targets)].T
    return ((bent * (1 - bent) * w4) @ weights["w3"].astype(np.float64).T).reshape(features.shape)
