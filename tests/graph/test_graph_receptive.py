"""Receptive fields against the truth: change each row of pixels, and see which outputs change."""

import math

import numpy as np
import pytest
from graph.nets import net, run
from onnx import TensorProto, helper, numpy_helper

from onnxviz.graph.expose import expose
from onnxviz.graph.layers import ReceptiveField
from onnxviz.graph.model import load


def positive(*shape, seed=0):
    """Weights that cannot cancel."""
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(np.float32)


def truth(model, tensors, shape, axis, layout=None):
    """For each tensor: whether output o changes with the input's pixels p, as [o, p], along one axis.

    The pictures differ from the first one in one row of pixels each, and are run as one batch.
    """
    size = shape[axis]
    batch = np.repeat(positive(1, *shape[1:], seed=3), 1 + size, axis=0)
    for pixel in range(size):
        rows = np.moveaxis(batch[1 + pixel], axis - 1, 0)
        rows[pixel] += 1000
    found = run(expose(model, tensors).serialize(), {"x": batch}, tensors)
    answers = {}
    for tensor, values in found.items():
        along = (layout or {}).get(tensor, axis)
        values = np.moveaxis(values, along, 1).reshape(1 + size, values.shape[along], -1).astype(np.float64)
        change = np.abs(values[1:] - values[0]) > 1e-5 * np.abs(values[0]).max()
        answers[tensor] = change.any(axis=2).T
    return answers


def interval(field, place, output):
    """First and last pixel that the field claims for an output, rounded inwards; it may leave the image."""
    first = field.offset[place] + output * field.stride[place]
    return math.ceil(first - 1e-9), math.floor(first + field.size[place] - 1 + 1e-9)


def check(proto, exact=True, slack=0, only=None):
    """Compare every layer with the truth, along every axis of places.

    Windows are exact; the taps of a dilated one may jump over a border (`exact=False`), and behind an
    upsampling of strided features the field is the smallest even one (`slack` pixels too many at most).
    """
    model = load(proto)
    shape = [dim if isinstance(dim, int) else 1 for dim in model.inputs[0].shape]
    image = [axis for axis in range(2, len(shape))]
    layers = [layer for layer in model.layers if layer.receptive_field is not None and layer.grid]
    layers = [layer for layer in layers if only is None or layer.tensor in only]
    assert layers
    checked = 0
    for place, axis in enumerate(image):
        layout = {layer.tensor: layer.grid[place] for layer in layers}
        seen = truth(model, [layer.tensor for layer in layers], shape, axis, layout)
        for layer in layers:
            field, where = layer.receptive_field, (layer.name, layer.op, axis)
            for output, row in enumerate(seen[layer.tensor]):
                if field.size[place] is None:
                    assert row.all(), where
                    continue
                pixels = np.flatnonzero(row)
                first, last = interval(field, place, output)
                clipped = max(first, 0), min(last, shape[axis] - 1)
                if clipped[0] > clipped[1]:
                    assert pixels.size == 0, where  # it sees nothing but padding
                elif slack:
                    assert clipped[0] <= pixels[0], where
                    assert pixels[-1] <= clipped[1], where
                    assert pixels[0] - clipped[0] <= slack, where
                    assert clipped[1] - pixels[-1] <= slack, where
                elif exact or clipped == (first, last):
                    assert (pixels[0], pixels[-1]) == clipped, (*where, output)
                else:
                    assert pixels.size == 0 or (clipped[0] <= pixels[0] and pixels[-1] <= clipped[1]), where
                checked += 1
    assert checked > 0
    return model


def fields(model):
    return {layer.tensor: layer.receptive_field for layer in model.layers}


# --- one operator at a time ----------------------------------------------------------------------------

W = {f"w{k}x{m}": positive(2, 3, k, m, seed=k * 10 + m) for k in (1, 2, 3, 5) for m in (1, 2, 3, 4)}
HEAD = "(float[N,3,13,11] x) => (float[N,c,h,v] y)"


def one(body, head=HEAD, **weights):
    used = {name: array for name, array in {**W, **weights}.items() if f" {name})" in body or f" {name}," in body}
    return net(f"{head} {{ {body} }}", **used)


