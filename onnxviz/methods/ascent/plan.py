"""All that is decided before the first step: sizes, starts, and what each picture is to raise."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.errors import SelectorError, ShapeError
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model, ModelLike, load
from onnxviz.methods.ascent.images import measured_magnitude, parameters_for
from onnxviz.methods.ascent.numeric import Sampler
from onnxviz.methods.ascent.objective import Objective, Score, leaves, shape_of_tree
from onnxviz.methods.ascent.problem import Problem, channels_of, sized
from onnxviz.methods.ascent.recipe import Recipe
from onnxviz.methods.ascent.transforms import Size, Transform, parse_transforms, stages
from onnxviz.methods.ascent.wishes import Wish, layers_named, wishes
from onnxviz.methods.ascent.written import Facts
from onnxviz.methods.attribution.pose import pose
from onnxviz.methods.attribution.question import Bench
from onnxviz.methods.manifest import json_text
from onnxviz.methods.query import ask
from onnxviz.methods.scores import Scores, find_scores
from onnxviz.vision.images import PictureInput, picture_input
from onnxviz.vision.labels import read_labels
from onnxviz.vision.planes import as_planes, resized
from onnxviz.vision.preprocess import Preprocess, choose
from onnxviz.vision.read import list_pictures, read_picture

Array: TypeAlias = npt.NDArray[Any]
Route: TypeAlias = Literal["graph", "numeric", "auto"]

_AT_ONCE = 8
_OPEN_SIZE = 224


@dataclass(frozen=True)
class Plan:
    """All that is decided before the first step."""

    model: Model
    where: PictureInput
    preprocess: Preprocess
    recipe: Recipe
    wishes: tuple[Wish, ...]
    layers: Mapping[str | int, Layer]
    scores: Scores | None
    elements: int
    weights: Mapping[str | int, Array]
    labels: Sequence[str] | None
    size: Size
    fixed: Size | None
    around: Array
    start: Array | None
    magnitude: Array | None
    others: Mapping[str, Array]
    device: str
    batch: int
    seed: int
    route: Route
    sampler: Sampler
    report: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """Equal for runs that make the same pictures."""
        said = {
            "recipe": asdict(self.recipe),
            "wishes": [repr(wish) for wish in self.wishes],
            "size": [self.size, self.fixed],
            "seed": self.seed,
            "preprocess": self.preprocess.to_dict(),
            "sampler": asdict(self.sampler),
        }
        digest = hashlib.sha256(json_text(said).encode())
        digest.update(self.model.serialize())
        for array in (self.start, self.magnitude, *self.others.values()):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def layers_of(self, objective: Objective) -> dict[str | int, Layer]:
        """The layers that one objective names."""
        named = [getattr(leaf, "layer", None) for leaf in leaves(objective)]
        return {selector: self.layers[selector] for selector in named if selector is not None}

    @property
    def facts(self) -> Facts:
        """What the numbers of objectives are checked against."""
        maps = {name: _map_size(layer) for name, layer in self.layers.items()}
        channels = {name: channels_of(layer) for name, layer in self.layers.items()}
        return Facts(channels, maps, self.weights)

    @property
    def octaves(self) -> list[Size]:
        """The sizes of the picture, the smallest first."""
        sizes = [self.size]
        for _ in range(self.recipe.octaves - 1):
            height, width = sizes[-1]
            scale = self.recipe.octave_scale
            sizes.append((max(1, round(height / scale)), max(1, round(width / scale))))
        return sizes[::-1]


@dataclass(frozen=True)
class Asked:
    """What a user asks for; see `maximize`."""

    layer: str | int | Sequence[str | int] | None
    channels: str | int | Sequence[int] | None
    targets: Sequence[str | int]
    objectives: Sequence[str | Objective]
    copies: int


def plan_for(
    model: ModelLike,
    asked: Asked,
    recipe: Recipe,
    *,
    seed: int,
    start: Any,
    magnitude: Any,
    picture: Size | None,
    route: Route,
    sampler: Sampler | None,
    report: bool,
    preprocess: Preprocess | Mapping[str, object] | str | None,
    inputs: Mapping[str, Array] | None,
    size: Size | None,
    device: str,
    batch: int | None,
    output: str | None,
    labels: str | Path | None,
) -> Plan:
    """Decide all of it, and refuse what cannot be done; the arguments are those of `maximize`."""
    model, others = load(model), dict(inputs or {})
    where = picture_input([value for value in model.inputs if value.name not in others])
    how = choose(preprocess, model.metadata, where)
    channels = where.channels or 3
    shown = None if start is None else _picture(start, channels)
    fixed = _fixed(where, how, size)
    whole = picture or _picture_size(recipe, fixed, shown)
    if shown is None:
        around = np.broadcast_to(_begun(recipe, how, channels), (channels, *whole))
    else:
        around = resized(shown, whole)
    single = sized(model, where, where.batch or 1, fixed or whole)
    made = wishes(single, asked.layer, asked.channels, asked.targets, asked.objectives, recipe, asked.copies)
    plan = Plan(
        model=model,
        where=where,
        preprocess=how,
        recipe=recipe,
        wishes=tuple(made),
        layers=layers_named(single, [wish.objective for wish in made]),
        scores=None,
        elements=0,
        weights={},
        labels=read_labels(labels, model.metadata),
        size=whole,
        fixed=fixed,
        around=np.asarray(around, np.float64),
        start=None if shown is None else np.asarray(around, np.float64),
        magnitude=None if magnitude is None else _measured(magnitude, channels, whole),
        others=others,
        device=device,
        batch=_batch(where, recipe, batch, len(made)),
        seed=seed,
        route=route,
        sampler=sampler or Sampler(),
        report=report,
    )
    if how.source.startswith("guess"):
        plan.warnings.append(f"preprocessing: {how.source}")
    return _with_scores(plan, output, labels)


def problem_of(plan: Plan, objective: Objective, size: Size, batch: int) -> Problem:
    """The problem of one tree of objectives, at one size of the picture."""
    transforms = list(parse_transforms(plan.recipe.transforms))
    changes = any(one.name in ("pad", "jitter", "scale", "fit") for one in transforms)
    if plan.fixed is not None and not plan.recipe.crops and (changes or size != plan.fixed):
        transforms.append(Transform("fit", tuple(map(float, plan.fixed))))
    channels = plan.where.channels or 3
    return Problem(
        model=plan.model,
        where=plan.where,
        preprocess=plan.preprocess,
        recipe=plan.recipe,
        parameters=parameters_for(plan.recipe, channels, size, plan.magnitude),
        objective=shape_of_tree(objective),
        layers=plan.layers_of(objective),
        scores="" if plan.scores is None else plan.scores.tensor,
        elements=plan.elements,
        batch=batch,
        size=size,
        stages=stages(tuple(transforms)),
        fixed=plan.fixed or ((_OPEN_SIZE, _OPEN_SIZE) if plan.recipe.crops else None),
    )


def _map_size(layer: Layer) -> Size:
    """Height and width of a layer's maps; as large as can be where they are not known."""
    if layer.tokens is not None:
        return layer.tokens[1], layer.tokens[2]
    sizes = [layer.shape[axis] for axis in layer.grid] if layer.shape is not None else []
    known = [size if isinstance(size, int) else 2**31 for size in sizes]
    if not known:
        return 1, 1
    return (1, known[0]) if len(known) == 1 else (known[-2], known[-1])


