"""Check gradients against finite differences: the tests of this project, and of your own rules."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnxviz.autodiff.ruleset import RuleSet
    from onnxviz.graph.model import Model, ModelLike

DOUBLE_TOLERANCE = 1e-6
SINGLE_TOLERANCE = 1e-2
SINGLE_STEP = 1e-2

Array = npt.NDArray[Any]


def check_gradient(
    model: "ModelLike",
    of: str,
    wrt: str | Sequence[str],
    *,
    inputs: Mapping[str, npt.ArrayLike] | None = None,
    rules: "str | RuleSet" = "auto",
    seed: int = 0,
    step: float = 1e-6,
    tolerance: float | None = None,
) -> float:
    """Compare the gradient graph with central differences along one random direction per tensor of `wrt`.

    For random u and v, ``<u, J v>`` by differences must equal ``<J^T u, v>`` from the graph. Both are run
    by ONNX's reference evaluator: in float64 where the standard lets the model be written so, else (a
    quantiser's scale, say) in the model's own types, with steps of at least 1e-2.

    Args:
        model: A model, path or proto of standard operators.
        of: The tensor to differentiate.
        wrt: Inputs, weights or inner tensors.
        inputs: Arrays to feed; by default standard normal numbers, each symbol a small size.
        rules: The rule set, or its name.
        seed: Of the directions and the default inputs.
        step: Of the differences.
        tolerance: The largest relative error; by default 1e-6 in float64, else 1e-2.

    Returns:
        The largest error over `wrt`, relative to ``|u| |J v|``; differences that drown in the rounding of
        `of` count for less.

    Raises:
        AssertionError: The two disagree; the message names the tensors and says both numbers.
        ShapeError: An input is not of floats or has no known rank, and `inputs` does not give it.
        UnsupportedOperator: An operator has no rule, or the reference evaluator cannot run it.
    """
    from onnxviz._reference.evaluator import in_double, prepare, run, with_shifts
    from onnxviz.autodiff.pullback import gradient
    from onnxviz.graph.expose import expose
    from onnxviz.graph.model import load

    loaded = load(model)
    double = in_double(loaded)
    work = loaded if double is None else double
    if double is None:
        step = max(step, SINGLE_STEP)
    if tolerance is None:
        tolerance = SINGLE_TOLERANCE if double is None else DOUBLE_TOLERANCE
    names = [wrt] if isinstance(wrt, str) else list(dict.fromkeys(wrt))
    rng = np.random.default_rng(seed)
    feeds = _feeds(work, inputs or {}, rng)

    derived = gradient(work, of, names, rules)
    here = run(expose(work, [of, *names]), feeds)
    value = here[of]
    u = np.ones(()) if derived.cotangent is None else rng.standard_normal(value.shape)
    seeds = {} if derived.cotangent is None else {derived.cotangent: u.astype(value.dtype)}
    found = run(derived, {**feeds, **seeds})

    moved, shifts = with_shifts(work, of, names)
    run_moved = prepare(moved)
    still = {shifts[name]: np.zeros_like(here[name]) for name in names}
    noise = 4 * np.finfo(value.dtype).eps * np.linalg.norm(u) * np.linalg.norm(value) / step
    worst = 0.0
    for name in names:
        answer = found[derived.gradients[name]]
        if answer.shape != here[name].shape:
            raise AssertionError(
                f"the gradient of {of!r} with respect to {name!r} is wrong: it has the shape {answer.shape}, "
                f"{name!r} has {here[name].shape}"
            )
        v = rng.standard_normal(answer.shape).astype(answer.dtype)
        ahead, behind = (
            next(iter(run_moved({**feeds, **still, shifts[name]: v * v.dtype.type(h)}).values()))
            for h in (step, -step)
        )
        slope = (ahead.astype(np.float64) - behind) / (2 * step)
        numeric, exact = float(np.vdot(u, slope)), float(np.vdot(answer, v))
        scale = max(float(np.linalg.norm(u) * np.linalg.norm(slope)), abs(exact), noise / tolerance)
        error = abs(exact - numeric) / scale if scale else 0.0
        if not error <= tolerance:  # a NaN is an error too
            raise AssertionError(
                f"the gradient of {of!r} with respect to {name!r} is wrong: along one direction "
                f"the graph says {exact:.9g}, finite differences say {numeric:.9g} "
                f"(relative error {error:.1e}, tolerance {tolerance:.0e})"
            )
        worst = max(worst, error)
    return worst


def _feeds(model: "Model", given: Mapping[str, npt.ArrayLike], rng: np.random.Generator) -> dict[str, Array]:
    """What to feed: what is given, and standard normal numbers for the rest."""
    from onnxviz.errors import SelectorError, ShapeError, did_you_mean

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