@pytest.mark.parametrize(
    ("attributes", "weight", "exact"),
    [
        ("", "w3x3", True),
        ("<pads = [1,1,1,1]>", "w3x3", True),
        ("<pads = [2,0,1,3]>", "w3x4", True),
        ("<strides = [2,3]>", "w3x2", True),
        ("<strides = [3,2], pads = [0,1,2,0]>", "w2x3", True),
        ("<dilations = [2,3], pads = [2,1,0,3]>", "w3x2", False),
        ("<dilations = [3,2], strides = [2,2]>", "w3x3", True),
        ("<strides = [3,4]>", "w1x1", True),
        ('<auto_pad = "VALID", strides = [2,2]>', "w5x2", True),
        ('<auto_pad = "SAME_UPPER">', "w2x4", True),
        ('<auto_pad = "SAME_LOWER">', "w2x4", True),
        ('<auto_pad = "SAME_UPPER", strides = [2,3]>', "w3x2", True),
        ('<auto_pad = "SAME_LOWER", strides = [2,3]>', "w2x4", True),
        ('<auto_pad = "SAME_LOWER", strides = [3,2]>', "w1x1", True),
    ],
)
def test_convolutions(attributes, weight, exact):
    check(one(f"y = Conv{attributes}(x, {weight})"), exact)


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape = [2,3]",
        "kernel_shape = [3,2], strides = [2,3]",
        "kernel_shape = [3,3], strides = [2,2], pads = [1,0,0,1]",
        "kernel_shape = [3,2], strides = [2,2], ceil_mode = 1",
        "kernel_shape = [2,3], strides = [3,2], ceil_mode = 1, pads = [1,1,0,1]",
        'kernel_shape = [3,2], strides = [2,3], auto_pad = "SAME_UPPER"',
        'kernel_shape = [2,4], strides = [2,3], auto_pad = "SAME_LOWER"',
        'kernel_shape = [13,3], auto_pad = "VALID"',
    ],
)
def test_pools(operator, attributes):
    if operator == "LpPool" and "ceil_mode" in attributes:
        pytest.skip("ONNX Runtime and the standard differ")
    check(one(f"y = {operator}<{attributes}>(x)"))


def test_a_convolution_in_numbers():
    model = load(one("y = Conv<strides = [2,3], pads = [1,0,1,1], dilations = [1,2]>(x, w3x2)"))
    assert fields(model)["y"] == ReceptiveField((3, 3), (2, 3), (-1, 0))


@pytest.mark.parametrize(
    ("attributes", "shape"),
    [
        ("", (3, 2, 3, 3)),
        ("strides = [2,3]", (3, 2, 2, 3)),
        ("strides = [2,2], pads = [1,0,1,2]", (3, 2, 4, 3)),
        ("strides = [3,2], pads = [1,1,0,0], output_padding = [1,1]", (3, 2, 5, 3)),
        ("dilations = [2,1], pads = [1,1,1,1]", (3, 2, 3, 3)),
        ('strides = [2,3], auto_pad = "SAME_UPPER"', (3, 2, 3, 4)),
        ('strides = [2,3], auto_pad = "SAME_LOWER"', (3, 2, 3, 4)),
        ("strides = [2,2], output_shape = [26,21]", (3, 2, 3, 4)),
        ('strides = [2,2], output_shape = [26,21], auto_pad = "SAME_UPPER"', (3, 2, 3, 4)),
    ],
)
def test_transposed_convolutions(attributes, shape):
    kernel_larger = all(k >= s for k, s in zip(shape[2:], (3, 3), strict=True)) or "strides" not in attributes
    proto = one(f"y = ConvTranspose<{attributes}>(x, k)", k=positive(*shape)) if attributes else one(
        "y = ConvTranspose(x, k)", k=positive(*shape)
    )  # fmt: skip
    check(proto, exact=kernel_larger and "dilations" not in attributes)


@pytest.mark.parametrize("factors", [(2, 3), (3, 2), (4, 5), (1, 2)])
@pytest.mark.parametrize("place", ["half_pixel", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("how", ["linear", "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_enlarging(factors, place, how):
    mode = 'mode = "linear"' if how == "linear" else f'mode = "nearest", nearest_mode = "{how}"'
    proto = one(
        f'y = Resize<{mode}, coordinate_transformation_mode = "{place}">(x, , scales)',
        head="(float[N,3,6,7] x) => (float[N,c,h,v] y)",
        scales=np.array([1, 1, *factors], np.float32),
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, *factors], np.float32), "scales"))
    # ONNX Runtime's own taps may reach a pixel further with no weight; a border repeats the last pixel.
    model = check(without_places(proto), exact="floor" == how and place == "asymmetric")
    field = fields(model)["y"]
    assert field.stride == tuple(pytest.approx(1 / factor) for factor in factors)


def without_places(proto):
    """A pool of one pixel that tells which axes are places."""
    proto.graph.node.append(helper.make_node("MaxPool", ["y"], ["last"], kernel_shape=[1, 1]))
    proto.graph.output[0].name = "last"
    return proto
