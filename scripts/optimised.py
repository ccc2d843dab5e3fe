"""Differentiate what ONNX Runtime's own optimiser writes, and compare with the file it was made from.

    python3 scripts/optimised.py [words]     the models whose name holds one of these words

Each model is saved at two levels of optimisation. Printed are the operators outside ONNX's own domain that
came of it, and how far the input's gradient lies from that of the plain file, relative to its largest
number. Exits with 1 where that is beyond 1e-4 or an extended file is refused.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import onnxruntime

from onnxviz.autodiff.pullback import gradient
from onnxviz.errors import OnnxvizError
from onnxviz.graph.model import Model, load
from onnxviz.runtime.session import Session

TOLERANCE = 1e-4
LEVELS = ("extended", "all")
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
MODELS = Path(__file__).resolve().parent.parent / "models"

TRANSFORMER = """<ir_version: 8, opset_import: ["": 14]> m (float[2,5,16] x) => (float[2,5,16] y)
<int64[4] split = {0,0,4,4}, int64[3] join = {0,0,16}, float two = {2}, float eps = {0.00001},
 float root = {2}, float half = {0.5}, float one = {1}, float root2 = {1.4142135}> {
    m1 = ReduceMean<axes=[-1]>(x)  d1 = Sub(x, m1)  p1 = Pow(d1, two)  v1 = ReduceMean<axes=[-1]>(p1)
    e1 = Add(v1, eps)  s1 = Sqrt(e1)  n1 = Div(d1, s1)  g1 = Mul(n1, gamma1)  h = Add(g1, beta1)
    q0 = MatMul(h, wq)  q1 = Add(q0, bq)  q2 = Reshape(q1, split)  q = Transpose<perm=[0,2,1,3]>(q2)
    k0 = MatMul(h, wk)  k1 = Add(k0, bk)  k2 = Reshape(k1, split)  k = Transpose<perm=[0,2,3,1]>(k2)
    u0 = MatMul(h, wv)  u1 = Add(u0, bv)  u2 = Reshape(u1, split)  u = Transpose<perm=[0,2,1,3]>(u2)
    qk = MatMul(q, k)  scores = Div(qk, root)  a = Softmax<axis=-1>(scores)  o0 = MatMul(a, u)
    o1 = Transpose<perm=[0,2,1,3]>(o0)  o2 = Reshape(o1, join)  o3 = MatMul(o2, wo)  o = Add(o3, bo)
    r = Add(o, x)
    m2 = ReduceMean<axes=[-1]>(r)  d2 = Sub(r, m2)  p2 = Pow(d2, two)  v2 = ReduceMean<axes=[-1]>(p2)
    e2 = Add(v2, eps)  s2 = Sqrt(e2)  n2 = Div(d2, s2)  g2 = Mul(n2, gamma2)  f = Add(g2, beta2)
    f0 = MatMul(f, w1)  f1 = Add(f0, b1)  c0 = Div(f1, root2)  c1 = Erf(c0)  c2 = Add(c1, one)
    c3 = Mul(f1, c2)  c = Mul(c3, half)  t0 = MatMul(c, w2)  t = Add(t0, b2)  y = Add(r, t)
}"""
WIDE = {"w1": (16, 32), "w2": (32, 16), "b1": (32,)}


def transformer() -> onnx.ModelProto:
    """One block, normed before attention and before its two layers with a GELU between."""
    proto = onnx.parser.parse_model(TRANSFORMER)
    rng = np.random.default_rng(0)
    made = {name for node in proto.graph.node for name in node.output}
    made |= {value.name for value in (*proto.graph.input, *proto.graph.initializer)}
    read = dict.fromkeys(name for node in proto.graph.node for name in node.input)
    for name in (name for name in read if name not in made):
        shape = WIDE.get(name, (16, 16) if name.startswith("w") else (16,))
        array = rng.standard_normal(shape).astype(np.float32) / np.float32(len(shape) * 2)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


def with_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A light model, whose weights are all one number, with random ones."""
    rng = np.random.default_rng(0)
    shapes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    squares = {node.input[4] for node in proto.graph.node if node.op_type == "BatchNormalization"}
    for node in list(proto.graph.node):
        if node.op_type == "ConstantOfShape":
            shape = shapes[node.input[0]]
            array = rng.standard_normal(shape) * np.sqrt(2 / max(1, np.prod(shape[1:])))
            array = np.abs(array) + 0.5 if node.output[0] in squares else array
            tensor = onnx.numpy_helper.from_array(array.astype(np.float32), node.output[0])
            proto.graph.initializer.append(tensor)
            proto.graph.node.remove(node)
    last = proto.graph.node[-1]
    if last.op_type == "Softmax":
        proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(last.input[0], 1, None))
        proto.graph.node.remove(last)
    proto.ir_version = 4
    return proto


def models() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Each model by name."""
    yield "transformer", transformer()
    for path in sorted(MODELS.glob("*.onnx")):
        yield path.stem, onnx.load(path)
    for path in sorted(LIGHT.glob("*.onnx")):
        yield path.stem, with_weights(onnx.load(path))


def optimised(proto: onnx.ModelProto, level: str, path: Path) -> onnx.ModelProto:
    """What ONNX Runtime makes of a model."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.__members__[
        f"ORT_ENABLE_{level.upper()}"
    ]
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def input_gradient(model: Model) -> np.ndarray:
    """The gradient of a fixed combination of the first output's numbers."""
    of, wrt = model.outputs[0].name, model.inputs[0]
    derived = gradient(model, of, wrt.name)
    rng = np.random.default_rng(0)
    shape = [dim if isinstance(dim, int) else 1 for dim in wrt.shape or ()]
    x = rng.standard_normal(shape).astype(np.float32)
    session = Session(model, "cpu")
    y = session.run({wrt.name: x})[of]
    seed = rng.standard_normal(y.shape).astype(np.float32)
    found = Session(derived, "cpu").run({wrt.name: x, str(derived.cotangent): seed})
    return found[derived.gradients[wrt.name]]


def main(words: list[str]) -> int:
    """Print a line for each model and level."""
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, proto in models():
            if words and not any(word in name for word in words):
                continue
            plain = input_gradient(load(proto))
            for level in LEVELS:
                made = optimised(proto, level, Path(folder, "made.onnx"))
                foreign = {
                    f"{n.domain}::{n.op_type}" if n.domain else n.op_type
                    for n in made.graph.node
                    if n.domain or not onnx.defs.has(n.op_type)
                }
                try:
                    error = np.abs(input_gradient(load(made)) - plain).max() / np.abs(plain).max()
                    verdict, bad = f"{error:.1e}", not error <= TOLERANCE
                except OnnxvizError as err:
                    verdict, bad = f"refused: {err}", level == "extended"
                failures += bad
                print(f"{'FAIL' if bad else 'ok':4} {name} {level}: {verdict}; {', '.join(sorted(foreign))}")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
