"""The scale of a quantised tensor, from whoever makes it or reads it."""

import numpy as np
import pytest
from graph.nets import net

from onnxviz.graph.model import load
from onnxviz.graph.quantisation import as_floats, dequantised, scale_of

S = {"s": np.float32(0.25), "z": np.uint8(3), "s2": np.float32(0.5), "z2": np.uint8(7)}
POOL = "m = MaxPool<kernel_shape=[3,3]>(q)"
QUANTISE = "q = QuantizeLinear(x, s, z)"
CONV = "q = QuantizeLinear(x, s, z) y = QLinearConv(q, s, z, w, s, z, s2, z2)"
WEIGHT = {"w": np.ones((1, 1, 1, 1), np.uint8)}


@pytest.mark.parametrize(
    ("text", "tensor", "weights"),
    [
        (f"(float[1,1,4,4] x) => (uint8[1,1,4,4] q) {{ {QUANTISE} }}", "q", {}),
        (
            f"(float[1,1,4,4] x) => (uint8[1,1,2,2] m) {{ {QUANTISE} m = MaxPool<kernel_shape=[3,3]>(q) }}",
            "m",
            {},
        ),
        ("(uint8[1,1,4,4] q) => (float[1,1,4,4] y) { y = DequantizeLinear(q, s, z) }", "q", {}),
        (
            f"(uint8[1,1,4,4] q) => (float[1,1,2,2] y) {{ {POOL} y = DequantizeLinear(m, s, z) }}",
            "q",
            {},
        ),
        (f"(float[1,1,4,4] x) => (uint8[1,1,4,4] y) {{ {CONV} }}", "q", WEIGHT),
    ],
)
def test_the_scale_is_named_by_the_maker_or_a_reader(text, tensor, weights):
    scale, zero = scale_of(load(net(text, **S, **weights)).tensor(tensor))
    assert (scale, zero) == (0.25, 3)


def test_an_output_of_a_quantised_convolution_has_its_own_scale():
    model = load(net(f"(float[1,1,4,4] x) => (uint8[1,1,4,4] y) {{ {CONV} }}", **S, **WEIGHT))
    scale, zero = scale_of(model.tensor("y"))
    assert (scale, zero) == (0.5, 7)
    array = np.array([[[[7, 8], [0, 255]]]], np.uint8)
    np.testing.assert_array_equal(as_floats(model.tensor("y"), array), [[[[0, 0.5], [-3.5, 124]]]])


def test_a_scale_that_is_computed_is_not_known_and_numbers_stay():
    text = "(float[1,1,4,4] x, float s3) => (uint8[1,1,4,4] q) { q = QuantizeLinear(x, s3) }"
    value = load(net(text)).tensor("q")
    assert scale_of(value) is None
    found = as_floats(value, np.array([1, 255], np.uint8))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [1, 255])


def test_floats_are_left_as_they_are():
    value = load(net(f"(float[1,1,4,4] x) => (uint8[1,1,4,4] q) {{ {QUANTISE} }}", **S)).tensor("x")
    array = np.array([1.5], np.float16)
    assert as_floats(value, array) is array


def test_a_scale_per_channel_lies_along_its_axis():
    array = np.array([[[1, 2]], [[3, 4]]], np.int8)
    scale, zero = np.float32([1, 10]), np.int8([0, 1])
    np.testing.assert_array_equal(dequantised(array, scale, zero, axis=0), [[[1, 2]], [[20, 30]]])
    np.testing.assert_array_equal(dequantised(array, scale, zero, axis=2), [[[1, 10]], [[3, 30]]])
