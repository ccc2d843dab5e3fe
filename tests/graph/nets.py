"""Small models written as ONNX text, and plain onnxruntime to judge them by."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime
from onnx import numpy_helper

HEADER = '<ir_version: {ir}, opset_import: ["": {opset}, "com.microsoft": 1, "custom": 1]> net '


def net(text, opset=18, ir=8, **weights):
    """A model from ONNX text and the arrays of its weights."""
    model = onnx.parser.parse_model(HEADER.format(ir=ir, opset=opset) + text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def session(model, optimise=True):
    """Plain onnxruntime on a path, bytes or a proto."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if isinstance(model, onnx.ModelProto):
        model = model.SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model, feeds, outputs=None, optimise=True):
    """What plain onnxruntime answers, by name."""
    ready = session(model, optimise)
    names = outputs or [value.name for value in ready.get_outputs()]
    return dict(zip(names, ready.run(names, dict(feeds)), strict=True))


def watched(model, tensors):
    """The model with inner tensors among its outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    own = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in own)
    return copy


def listing(folder):
    return sorted(path.name for path in folder.iterdir())
