"""Class activation maps: a fragment over a layer's activation and gradient, run in one graph."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.numeric import channel_steps
from onnxviz.errors import ShapeError
from onnxviz.graph.extend import extend
from onnxviz.graph.feature_maps import as_maps, as_plane, flattened, restored
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.graph.quantisation import scale_of
from onnxviz.methods.attribution import fragments
from onnxviz.methods.attribution.fragments import Fragment
from onnxviz.methods.attribution.method import Array, Maps, Method
from onnxviz.methods.attribution.question import Question
from onnxviz.methods.attribution.tail import tail_of
from onnxviz.runtime.progress import track

OUTPUT = "cam"


def by_fragment(fragment: Fragment) -> Callable[..., Maps]:
    """The method that takes a fragment's map at one layer."""

    def maps(question: Question, layers: Sequence[Layer]) -> Maps:
        [layer] = layers
        model = cam_model(question, layer, fragment)
        return Maps(planes(question.run(model)[OUTPUT], layer), model.rules, "graph")

    return maps


def without_gradient(fragment: Fragment) -> Callable[..., Maps]:
    """The method that takes a fragment's map of a layer's activation alone."""

    def maps(question: Question, layers: Sequence[Layer]) -> Maps:
        [layer] = layers
        model = question.bench.model(
            (fragment, layer.tensor), lambda: activation_cam(question.model, layer, fragment)
        )
        return Maps(planes(question.run(model)[OUTPUT], layer))

    return maps


def grad_cam(question: Question, layers: Sequence[Layer]) -> Maps:
    """Grad-CAM by the gradient graph, or by finite differences of whole channels."""
    if question.route != "numeric":
        return by_fragment(fragments.grad_cam)(question, layers)
    [layer] = layers
    raw = [_numeric(question, layer, number) for number in track(range(len(question)), "finite differences")]
    return Maps(raw, "gradient", "numeric")


def cam_model(question: Question, layer: Layer, fragment: Fragment, rules: str = "auto") -> Model:
    """The model that answers a fragment's map at a layer: `cam`, [N, *places]."""
    derived = question.gradient(layer.tensor, rules, [layer.tensor])

    def build() -> Model:
        def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
            activation, slope = floats_at(op, question.model, derived, layer.tensor, values)
            a, g = (flattened(op, value, layer) for value in (activation, slope))
            return {OUTPUT: restored(op, fragment(op, a, g), activation, layer)}

        return extend(derived, OUTPUT, write)

    return question.bench.model((fragment, layer.tensor, rules), build)


def slopes_model(question: Question, layer: Layer) -> Model:
    """The model of a layer's `activation` and gradient, the `slope`: floats in the layer's layout."""
    derived = question.gradient(layer.tensor, keep=[layer.tensor])

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        activation, slope = floats_at(op, question.model, derived, layer.tensor, values)
        return {"activation": activation, "slope": slope}

    return question.bench.model(("slopes", layer.tensor), lambda: extend(derived, "slopes", write))


def activation_cam(model: Model, layer: Layer, fragment: Fragment) -> Model:
    """The model of a fragment's map of a layer's activation alone."""

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        activation = _as_floats(op, model.tensor(layer.tensor), values[layer.tensor])
        return {OUTPUT: restored(op, fragment(op, flattened(op, activation, layer), None), activation, layer)}

    return extend(model, OUTPUT, write)


def planes(maps: Array, layer: Layer) -> list[Array]:
    """The maps [N, *places] of a layer as planes [h, w]; one place axis is a row, depth lies side by side."""
    wide = maps.astype(np.float64)
    return list(as_plane(wide) if len(layer.grid) == 3 else wide)


def floats_at(
    op: Ops, model: Model, derived: Model, at: str, values: Mapping[str, ir.Value]
) -> tuple[ir.Value, ir.Value]:
    """What a tensor holds and the gradient by it, both as floats in the tensor's own layout.

    Where it is quantised: by the floats that its numbers stand for.

    Raises:
        ShapeError: Its numbers become floats in another shape.
    """
    tensor, taken = model.tensor(at), model.tensor(derived.taken_at[at])
    slope = values[derived.gradients[at]]
    scale = scale_of(tensor) if taken is tensor and not _is_float(tensor) else None
    # From the first floats back to the integers, whose axes may be in another order.
    value: ir.Value | None = taken
    while value is not None and value is not tensor:
        node = value.producer()
        assert node is not None
        if node.op_type == "Transpose":
            rank = len(node.inputs[0].shape)  # type: ignore[union-attr, arg-type]
            order = node.attributes.get_ints("perm", range(rank)[::-1])
            slope = op.Transpose(slope, perm=np.argsort(order).tolist())
        elif node.op_type not in _KEEPS_SHAPE:
            raise ShapeError(
                f"tensor {at!r} becomes floats in another shape; choose a layer behind it, such as "
                f"{taken.name!r}"
            )
        [value] = node.inputs[:1]
    slope = _at_least_single(op, slope)
    if scale is not None:
        slope = op.Div(slope, op.constant(scale[0].astype(np.float32)))
    return _as_floats(op, tensor, values[at]), slope


