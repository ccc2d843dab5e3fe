"""A gradient graph against central differences along one random direction per tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxviz._reference.arrays import Array
from onnxviz._reference.evaluator import in_double, prepare, run, with_shifts
from onnxviz._reference.quantization import STRAIGHT_THROUGH
from onnxviz.autodiff.pullback import gradient
from onnxviz.autodiff.ruleset import RuleSet
from onnxviz.errors import SelectorError, ShapeError, did_you_mean
from onnxviz.graph.expose import expose
from onnxviz.graph.model import Model

TOLERANCE = {True: 1e-6, False: 1e-2}  # in float64, and in narrower floats
SMALLEST_STEP = {True: 0.0, False: 1e-2}


@dataclass(frozen=True)
class Slope:
    """The slope along one direction: as the graph says, as differences say, and how far apart they are."""

    name: str
    exact: float
    numeric: float
    error: float


@dataclass(frozen=True)
class Comparison:
    """The slopes of one tensor, one for each that it was differentiated by; if in float64, by which rules."""

    slopes: tuple[Slope, ...]
    in_double: bool
    rules: str | None


def compare(
    model: Model,
    of: str,
    names: Sequence[str],
    inputs: Mapping[str, npt.ArrayLike],
    rules: str | RuleSet,
    seed: int,
    step: float,
    tolerance: float | None,
) -> Comparison:
    """Compare ``<u, J v>`` by differences with ``<J^T u, v>`` from the graph; see `onnxviz.testing`.

    Differences that drown in the rounding of `of` count for less than `tolerance`.

    Raises:
        AssertionError: A gradient has another shape than its tensor.
    """
    rng = np.random.default_rng(seed)
    work, feeds, here = _at_best(model, [of, *names], inputs, rng)
    value = here[of]
    double = value.dtype == np.float64
    step, limit = max(step, SMALLEST_STEP[double]), tolerance or TOLERANCE[double]

    derived = gradient(work, of, names, rules)
    u = np.ones(()) if derived.cotangent is None else rng.standard_normal(value.shape)
    u = np.where(np.isfinite(value), u, 0)
    seeds = {} if derived.cotangent is None else {derived.cotangent: u.astype(value.dtype)}
    found = run(derived, {**feeds, **seeds})

    moved, shifts = with_shifts(work, of, names)
    still = {shifts[name]: np.zeros_like(here[name]) for name in names}
    if derived.rules == "straight-through":
        run_moved = prepare(moved, STRAIGHT_THROUGH)
        run_moved({**feeds, **still})  # here they round, and go straight from here
    else:
        run_moved = prepare(moved)
    finite = np.where(np.isfinite(value), value, 0).astype(np.float64)
    noise = 4 * np.finfo(value.dtype).eps * np.linalg.norm(u) * np.linalg.norm(finite) / step
    slopes = []
    for name in names:
        answer, at = found[derived.gradients[name]], here[name]
        if answer.shape != at.shape:
            raise AssertionError(
                f"the gradient of {of!r} with respect to {name!r} is wrong: it has the shape {answer.shape}, "
                f"{name!r} has {at.shape}"
            )
        v = np.where(np.isfinite(at), rng.standard_normal(at.shape), 0).astype(at.dtype)
        ahead, behind = (
            next(iter(run_moved({**feeds, **still, shifts[name]: v * v.dtype.type(h)}).values()))
            for h in (step, -step)
        )
        slope = np.where(u == 0, 0, ahead.astype(np.float64) - behind) / (2 * step)
        exact, numeric = float(np.vdot(answer, v)), float(np.vdot(u, slope))
        scale = max(float(np.linalg.norm(u) * np.linalg.norm(slope)), abs(exact), noise / limit)
        slopes.append(Slope(name, exact, numeric, abs(exact - numeric) / scale if scale else 0.0))
    return Comparison(tuple(slopes), double, derived.rules)


def _at_best(
    model: Model, names: Sequence[str], given: Mapping[str, npt.ArrayLike], rng: np.random.Generator
) -> tuple[Model, dict[str, Array], dict[str, Array]]:
    """The model in float64 if the evaluator runs it so, else as it is; what to feed; what it makes."""
    double = in_double(model)
    feeds = _feeds(double, given, rng)
    try:
        here = run(expose(double, names), feeds)
        if all(here[name].dtype == np.float64 for name in names):
            return double, feeds, here
    except Exception:  # the evaluator fails in many ways on types that it does not expect
        pass
    feeds = {value.name: feeds[value.name].astype(value.dtype) for value in model.inputs}
    return model, feeds, run(expose(model, names), feeds)


def _feeds(model: Model, given: Mapping[str, npt.ArrayLike], rng: np.random.Generator) -> dict[str, Array]:
    """What to feed: what is given, and standard normal numbers for the rest."""
    names = [value.name for value in model.inputs]
    for name in given:
        if name not in names:
            raise SelectorError(f"no input {name!r} in this model{did_you_mean(name, names)}")
    feeds, sizes = {}, dict[object, int]()
    for value in model.inputs:
        if value.name in given:
            feeds[value.name] = np.asarray(given[value.name], value.dtype)
            continue
        if value.shape is None or not value.dtype.startswith("float"):
            raise ShapeError(
                f"no numbers can be made up for the input {value}; give inputs={{{value.name!r}: ...}}"
            )
        shape = [
            dim if isinstance(dim, int) else sizes.setdefault(dim or (value.name, axis), 2 + len(sizes) % 4)
            for axis, dim in enumerate(value.shape)
        ]
        feeds[value.name] = rng.standard_normal(shape).astype(value.dtype)
    return feeds
