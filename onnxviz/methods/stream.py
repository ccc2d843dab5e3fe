"""Explain any number of pictures by any number of methods, a few pictures at a time."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from onnxviz.errors import DisconnectedError, ImageError, ShapeError, UnsupportedOperator
from onnxviz.graph.model import ModelLike, load
from onnxviz.methods.attribution.question import AT_ONCE, Bench
from onnxviz.methods.attribution.table import find_method
from onnxviz.methods.explain import Route, Selectors, explain_each
from onnxviz.methods.explanation import Explanation
from onnxviz.methods.query import ask
from onnxviz.methods.target import TargetLike
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track
from onnxviz.vision.preprocess import Preprocess
from onnxviz.vision.read import Picture


@dataclass(frozen=True)
class Part:
    """Some of the pictures explained: their numbers among all, and an explanation by each method."""

    numbers: Sequence[int]
    explanations: Mapping[str, Explanation]


def explain_parts(
    model: ModelLike,
    images: Sequence[Picture],
    methods: Mapping[str, Mapping[str, object]],
    targets: Sequence[TargetLike],
    layer: Selectors = None,
    gradient: Route = "auto",
    seed: int = 0,
    *,
    preprocess: Preprocess | Mapping[str, object] | str | None = None,
    inputs: Mapping[str, npt.NDArray[Any]] | None = None,
    size: tuple[int, int] | None = None,
    device: str = "auto",
    batch: int | None = None,
    output: str | None = None,
    labels: str | Path | None = None,
    optional: Container[int] = (),
    skip: Callable[[str], None] = lambda _message: None,
    quality: bool = False,
) -> Iterator[Part]:
    """Explain pictures by methods, each for every target; in parts, so that memory stays bounded.

    Args:
        model: A model, path or proto.
        images: Pictures, one each.
        methods: Names of methods, and each one's settings.
        targets: What to explain; each for every picture.
        layer, gradient, seed, preprocess, inputs, size, device, batch, output, labels: As in `explain`.
        optional: The numbers of the pictures that are passed over where they cannot be read; any other is an
            error.
        skip: Called with a message for each picture passed over, and each of several methods that the model
            does not suit.
        quality: Whether to measure how good each map is.

    Raises:
        ImageError: Not one of the pictures can be read.
        OnnxvizError: Of the kind that fits: as `explain`.
    """
    model, bench = load(model), Bench(device)
    for name, settings in methods.items():
        find_method(name).read(settings)
    done, able = 0, dict(methods)
    for start, stop in track(list(batches(len(images), batch or AT_ONCE)), "pictures"):
        failed: dict[int, ImageError] = {}

        def pass_over(place: int, err: ImageError, start: int = start, failed: Any = failed) -> None:
            if start + place not in optional:
                raise err
            failed[place] = err
            skip(f"passed over: {err}")

        others = _part_of(inputs or {}, start, stop, len(images))
        try:
            query = ask(model, list(images[start:stop]), preprocess, others, size, pass_over)
        except ImageError:
            if len(failed) < stop - start:
                raise
            continue
        numbers = [number for number in range(start, stop) if number - start not in failed]
        wanted = [(picture, target) for picture in range(len(query)) for target in targets]
        explanations: dict[str, Explanation] = {}
        for name, settings in list(able.items()):
            try:
                explanations[name] = explain_each(
                    query,
                    wanted,
                    name,
                    layer,
                    gradient,
                    seed,
                    device=device,
                    batch=batch,
                    output=output,
                    labels=labels,
                    settings=settings,
                    bench=bench,
                    quality=quality,
                )
            except (UnsupportedOperator, DisconnectedError, ShapeError) as err:
                # Of several methods those that suit the model are worth having.
                if done or len(able) == 1:
                    raise
                del able[name]
                skip(f"{name} is left out: {err}")
        done += len(numbers)
        yield Part(numbers, explanations)
    if not done:
        raise ImageError("not one of the pictures can be read")


def _part_of(
    inputs: Mapping[str, npt.NDArray[Any]], start: int, stop: int, count: int
) -> dict[str, npt.NDArray[Any]]:
    """The other inputs' rows for some of the pictures, where they have a row for each."""
    return {
        name: array[start:stop] if array.ndim and len(array) == count > 1 else array
        for name, array in inputs.items()
    }