def _fixed(where: PictureInput, how: Preprocess, size: Size | None) -> Size | None:
    """The height and width that the model is run at; None: any."""
    own = size or how.size or (where.height, where.width)
    height, width = own
    return None if height is None or width is None else (height, width)


def _picture_size(recipe: Recipe, fixed: Size | None, shown: Array | None) -> Size:
    if recipe.crops and recipe.size:
        return (recipe.size, recipe.size)
    if fixed is not None:
        return fixed
    if shown is not None:
        return (shown.shape[1], shown.shape[2])
    side = recipe.size or _OPEN_SIZE
    return (side, side)


def mean_colour(how: Preprocess, channels: int) -> Array:
    """The colour that the model takes for 0, [C], red first, 0 to 255."""
    mean = np.broadcast_to(np.array(how.mean, np.float64) / how.scale, (channels,))
    return np.asarray(np.clip(mean[::-1] if how.color == "BGR" else mean, 0, 255))


def _begun(recipe: Recipe, how: Preprocess, channels: int) -> Array:
    """What a picture of pixels begins around, [C, 1, 1]: the recipe's lower bound, or the mean colour."""
    from_middle = recipe.low == recipe.high
    colour = mean_colour(how, channels) if from_middle else np.full(channels, recipe.low)
    return colour[:, None, None]


