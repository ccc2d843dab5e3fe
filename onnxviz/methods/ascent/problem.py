"""`Problem`: what is raised, in which network, over what parameters; and the names that its graphs use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxviz.errors import ShapeError
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.methods.ascent.images import Parameters
from onnxviz.methods.ascent.objective import Objective
from onnxviz.methods.ascent.recipe import Recipe
from onnxviz.methods.ascent.transforms import Size, Stage
from onnxviz.methods.ascent.update import state_shapes
from onnxviz.vision.images import PictureInput
from onnxviz.vision.preprocess import Preprocess

THETA, PICTURE, VALUE, SCORES, TRANSPARENCY = "theta", "picture", "value", "scores", "transparency"
SLOPE_LOW, SLOPE_HIGH, RATE = "gradient_min", "gradient_max", "step_size"
BEST, BEST_VALUE = "best", "best_value"
NEXT, MEANS = "_next", "means/"


@dataclass(frozen=True)
class Problem:
    """What is raised, in which network, over what parameters.

    Attributes:
        model: The network, as the file has it.
        where: Its picture input.
        preprocess: From pixels to that input.
        recipe: How.
        parameters: What is optimised.
        objective: The tree; its numbers are fed.
        layers: The layers that it names.
        scores: The tensor of scores, "" where there are none.
        elements: How many scores a picture has.
        batch: How many pictures at once.
        size: Their height and width.
        stages: The transforms.
        fixed: The height and width that the network takes; None: any.
    """

    model: Model
    where: PictureInput
    preprocess: Preprocess
    recipe: Recipe
    parameters: Parameters
    objective: Objective
    layers: Mapping[str | int, Layer]
    scores: str
    elements: int
    batch: int
    size: Size
    stages: tuple[Stage, ...]
    fixed: Size | None

    @property
    def seen(self) -> int:
        """How many pictures the network sees at once: the pictures, or all their crops."""
        return self.batch * max(1, self.recipe.crops)

    @property
    def taken(self) -> Size | None:
        """The height and width of what the network sees; None: they vary."""
        if self.fixed is not None or not self.stages:
            return self.fixed or self.size
        sizes: list[int | str] = list(self.size)
        for number, stage in enumerate(self.stages):
            sizes = sizes if stage.turns else sizes_after(stage, sizes, None, number)
        height, width = sizes
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    @property
    def channels(self) -> int:
        """The pictures' channels."""
        return self.where.channels or 3

    @property
    def state(self) -> dict[str, tuple[int, ...]]:
        """What is carried from step to step beside the parameters, for a batch."""
        shapes = state_shapes(self.recipe, self.parameters.shape)
        if self.recipe.keep == "best":
            shapes |= {BEST: self.parameters.shape, BEST_VALUE: ()}
        if self.recipe.image == "maco":
            shapes[TRANSPARENCY] = (self.channels, *self.size)
        return {name: (self.batch, *shape) for name, shape in shapes.items()}


def sized(model: Model, where: PictureInput, batch: int, size: Sequence[int | str] | None) -> Model:
    """The network for so many pictures of a height and width; None: of any."""
    height, width = size or ("height", "width")
    channels = where.channels or 3
    shape = (batch, height, width, channels) if where.layout == "NHWC" else (batch, channels, height, width)
    return model.resized({where.name: shape})


def sizes_after(
    stage: Stage, current: Sequence[int | str], fixed: Size | None, number: int
) -> list[int | str]:
    """Height and width behind a stage: numbers where they are always the same, else symbols."""
    if fixed is not None:
        return list(fixed)
    sizes = list(current)
    for transform in stage.transforms:
        if transform.name == "scale" or is_open(sizes):
            return [f"height_{number}", f"width_{number}"]
        change = {"pad": 2, "jitter": -1}.get(transform.name, 0)
        sizes = [size + change * int(transform.numbers[0]) for size in sizes]  # type: ignore[operator]
    return sizes


def is_open(sizes: Sequence[int | str]) -> bool:
    """Whether a size is not known."""
    return not all(isinstance(size, int) for size in sizes)


def channels_of(layer: Layer) -> int:
    """How many channels a layer has, or features where it has no maps.

    Raises:
        ShapeError: It is not known.
    """
    shape = layer.shape
    if shape is not None:
        sizes = [shape[layer.channel]] if layer.channel is not None and layer.grid else list(shape[1:])
        if all(isinstance(size, int) for size in sizes):
            return int(np.prod([int(size) for size in sizes if isinstance(size, int)]))
    raise ShapeError(f"layer {layer.name!r}: how many channels it has is not known; give the input a shape")
