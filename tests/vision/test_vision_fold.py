import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from onnxviz.errors import PreprocessError
from onnxviz.graph.ops import Ops
from onnxviz.vision.fold import folded
from onnxviz.vision.images import PictureInput, prepare
from onnxviz.vision.preprocess import Preprocess


def run(where, preprocess, size, pictures):
    image = ir.Value(name="image", type=ir.TensorType(ir.DataType.UINT8), shape=ir.Shape(["N", "H", "W", 3]))
    graph = ir.Graph([image], [], nodes=[], opset_imports={"": 18}, name="fold")
    op = Ops(graph, "fold")
    made = folded(op, image, where, preprocess, size)
    region = (made.across.start, made.down.start, made.across.stop, made.down.stop)
    for value in (made.value, *region):
        value.shape = ir.Shape([None] * (4 if value is made.value else 0))
        graph.outputs.append(value)
    model = ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    array, *box = session.run(None, {"image": pictures})
    return array, [float(end) for end in box]


@pytest.mark.parametrize("size", [(7, 12), (40, 33)])
@pytest.mark.parametrize("shape", [(19, 23), (30, 11), (12, 12)])
@pytest.mark.parametrize("color", ["RGB", "BGR", "L"])
@pytest.mark.parametrize("kernel", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_folded_preprocessing_is_the_preprocessing_to_the_last_bit(resize, kernel, color, shape, size):
    preprocess = Preprocess(resize=resize, filter=kernel, color=color, size=size)
    where = PictureInput("x", "NCHW", len(color), *size, "float32", None)
    pictures = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    expected = prepare(list(pictures), where, preprocess)
    array, box = run(where, preprocess, size, pictures)
    np.testing.assert_array_equal(array, expected.array)
    np.testing.assert_allclose(box, expected.boxes[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_numbers_are_scaled_into_the_input_s_own_type_and_layout(layout, dtype):
    scale = (
        (1.0, (128.0,) * 3, (1.0,) * 3) if "int" in dtype else (1 / 255, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    )
    preprocess = Preprocess(size=(5, 6), scale=scale[0], mean=scale[1], std=scale[2])
    where = PictureInput("x", layout, 3, 5, 6, dtype, None)
    pictures = np.random.default_rng(0).integers(0, 256, (1, 9, 8, 3), dtype=np.uint8)
    expected = prepare(pictures[0], where, preprocess).array
    array, _ = run(where, preprocess, (5, 6), pictures)
    assert array.dtype == expected.dtype == np.dtype(dtype)
    tolerance = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-6}.get(dtype, 0)
    np.testing.assert_allclose(array.astype(float), expected.astype(float), rtol=tolerance, atol=tolerance)


def test_colours_that_do_not_fill_the_input():
    where = PictureInput("x", "NCHW", 1, 5, 6, "float32", None)
    with pytest.raises(PreprocessError, match="color RGB does not fill input 'x' of 1 channels"):
        run(where, Preprocess(size=(5, 6)), (5, 6), np.zeros((1, 4, 4, 3), np.uint8))
