"""What of a picture excited a unit of a layer: its activation, sent back down to the pixels.

The projection of unit (k, i, j) of layer L for the picture x is

    P = D_1(... D_L(a_kij e_kij)),    a = L(x),

where e_kij is 1 at the unit and 0 elsewhere, and D_l is operator l in reverse: a MaxPool puts each number
where the largest input came from (its switches), a convolution is applied with its filters transposed, and a
ReLU does what the rule set says:

    deconvnet        D(g) = max(g, 0)              Zeiler & Fergus 2014, arXiv:1311.2901, section 2.1
    guided-backprop  D(g) = max(g, 0) [y > 0]      Springenberg et al. 2015, arXiv:1412.6806, figure 1
    gradient         D(g) = g [y > 0]              Simonyan et al. 2014, arXiv:1312.6034, section 4

All of it is one graph, an input of which is e: one compiled session serves every unit of the layer.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.autodiff.pullback import find_rules, gradient
from onnxviz.autodiff.rectifiers import is_rectifier
from onnxviz.autodiff.rules.quantization import is_quantiser, unclipped
from onnxviz.autodiff.ruleset import ZERO, RuleSet
from onnxviz.autodiff.variants import STRAIGHT_THROUGH
from onnxviz.errors import SelectorError, ShapeError, did_you_mean
from onnxviz.graph.extend import extend
from onnxviz.graph.feature_maps import as_maps
from onnxviz.graph.flow import ancestors
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model, ModelLike, load
from onnxviz.graph.ops import Ops
from onnxviz.methods.attribution.cams import floats_at
from onnxviz.methods.attribution.pixels import GUIDED
from onnxviz.methods.fields import Boxes, Fields, fields_of
from onnxviz.methods.manifest import manifest
from onnxviz.methods.query import Query
from onnxviz.methods.scores import quantised_origins
from onnxviz.methods.units import Unit as Unit
from onnxviz.methods.units import in_floats, probe
from onnxviz.runtime.devices import resolve as resolve_device
from onnxviz.vision.images import Pictures
from onnxviz.vision.images import seen as as_seen

Array: TypeAlias = npt.NDArray[Any]

RULES = ("deconvnet", "guided-backprop", "gradient")
"""The rule sets that project."""

PROJECTION, ACTIVATION = "projection", "activation"
"""The outputs of the graph that projects."""

MID_GREY = 128
"""What patches show where there is no picture."""


@dataclass(frozen=True)
class Projections:
    """What in the pictures excited some units of one layer.

    Attributes:
        pixels: float32 [n,h,w,C], the projections: signed, in the scale of the model's input and with its
            channels in their order, cut to the box; zero outside the picture.
        patches: uint8 [n,h,w,3], what the unit sees of the picture there; the rest is mid-grey.
        boxes: int64 [n,4], what was cut out: left, top, right, bottom in pixels of the model's input, right
            and bottom exclusive; all of one size, so those near a border reach outside the picture.
        seen: int64 [n,4], the exact receptive field: the smallest box of all pixels that can change the unit.
        channels: int64 [n], each unit's channel.
        values: float64 [n], each unit's activation. A unit that is not above 0 is dead: its projection is 0.
        empty: Why a unit has no projection to look at; None where it has.
        units: The units.
        maps: float32 [n,rows,columns], the activation map of each unit's channel.
        layer: The layer, as the model's table has it.
        rules: The rules asked for; the manifest says those in force, which may step over quantisers.
        pictures: The pictures, and where the model's input lies in each.
        manifest: Where all this came from: see docs/manifest.md.
        input_size: Height and width of the model's input, pixels.
        blue_first: Whether the three channels of the model's input are blue, green, red.
    """

    pixels: npt.NDArray[np.float32] = field(repr=False)
    patches: npt.NDArray[np.uint8] = field(repr=False)
    boxes: Boxes
    seen: Boxes
    channels: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    empty: tuple[str | None, ...]
    units: tuple[Unit, ...]
    maps: npt.NDArray[np.float32] = field(repr=False)
    layer: Layer
    rules: str
    pictures: Pictures = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)
    input_size: tuple[int, int]
    blue_first: bool

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the sheet (PNG), the numbers (deconv.npz) and manifest.json into a folder.

        Raises:
            OutputError: The folder cannot be written, or holds files and `overwrite` is false.
        """
        from onnxviz.methods.save_projections import save_projections

        return save_projections(self, folder, overwrite)


