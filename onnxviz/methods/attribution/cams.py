"""Class activation maps: a fragment over a layer's activation and gradient, run in one graph."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.numeric import channel_steps
from onnxviz.autodiff.ruleset import node_name
from onnxviz.errors import ShapeError
from onnxviz.graph.extend import extend
from onnxviz.graph.feature_maps import as_maps, as_plane, flattened, restored
from onnxviz.graph.flow import ancestors, dependents
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.graph.quantisation import scale_of
from onnxviz.methods.attribution import fragments
from onnxviz.methods.attribution.fragments import Fragment
from onnxviz.methods.attribution.method import MAP, Array, Graph, Maps, Method, Route
from onnxviz.methods.attribution.question import Question, Subject
from onnxviz.methods.attribution.tail import tail_of
from onnxviz.runtime.progress import track


def by_graph(graph: Graph) -> Callable[[Question, Sequence[Layer]], Maps]:
    """The maps of a method that is one graph, at one layer."""

    def maps(question: Question, layers: Sequence[Layer]) -> Maps:
        model = graph(question.subject, layers)
        [layer] = layers
        route: Route = "none" if model.cotangent is None else "graph"
        return Maps(planes(question.run(model)[MAP], layer), model.rules, route)

    return maps


def cam_graph(fragment: Fragment, rules: str = "auto") -> Graph:
    """The graph of a fragment over the activation and the gradient at one layer."""

    def graph(subject: Subject, layers: Sequence[Layer]) -> Model:
        [layer] = layers
        derived = subject.gradient(layer.tensor, rules, [layer.tensor])

        def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
            activation, slope = floats_at(op, subject.model, derived, layer.tensor, values)
            a, g = (flattened(op, value, layer) for value in (activation, slope))
            return {MAP: restored(op, fragment(op, a, g), activation, layer)}

        return subject.rewrite(
            (fragment, layer.tensor, rules), lambda: extend(derived, MAP, write, subject.keep)
        )

    return graph


def activation_graph(fragment: Fragment) -> Graph:
    """The graph of a fragment over the activation of one layer alone."""

    def graph(subject: Subject, layers: Sequence[Layer]) -> Model:
        [layer] = layers

        def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
            activation = floats_of(op, subject.model.tensor(layer.tensor), values[layer.tensor])
            found = fragment(op, flattened(op, activation, layer))
            return {MAP: restored(op, found, activation, layer)}

        return subject.rewrite(
            (fragment, layer.tensor), lambda: extend(subject.model, MAP, write, subject.keep)
        )

    return graph


def grad_cam(question: Question, layers: Sequence[Layer]) -> Maps:
    """Grad-CAM by the gradient graph, or by finite differences of whole channels."""
    if question.route != "numeric":
        return by_graph(GRAD_CAM)(question, layers)
    [layer] = layers
    raw = [_numeric(question, layer, number) for number in track(range(len(question)), "finite differences")]
    return Maps(raw, "gradient", "numeric")


def closed_form(subject: Subject, layers: Sequence[Layer]) -> Model:
    """The graph of the first CAM, for networks whose scores are a linear layer of the maps' means.

    Raises:
        ShapeError: Something else lies behind the layer.
    """
    [layer] = layers
    graph, start = subject.model.ir_model.graph, subject.model.tensor(layer.tensor)
    behind = dependents(graph, [start])
    between = behind & ancestors([subject.model.tensor(subject.scores.tensor)]) - {start}
    nodes = [node for node in graph if any(value in between for value in node.outputs)]
    moving = [sum(value in behind for value in node.inputs) for node in nodes]
    pools = [node for node in nodes if node.op_type in _POOLS]
    for node, count in zip(nodes, moving, strict=True):
        if node.op_type not in (*_POOLS, *_LINEAR) or count > 1:
            raise ShapeError(
                f"cam needs global average pooling and one linear layer behind {layer.name!r}, but "
                f"{node.op_type} node {node_name(node)!r} lies there; use grad-cam"
            )
    if len(pools) != 1:
        raise ShapeError(f"cam needs one global average pooling behind {layer.name!r}; use grad-cam")
    return _CAM(subject, layers)


def slopes_model(subject: Subject, layer: Layer) -> Model:
    """The model of a layer's `ACTIVATION` and gradient, the `SLOPE`: floats in the layer's layout."""
    derived = subject.gradient(layer.tensor, keep=[layer.tensor])

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        activation, slope = floats_at(op, subject.model, derived, layer.tensor, values)
        return {ACTIVATION: activation, SLOPE: slope}

    return subject.rewrite(("slopes", layer.tensor), lambda: extend(derived, "slopes", write))


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
    slope = at_least_single(op, slope)
    if scale is not None:
        slope = op.Div(slope, op.constant(scale[0].astype(np.float32)))
    return floats_of(op, tensor, values[at]), slope


_KEEPS_SHAPE = ("DequantizeLinear", "Cast", "Identity", "MaxPool", "Clip", "Relu")


def floats_of(op: Ops, tensor: ir.Value, value: ir.Value) -> ir.Value:
    """What a tensor holds as floats, of single precision at least; dequantised where its scale is known."""
    if _is_float(tensor):
        return at_least_single(op, value)
    scale = scale_of(tensor)
    floats = op.Cast(value, to=ir.DataType.FLOAT)
    if scale is None:
        return floats
    zero = op.constant(scale[1].astype(np.float32))
    return op.Mul(op.Sub(floats, zero), op.constant(scale[0].astype(np.float32)))


def at_least_single(op: Ops, value: ir.Value) -> ir.Value:
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


ACTIVATION, SLOPE = "onnxviz.activation", "onnxviz.slope"

GRAD_CAM = cam_graph(fragments.grad_cam)
_CAM = cam_graph(fragments.cam)
_POOLS = ("GlobalAveragePool", "ReduceMean")
_LINEAR = (
    *("Gemm", "MatMul", "Add", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity"),
    *("Dropout", "Cast", "QuantizeLinear", "DequantizeLinear"),
)


def _cam(name: str, fragment: Fragment, definition: str, citation: str, caveat: str | None = None) -> Method:
    graph = cam_graph(fragment)
    cost = "1 F + the B behind the layer"
    return Method(name, by_graph(graph), "layer", definition, cost, citation, caveat, graph=graph)


GRADIENT_CAMS = (
    Method(
        "cam",
        by_graph(closed_form),
        "layer",
        "sum_k w_ck A_k, where a linear layer of the maps' means makes the scores",
        "1 F",
        "Zhou et al. 2016, arXiv:1512.04150",
        graph=closed_form,
    ),
    Method(
        "grad-cam",
        grad_cam,
        "layer",
        "sum_k w_k A_k with w_k = mean of the gradient over channel k",
        "1 F + the B behind the layer",
        "Selvaraju et al. 2017, arXiv:1610.02391",
        graph=GRAD_CAM,
        numeric=True,
    ),
    _cam(
        "grad-cam++",
        fragments.grad_cam_plus_plus,
        "as Grad-CAM with w_k = sum_i ReLU(g_ki) g_ki^2 / (2 g_ki^2 + (sum A_k) g_ki^3)",
        "Chattopadhyay et al. 2018, arXiv:1710.11063",
        "the paper's formula; four tools compute four others under this name",
    ),
    _cam(
        "xgrad-cam",
        fragments.xgrad_cam,
        "as Grad-CAM with w_k = sum_i g_ki A_ki / sum_i A_ki",
        "Fu et al. 2020, arXiv:2008.02312",
    ),
    _cam(
        "hires-cam",
        fragments.hires_cam,
        "sum_k g_ki A_ki",
        "Draelos & Carin 2020, arXiv:2011.08891",
    ),
    _cam(
        "element-wise",
        fragments.element_wise,
        "sum_k ReLU(g_ki A_ki)",
        "pytorch-grad-cam, GradCAMElementWise",
    ),
    _cam(
        "eigen-grad-cam",
        fragments.eigen_grad_cam,
        "EigenCAM of g A; power iteration to 1e-6",
        "pytorch-grad-cam, EigenGradCAM",
    ),
    Method(
        "eigen-cam",
        by_graph(activation_graph(fragments.eigen_cam)),
        "layer",
        "A, centred by channel, on its first right singular vector; its sign that of sum_k A_k",
        "1 F + power iteration to 1e-6",
        "Muhammad & Yeasin 2020, arXiv:2008.00299",
        caveat="it knows no target: the map is the same for each",
        graph=activation_graph(fragments.eigen_cam),
    ),
)
