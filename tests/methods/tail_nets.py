"""Small nets with a grid half as large as the input, and the CAMs that take no gradient of them."""

import numpy as np
from methods.nets import cam_weights, net, noise

from onnxviz import load
from onnxviz.graph.selectors import select_one
from onnxviz.methods.attribution.ablation import ABLATIONS
from onnxviz.methods.attribution.null import CONTROLS
from onnxviz.methods.attribution.pose import pose
from onnxviz.methods.attribution.question import Bench
from onnxviz.methods.attribution.recipro import RECIPROCALS
from onnxviz.methods.attribution.score_cams import SCORE_CAMS
from onnxviz.methods.query import ask

METHODS = {method.name: method for method in (*ABLATIONS, *RECIPROCALS, *SCORE_CAMS, *CONTROLS)}
X = noise(3, 3, 8, 10)
PAIRS = [(0, 1), (2, 3), (0, 2), (1, "2 vs 0")]
WEIGHTS = [{1: 1}, {3: 1}, {2: 1}, {2: 1, 0: -1}]

SMALL = """(float[N,3,8,10] x) => (float[N,4] logits) {
    c1 = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w1, b1)
    r1 = Relu (c1)
    c2 = Conv <pads = [1,1,1,1]> (r1, w2)
    features = Relu (c2)
    pooled = GlobalAveragePool (features)
    flat = Flatten (pooled)
    logits = Gemm <transB = 1> (flat, w3, b3)
}"""
SKIP = """(float[N,3,8,10] x) => (float[N,4] logits) {
    c1 = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w1, b1)
    r1 = Relu (c1)
    c2 = Conv <pads = [1,1,1,1]> (r1, w2)
    t = Tanh (c2)
    c3 = Conv <pads = [1,1,1,1]> (r1, w2)
    s = Add (t, c3)
    features = Relu (s)
    pooled = GlobalAveragePool (features)
    flat = Flatten (pooled)
    logits = Gemm <transB = 1> (flat, w3, b3)
}"""
NHWC = """(float[N,8,10,3] x) => (float[N,4] logits) {
    nchw = Transpose <perm = [0,3,1,2]> (x)
    c1 = Conv <pads = [1,1,1,1], strides = [2,2]> (nchw, w1, b1)
    back = Transpose <perm = [0,2,3,1]> (c1)
    r1 = Relu (back)
    again = Transpose <perm = [0,3,1,2]> (r1)
    c2 = Conv <pads = [1,1,1,1]> (again, w2)
    features = Relu (c2)
    pooled = GlobalAveragePool (features)
    flat = Flatten (pooled)
    logits = Gemm <transB = 1> (flat, w3, b3)
}"""
QLINEAR = """(float[N,3,8,10] x) => (float[N,4] logits) {
    q = QuantizeLinear (x, s, z)
    r1 = QLinearConv <pads = [1,1,1,1], strides = [2,2]> (q, s, z, q1, sq1, i, s1, z1, k1)
    n2 = QLinearConv <pads = [1,1,1,1]> (r1, s1, z1, q2, sq2, i, s2, z)
    sum = com.microsoft.QLinearAdd (n2, s2, z, n2, s2, z, s2, z)
    pooled = com.microsoft.QLinearGlobalAveragePool (sum, s2, z, s2, z)
    flat = Flatten (pooled)
    f = DequantizeLinear (flat, s2, z)
    logits = Gemm <transB = 1> (f, w3, b3)
}"""
QDQ = """(float[N,3,8,10] x) => (float[N,4] logits) {
    c1 = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w1, b1)
    r1 = QuantizeLinear (c1, s1, z1)
    d1 = DequantizeLinear (r1, s1, z1)
    c2 = Conv <pads = [1,1,1,1]> (d1, w2)
    features = Relu (c2)
    pooled = GlobalAveragePool (features)
    flat = Flatten (pooled)
    logits = Gemm <transB = 1> (flat, w3, b3)
}"""


def quantised(text):
    rng = np.random.default_rng(4)
    weights = {
        "s": np.float32(0.03),
        "s1": np.float32(0.05),
        "s2": np.float32(0.06),
        "sq1": np.float32(0.01),
        "sq2": np.float32(0.01),
        "z": np.uint8(128),
        "z1": np.uint8(77),
        "i": np.int8(0),
        "q1": rng.integers(-90, 90, (6, 3, 3, 3)).astype(np.int8),
        "q2": rng.integers(-90, 90, (5, 6, 3, 3)).astype(np.int8),
        "k1": rng.integers(-2000, 2000, 6).astype(np.int32),
        **cam_weights(),
    }
    read = set(text.replace(",", " ").replace("(", " ").replace(")", " ").split())
    return net(text, {name: np.asarray(array) for name, array in weights.items() if name in read})


NETS = {
    "plain": (lambda: net(SMALL, cam_weights()), X),
    "skip connection": (lambda: net(SKIP, cam_weights()), X),
    "fixed batch of 1": (lambda: net(_fixed(SMALL, 1), cam_weights()), X),
    "fixed batch of 2": (lambda: net(_fixed(SMALL, 2), cam_weights()), X),
    "NHWC": (lambda: net(NHWC, cam_weights()), np.ascontiguousarray(X.transpose(0, 2, 3, 1))),
    "QLinear": (lambda: quantised(QLINEAR), X),
    "QDQ": (lambda: quantised(QDQ), X),
}


def _fixed(text, batch):
    return text.replace("[N,", f"[{batch},")


def maps(model, x, name, layer, pairs=PAIRS, batch=None, seed=0, **settings):
    model = load(model)
    question = pose(ask(model, x), pairs, Bench("cpu"), batch=batch, seed=seed).question
    return METHODS[name](question, [select_one(model, layer)], settings).raw