def _batch(where: PictureInput, recipe: Recipe, batch: int | None, count: int) -> int:
    """How many pictures are made at once."""
    crops = max(1, recipe.crops)
    if where.batch is None:
        return max(1, min(batch or max(1, _AT_ONCE // crops), count))
    if where.batch % crops:
        raise SelectorError(
            f"this recipe shows the model {crops} crops at once, and the file fixes its batch at "
            f"{where.batch}; export it with an open batch, or give --crops 1"
        )
    return where.batch // crops


def _picture(start: Any, channels: int) -> Array:
    """One picture as [C, H, W], 0 to 255."""
    listed = list_pictures(start)
    if len(listed) != 1:
        raise SelectorError(f"an ascent starts from one picture, and {len(listed)} were given")
    return as_planes(read_picture(listed[0], str(listed[0])), channels)


def _measured(magnitude: Any, channels: int, size: Size) -> Array:
    pictures = [as_planes(read_picture(one, str(one)), channels) for one in list_pictures(magnitude)]
    return measured_magnitude([resized(one, size) for one in pictures], channels, size)


def _with_scores(plan: Plan, output: str | None, labels: str | Path | None) -> Plan:
    """The plan with what its targets mean, and where the scores are; needed for targets and reports alone."""
    targets = {
        leaf.target: None
        for wish in plan.wishes
        for leaf in leaves(wish.objective)
        if isinstance(leaf, Score)
    }
    if not targets:
        with suppress(ShapeError):
            return replace(plan, scores=find_scores(plan.model, output))
        return plan
    channels = plan.where.channels or 3
    colour = np.rint(mean_colour(plan.preprocess, channels))
    height, width = plan.fixed or plan.size
    if channels in (1, 3):
        rgb = np.broadcast_to(colour, (3,)).astype(np.uint8)
        first: Any = np.broadcast_to(rgb, (height, width, 3)).copy()
    else:
        shape = (height, width, channels) if plan.where.layout == "NHWC" else (channels, height, width)
        first = np.zeros((1, *shape), np.float32)
    query = ask(plan.model, first, plan.preprocess, plan.others)
    posed = pose(query, [(0, target) for target in targets], Bench(plan.device), output=output, labels=labels)
    weights: dict[str | int, Array] = {}
    names: dict[str | int, tuple[str, int]] = {}
    elements = posed.rows.shape[1]
    for target, (_, meant) in zip(targets, posed.question.pairs, strict=True):
        row = np.zeros(elements)
        for place, weight in meant.terms:
            row[place] += weight
        weights[target] = row
        names[target] = (meant.text, -1 if meant.index is None else meant.index)
    named = tuple(_renamed(wish, names) for wish in plan.wishes)
    scores = posed.question.scores
    return replace(plan, wishes=named, scores=scores, elements=elements, weights=weights, labels=posed.labels)


def _renamed(wish: Wish, names: Mapping[str | int, tuple[str, int]]) -> Wish:
    """A picture of one target by what that means."""
    if isinstance(wish.objective, Score):
        text, index = names[wish.objective.target]
        return replace(wish, name=text, channel=index)
    return wish