def project(
    query: Query,
    layer: Layer,
    units: Sequence[Unit],
    rules: str = "deconvnet",
    *,
    device: str = "auto",
    batch: int | None = None,
) -> Projections:
    """Project units of a layer down to the pixels of their pictures.

    Args:
        query: The model and its pictures.
        layer: A layer of the model.
        units: At least one, of any pictures and channels, each as often as it is named.
        rules: One of `RULES`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        batch: Units per run; None: chosen.

    Raises:
        SelectorError: There are no units or no such rules, or a unit is none of the layer's or the pictures'.
        UnsupportedOperator, DisconnectedError, ShapeError: The layer has no gradient; see `gradient`.
        DeviceError: The device cannot be had, or a run failed.
    """
    started = time.perf_counter()
    asked = probe(query, layer, device, batch)
    asked.check(units)
    graph = _projector(asked.model, asked.tensor, query.where.name, rules)
    fields = fields_of(asked, units)
    traced = time.perf_counter()
    shown = {number: _shown(query, number) for number in {unit.picture for unit in units}}
    pixels, patches, maps = [], [], []
    answers = asked.ask(graph, units, "projecting")
    for unit, box, seen, answer in zip(units, fields.boxes, fields.seen, answers, strict=True):
        down = answer[PROJECTION].astype(np.float32)
        pixels.append(crop(down if query.where.layout == "NHWC" else np.moveaxis(down, 0, -1), box, 0))
        patches.append(crop(within(shown[unit.picture], seen, MID_GREY), box, MID_GREY))
        maps.append(as_maps(answer[ACTIVATION][None], layer)[0, unit.channel].astype(np.float32))
    values = np.array([place[unit.position] for unit, place in zip(units, maps, strict=True)], np.float64)
    empty = [_why_empty(value, part) for value, part in zip(values, pixels, strict=True)]
    return Projections(
        pixels=np.stack(pixels),
        patches=np.stack(patches),
        boxes=fields.boxes,
        seen=fields.seen,
        channels=np.array([unit.channel for unit in units]),
        values=values,
        empty=tuple(empty),
        units=tuple(units),
        maps=np.stack(maps),
        layer=layer,
        rules=rules,
        pictures=query.pictures,
        manifest=manifest(
            query.model,
            device=str(resolve_device(device)),
            preprocess=query.preprocess.to_dict(),
            pictures=list(query.pictures.names),
            method="deconv",
            layer=[_described(layer, fields)],
            rules=graph.rules,
            units=_listed(units, values, empty, fields),
            seconds={
                "fields": round(traced - started, 3),
                "projections": round(time.perf_counter() - traced, 3),
            },
            warnings=_warnings(query, layer, rules, units, empty, fields),
        ),
        input_size=query.input_size,
        blue_first=query.preprocess.color == "BGR",
    )


def projector(model: ModelLike, layer: Layer, at: str, rules: str = "deconvnet") -> Model:
    """The graph that projects units of a layer down to the input `at`.

    Its inputs are the model's and the mask of a unit, 1 there and 0 elsewhere, which has the shape of the
    layer's output [N, ...]; `cotangent` names it. Its outputs are `projection`, of the shape of the input,
    and `activation`, the layer's output; both in floats, dequantised.

    Raises:
        SelectorError: There are no such rules, or no such input.
        UnsupportedOperator, DisconnectedError, ShapeError: The layer has no gradient; see `gradient`.
    """
    return _projector(*in_floats(load(model), layer), at, rules)


def _projector(model: Model, tensor: str, at: str, rules: str) -> Model:
    derived = gradient(model, of=tensor, wrt=at, rules=_rules(model, tensor, rules), keep=[at, tensor])
    if derived.cotangent is None:
        raise ShapeError(f"tensor {tensor!r} is a single number, which has no places and no channels")
    mask_name = derived.cotangent

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        mask, activation = values[mask_name], values[tensor]
        uses = list(mask.uses())
        # Chosen and not multiplied by the mask: elsewhere there may be numbers that are not finite.
        excited = op.Where(op.Greater(mask, 0), op.Relu(activation), 0)
        for use in uses:
            use.node.replace_input_with(use.idx, excited)
        return {
            PROJECTION: floats_at(op, model, derived, at, values)[1],
            ACTIVATION: activation,
        }

    return extend(derived, "projection", write)


