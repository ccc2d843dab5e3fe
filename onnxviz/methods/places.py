"""Targets at a place of the picture: a class inside a mask (segmentation) or a box (detection)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.errors import ImageError, TargetError
from onnxviz.graph.model import format_shape
from onnxviz.methods.scores import Scores
from onnxviz.methods.target import Target
from onnxviz.vision.boxes import overlaps, read_boxes
from onnxviz.vision.images import inside
from onnxviz.vision.labels import class_index, name_of

Array: TypeAlias = npt.NDArray[Any]
Box: TypeAlias = tuple[float, float, float, float]

_PLACE = re.compile(r"(?:(?P<what>.+?)\s+)?in\s+(?P<where>.+)", re.IGNORECASE)
_NUMBER = r"\s*(-?[0-9]+(?:\.[0-9]+)?)\s*"
_BOX = re.compile(",".join([_NUMBER] * 4))
_PICTURE = re.compile(r".+\.(png|bmp|gif|tiff?|webp|jpe?g|pgm|pbm)", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """A class (None: whichever is strongest there), and a box in the picture's pixels or a mask's file."""

    text: str
    what: str | None
    box: Box | None
    mask: Path | None


@dataclass(frozen=True)
class Scene:
    """One picture's answers, and where the model's input lies in it.

    `outputs` are all of the model's outputs for this picture, without their batch axis. `region` is the part
    of the picture that fills the input, `size` the input's height and width, `extent` the picture's.
    """

    scores: Scores
    outputs: Mapping[str, Array]
    region: Box
    size: tuple[int, int]
    extent: tuple[int, int]
    labels: Sequence[str] | None


def parse_place(text: object) -> Place | None:
    """The place that a target such as `dog in 10,20,200,220` or `15 in mask.png` names; None: it names none.

    Raises:
        TargetError: The box is empty.
    """
    match = _PLACE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        return None
    numbers = _BOX.fullmatch(match["where"])
    if numbers is not None:
        left, top, right, bottom = map(float, numbers.groups())
        if right <= left or bottom <= top:
            raise TargetError(f"target {text!r}: the box is empty; write LEFT,TOP,RIGHT,BOTTOM in pixels")
        return Place(match[0], match["what"], (left, top, right, bottom), None)
    if _PICTURE.fullmatch(match["where"]):
        return Place(match[0], match["what"], None, Path(match["where"]))
    return None


def at_place(place: Place, scene: Scene) -> Target:
    """What a class at a place means for one picture.

    Of a mask: the sum of the class's scores inside it. Of a box: the class's score in the proposal that
    overlaps it most, before any suppression.

    Raises:
        TargetError: The output is not of that kind, or the class or the place is not in it.
    """
    return _in_mask(place, scene) if place.mask is not None else _in_box(place, scene)


def _in_mask(place: Place, scene: Scene) -> Target:
    values, name = scene.outputs[scene.scores.output], scene.scores.output
    rows, columns = scene.size
    fits = [
        axis
        for axis, grid in ((0, values.shape[1:]), (2, values.shape[:2]))
        if values.ndim == 3 and abs(grid[0] * columns - grid[1] * rows) <= max(rows, columns)
    ]
    if not fits:
        raise TargetError(
            f"target {place.text!r} needs scores for each pixel, but output {name} is "
            f"{format_shape(scene.scores.shape)}"
        )
    axis = fits[0]
    count = values.shape[axis]
    if place.what is None and count > 1:
        raise TargetError(f"target {place.text!r} names no class, and output {name} has {count}")
    index = 0 if place.what is None else class_index(place.what, count, name, scene.labels)
    assert place.mask is not None
    grid = values.shape[1:] if axis == 0 else values.shape[:2]
    try:
        chosen = inside(place.mask, scene.region, scene.extent, (grid[0], grid[1]))
    except ImageError as err:
        raise TargetError(f"target {place.text!r}: {err}") from None
    if not chosen.any():
        raise TargetError(f"target {place.text!r}: the mask is empty where the model looks")
    numbered = np.moveaxis(np.arange(values.size).reshape(values.shape), axis, 0)[index]
    terms = tuple((int(element), 1.0) for element in numbered[chosen])
    what = "" if place.what is None else f"{name_of(index, scene.labels)} "
    return Target(f"{what}in {place.mask.name} ({len(terms)} places)", terms)


def _in_box(place: Place, scene: Scene) -> Target:
    assert place.box is not None
    boxes, elements = _proposals(place, scene)
    overlap = overlaps(boxes.corners, _in_input(place.box, scene))
    best = int(np.argmax(overlap))
    if overlap[best] <= 0:
        raise TargetError(f"target {place.text!r}: no proposal of the model overlaps this box")
    row = elements[best]
    name = scene.scores.output
    values = scene.outputs[name]
    if place.what is None:
        index = int(np.argmax(values.reshape(-1)[row]))
    else:
        index = class_index(place.what, len(row), name, scene.labels)
    where = np.unravel_index(int(row[index]), values.shape)
    lead = ["0"] if scene.scores.batched else []
    element = f"{name}[{','.join([*lead, *map(str, where)])}]"
    text = f"{name_of(index, scene.labels)} in {place.text.rpartition(' ')[2]}"
    about = f"{element}, overlap {overlap[best]:.2f}, boxes {boxes.form}"
    return Target(f"{text} ({about})", ((int(row[index]), 1.0),))


def _proposals(place: Place, scene: Scene) -> tuple[Any, Array]:
    """The boxes [P, 4] that the model proposes, and the elements of the scores of their classes, [P, C].

    Raises:
        TargetError: None of the known forms fits the outputs.
    """
    scores, values = scene.scores, scene.outputs[scene.scores.output]
    numbered = np.arange(values.size).reshape(values.shape)
    if values.ndim == 2:
        others = [one for name, one in scene.outputs.items() if name != scores.output]
        for classes in [scores.classes] if scores.classes is not None else [1, 0]:
            count = values.shape[1 - classes]
            for other in others:
                if other.shape == (count, 4):
                    return read_boxes(other, scene.size), np.moveaxis(numbered, classes, 1)
        # One output for all: a row of box, objectness, classes each; or a column of box, classes each.
        if values.shape[0] > values.shape[1] > 6:
            return read_boxes(values[:, :4], scene.size, raw_grid=True), numbered[:, 5:]
        if 6 < values.shape[0] < values.shape[1]:
            return read_boxes(values[:4].T, scene.size), numbered[4:].T
    shapes = ", ".join(f"{name}{list(one.shape)}" for name, one in scene.outputs.items())
    raise TargetError(
        f"target {place.text!r}: no boxes are known in the outputs ({shapes}); name an element, such as "
        f"--target '{scores.output}[{','.join('0' * (values.ndim + scores.batched))}]'"
    )


def _in_input(box: Box, scene: Scene) -> Box:
    """A box of the picture in pixels of the model's input."""
    left, top, right, bottom = scene.region
    across, down = scene.size[1] / (right - left), scene.size[0] / (bottom - top)
    return (
        (box[0] - left) * across,
        (box[1] - top) * down,
        (box[2] - left) * across,
        (box[3] - top) * down,
    )