_KEEPS_SHAPE = ("DequantizeLinear", "Cast", "Identity", "MaxPool", "Clip", "Relu")


def _as_floats(op: Ops, tensor: ir.Value, value: ir.Value) -> ir.Value:
    """What a tensor holds as floats, of single precision at least; dequantised where its scale is known."""
    if _is_float(tensor):
        return _at_least_single(op, value)
    scale = scale_of(tensor)
    floats = op.Cast(value, to=ir.DataType.FLOAT)
    if scale is None:
        return floats
    zero = op.constant(scale[1].astype(np.float32))
    return op.Mul(op.Sub(floats, zero), op.constant(scale[0].astype(np.float32)))


def _at_least_single(op: Ops, value: ir.Value) -> ir.Value:
    """Sums over many places overflow and round in half precision."""
    if value.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        return value
    return op.Cast(value, to=ir.DataType.FLOAT)


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _numeric(question: Question, layer: Layer, number: int) -> Array:
    """Grad-CAM of one pair by finite differences: the tail, run on copies with one channel moved."""
    tail = tail_of(question, layer, number)
    if tail.activation.dtype.kind in "iu":
        raise ShapeError(
            f"layer {layer.name!r} holds integers, which take no small steps; use --gradient graph"
        )
    maps = as_maps(tail.activation, layer)[0].astype(np.float64)
    weights = np.zeros(len(maps))
    assert layer.channel is not None
    target = question.pairs[number][1]
    plan = list(channel_steps(tail.activation, layer.channel, tail.at_once))
    for steps in track(plan, f"finite differences at {layer.name}"):
        values = np.array([target.score(row) for row in tail.rows(steps.copies)])
        weights[steps.channels] = steps.derivatives(values, maps[0].size)
    return np.asarray(np.einsum("c,chw->hw", weights, maps), np.float64)


GRADIENT_CAMS = (
    Method(
        "grad-cam",
        grad_cam,
        "layer",
        "sum_k w_k A_k with w_k = mean of the gradient over channel k",
        "1 F + the B behind the layer",
        "Selvaraju et al. 2017, arXiv:1610.02391",
        numeric=True,
    ),
    Method(
        "grad-cam++",
        by_fragment(fragments.grad_cam_plus_plus),
        "layer",
        "as Grad-CAM with w_k = sum_i ReLU(g_ki) g_ki^2 / (2 g_ki^2 + (sum A_k) g_ki^3)",
        "1 F + the B behind the layer",
        "Chattopadhyay et al. 2018, arXiv:1710.11063",
        caveat="the paper's formula; four tools compute four others under this name",
    ),
    Method(
        "xgrad-cam",
        by_fragment(fragments.xgrad_cam),
        "layer",
        "as Grad-CAM with w_k = sum_i g_ki A_ki / sum_i A_ki",
        "1 F + the B behind the layer",
        "Fu et al. 2020, arXiv:2008.02312",
    ),
    Method(
        "hires-cam",
        by_fragment(fragments.hires_cam),
        "layer",
        "sum_k g_ki A_ki",
        "1 F + the B behind the layer",
        "Draelos & Carin 2020, arXiv:2011.08891",
    ),
    Method(
        "element-wise",
        by_fragment(fragments.element_wise),
        "layer",
        "sum_k ReLU(g_ki A_ki)",
        "1 F + the B behind the layer",
        "pytorch-grad-cam, GradCAMElementWise",
    ),
    Method(
        "eigen-cam",
        without_gradient(fragments.eigen_cam),
        "layer",
        "A, centred by channel, on its first right singular vector; its sign that of sum_k A_k",
        "1 F + power iteration",
        "Muhammad & Yeasin 2020, arXiv:2008.00299",
        caveat="it knows no target: the map is the same for each",
    ),
    Method(
        "eigen-grad-cam",
        by_fragment(fragments.eigen_grad_cam),
        "layer",
        "EigenCAM of g A",
        "1 F + the B behind the layer + power iteration",
        "pytorch-grad-cam, EigenGradCAM",
    ),
)