def crop(picture: Array, box: Array, fill: int) -> Array:
    """The part of a picture [H, W, C] in a box (left, top, right, bottom); `fill` outside the picture."""
    left, top, right, bottom = map(int, box)
    height, width = picture.shape[:2]
    inside = picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    before, after = (max(-top, 0), max(-left, 0)), (max(bottom - height, 0), max(right - width, 0))
    margins = [*zip(before, after, strict=True), *[(0, 0)] * (picture.ndim - 2)]
    return np.pad(inside, margins, constant_values=fill)


def within(picture: Array, box: Array, fill: int) -> Array:
    """A picture [H, W, C] with `fill` outside a box (left, top, right, bottom)."""
    left, top, right, bottom = map(int, box)
    shown = np.full_like(picture, fill)
    shown[top:bottom, left:right] = picture[top:bottom, left:right]
    return shown


def _rules(model: Model, tensor: str, rules: str) -> RuleSet:
    """The rule set of that name, which steps over quantisers.

    What cuts off the unit itself, the 6 of a ReLU6 or the end of an integer's range, does not cut off its
    projection: the strongest units are those that it cuts off.
    """
    if rules not in RULES:
        raise SelectorError(f"no rules {rules!r}{did_you_mean(rules, RULES)}; choose {', '.join(RULES)}")
    base = find_rules(rules)
    if rules == "gradient" and any(map(is_quantiser, _before(model, tensor))):
        base = STRAIGHT_THROUGH
    ends = [tensor, *quantised_origins(model, tensor)]
    maker = model.tensor(ends[-1]).producer()
    if maker is not None and maker.op_type == "QuantizeLinear" and maker.inputs[0] is not None:
        ends.append(str(maker.inputs[0].name))
    return unclipped(base, ends).when(
        lambda node: node.op_type == "Clip" and node.outputs[0].name in ends,
        lambda _op, node, g: [g, *[ZERO] * (len(node.inputs) - 1)],
    )


def _shown(query: Query, number: int) -> npt.NDArray[np.uint8]:
    """A picture as the model sees it, at the size of the model's input."""
    return as_seen(query.pictures.pixels[number], query.pictures.boxes[number], query.input_size)


def _described(layer: Layer, fields: Fields) -> dict[str, Any]:
    field = "exact" if fields.unknown is None else f"not known, the whole picture instead: {fields.unknown}"
    return {"name": layer.name, "op": layer.op, "shape": list(layer.shape or ()), "field": field}


def _why_empty(value: float, projection: Array) -> str | None:
    if not value > 0:
        return f"dead: its activation of {value:.3g} is not above 0"
    broken = projection.size - int(np.isfinite(projection).sum())
    if broken:
        return f"{broken} of {projection.size} values of the projection are not finite"
    return None if projection.any() else "nothing of it reaches the pixels"


def _listed(
    units: Sequence[Unit], values: Array, empty: Sequence[str | None], fields: Fields
) -> list[dict[str, Any]]:
    return [
        {
            "picture": unit.picture,
            "channel": unit.channel,
            "position": list(unit.position),
            "value": float(value),
            "seen": seen.tolist(),
            "box": box.tolist(),
            "empty": why,
        }
        for unit, value, why, seen, box in zip(units, values, empty, fields.seen, fields.boxes, strict=True)
    ]


def _warnings(
    query: Query,
    layer: Layer,
    rules: str,
    units: Sequence[Unit],
    empty: Sequence[str | None],
    fields: Fields,
) -> list[str]:
    warnings = []
    if query.preprocess.source.startswith("guess"):
        warnings.append(f"preprocessing: {query.preprocess.source}")
    if rules != "gradient":
        warnings.append(f"{rules}: {GUIDED}")
        if not any(map(is_rectifier, _before(query.model, layer.tensor))):
            warnings.append(
                f"no ReLU lies before layer {layer.name!r}, so that {rules} is the plain gradient there"
            )
    if fields.unknown is not None:
        warnings.append(f"the whole picture stands for what the units see: {fields.unknown}")
    warnings += [
        f"channel {unit.channel} in {query.pictures.names[unit.picture]}: no projection: {why}"
        for unit, why in zip(units, empty, strict=True)
        if why is not None
    ]
    return warnings


def _before(model: Model, tensor: str) -> list[ir.Node]:
    """The nodes that a tensor is computed by."""
    nodes = (value.producer() for value in ancestors([model.tensor(tensor)]))
    return [node for node in nodes if node is not None]
