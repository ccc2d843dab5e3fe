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
