"""One step: from the gradient to new parameters, as the optimisers' papers write it.

What changes from step to step but not from picture to picture (a schedule, a bias correction) is fed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxviz.graph.ops import Ops, rank_of
from onnxviz.methods.ascent.recipe import Recipe
from onnxviz.methods.ascent.transforms import Array, gaussian

FIRST, SECOND = "first", "second"
"""The optimiser's state: running means of the gradient and of its square."""


@dataclass(frozen=True)
class Coefficients:
    """theta += (a m + b g) / (sqrt(c v) + epsilon), where m and v are running means of g and of g squared."""

    a: float
    b: float
    c: float


def betas(recipe: Recipe) -> tuple[float, float]:
    """How much of the running means is kept."""
    return (0.0, 0.999) if recipe.optimizer == "rmsprop" else (0.9, 0.999)


def coefficients(recipe: Recipe, step: int) -> Coefficients:
    """The coefficients of a step, counted from 0.

    Adam as TensorFlow has it (Kingma & Ba 2015, the form at the end of section 2); Nadam as Keras has it
    (Dozat 2016), with its schedule of momenta 0.9 (1 - 0.96^(0.004 t) / 2); RMSprop without momentum.
    """
    first, second = betas(recipe)
    t, rate = step + 1, recipe.rate
    if recipe.optimizer == "adam":
        return Coefficients(rate * np.sqrt(1 - second**t) / (1 - first**t), 0.0, 1.0)
    if recipe.optimizer == "nadam":
        momenta = [first * (1 - 0.5 * 0.96 ** (0.004 * n)) for n in range(1, t + 2)]
        now, then = np.prod(momenta[:t]), np.prod(momenta)
        return Coefficients(
            rate * momenta[t] / (1 - then), rate * (1 - momenta[t - 1]) / (1 - now), 1 / (1 - second**t)
        )
    return Coefficients(0.0, rate, 1.0)


def state_shapes(recipe: Recipe, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """What an optimiser remembers of one picture beside the picture: names and shapes; all begin as zeros."""
    return {} if recipe.optimizer == "sgd" else {FIRST: shape, SECOND: shape}


def divisor(op: Ops, g: ir.Value, recipe: Recipe) -> ir.Value | None:
    """What each picture's gradient is divided by, [B, 1, ...]: its size, as the recipe measures it."""
    if recipe.normalise == "none":
        return None
    axes = op.ints(*range(1, rank_of(g)))
    if recipe.normalise == "rms":
        size = op.Sqrt(op.ReduceMean(op.Mul(g, g), axes, keepdims=1))
    elif recipe.normalise == "l2":
        size = op.Sqrt(op.ReduceSum(op.Mul(g, g), axes, keepdims=1))
    elif recipe.normalise == "mean":
        size = op.ReduceMean(op.Abs(g), axes, keepdims=1)
    else:
        centred = op.Sub(g, op.ReduceMean(g, axes, keepdims=1))
        size = op.Sqrt(op.ReduceMean(op.Mul(centred, centred), axes, keepdims=1))
    size = op.Add(size, float(recipe.epsilon))
    # A gradient of zero stays one, also where epsilon is 0.
    return op.Where(op.Greater(size, 0), size, 1.0)


def step_size(op: Ops, g: ir.Value, given: ir.Value, recipe: Recipe) -> ir.Value:
    """What the gradient is multiplied by, [B, 1, ...] or [1]; for the adaptive optimisers their rate.

    At most what brings the rise asked for, progress / |g|^2 (Yosinski et al. 2015).
    """
    if recipe.optimizer != "sgd":
        return op.constant(np.full(1, recipe.rate, np.float32))
    rate, by = op.Gather(given, op.ints(1)), divisor(op, g, recipe)
    if recipe.progress:
        squares = op.ReduceSum(op.Mul(g, g), op.ints(*range(1, rank_of(g))), keepdims=1)
        wanted = op.Div(float(recipe.progress), op.Where(op.Greater(squares, 0), squares, 1.0))
        rate = op.Min(wanted, rate)
    return rate if by is None else op.Div(rate, by)


def stepped(
    op: Ops, theta: ir.Value, g: ir.Value, state: Mapping[str, ir.Value], given: ir.Value, recipe: Recipe
) -> tuple[ir.Value, dict[str, ir.Value]]:
    """The parameters after a step, and the state; `given` [3] holds the step's coefficients."""
    if recipe.optimizer == "sgd":
        return op.Add(theta, op.Mul(g, step_size(op, g, given, recipe))), {}
    first, second = betas(recipe)
    a, b, c = (op.Gather(given, op.scalar(place)) for place in range(3))
    by = divisor(op, g, recipe)
    g = g if by is None else op.Div(g, by)
    m = op.Add(op.Mul(state[FIRST], first), op.Mul(g, 1 - first))
    v = op.Add(op.Mul(state[SECOND], second), op.Mul(op.Mul(g, g), 1 - second))
    step = op.Div(op.Add(op.Mul(m, a), op.Mul(g, b)), op.Add(op.Sqrt(op.Mul(v, c)), float(recipe.epsilon)))
    return op.Add(theta, step), {FIRST: m, SECOND: v}


def smoothing(recipe: Recipe, size: tuple[int, int], step: int) -> dict[str, Array]:
    """What blurs the picture after a step: the Gaussian along each axis, or nothing at all."""
    if not recipe.blur:
        return {}
    due = step % recipe.blur_every == 0
    down, across = (gaussian(n, recipe.blur) if due else np.eye(n) for n in size)
    return {"blur_down": down.astype(np.float32), "blur_across": across.T.astype(np.float32)}


def kept_in_bounds(
    op: Ops,
    pixels: ir.Value,
    g: ir.Value,
    middle: ir.Value,
    blurs: Mapping[str, ir.Value],
    recipe: Recipe,
    places: int,
) -> ir.Value:
    """Pixels [B, C, H, W] after a step: shrunk, blurred, the least of them set to the middle, clipped.

    Yosinski et al. 2015 (arXiv 1506.06579), section 4, in the order of their toolbox. `middle` is the mean
    colour, which is 0 to them; `places` is H * W.
    """
    plain = not (recipe.decay or recipe.blur or recipe.small_norm or recipe.small_contribution)
    x = pixels if plain else op.Sub(pixels, middle)
    if recipe.decay:
        x = op.Mul(x, 1 - recipe.decay)
    if blurs:
        x = op.MatMul(op.MatMul(blurs["blur_down"], x), blurs["blur_across"])
    if recipe.small_norm:
        norms = op.Sqrt(op.ReduceSum(op.Mul(x, x), op.ints(1), keepdims=1))
        x = _least_dropped(op, x, norms, recipe.small_norm, places)
    if recipe.small_contribution:
        contribution = op.Abs(op.ReduceSum(op.Mul(g, x), op.ints(1), keepdims=1))
        x = _least_dropped(op, x, contribution, recipe.small_contribution, places)
    x = x if plain else op.Add(x, middle)
    return op.Clip(x, 0.0, 255.0) if recipe.clip else x


def _least_dropped(op: Ops, x: ir.Value, size: ir.Value, percentage: float, count: int) -> ir.Value:
    """Zero where the size [B, 1, H, W] is below its percentile, as numpy.percentile has it."""
    flat = op.Reshape(size, op.ints(0, -1))
    position = (count - 1) * percentage / 100
    low, share = int(position), position - int(position)
    least, _ = op.emit("TopK", [flat, op.ints(min(low + 2, count))], {"largest": 0}, outputs=2)
    below, above = (op.Gather(least, op.ints(min(place, count - 1)), axis=1) for place in (low, low + 1))
    edge = op.Add(below, op.Mul(op.Sub(above, below), share))
    return op.Where(op.Less(size, op.Reshape(edge, op.ints(-1, 1, 1, 1))), 0.0, x)


def penalties(op: Ops, pixels: ir.Value, middle: ir.Value, recipe: Recipe) -> ir.Value | None:
    """What the objective is lowered by, [B]; pixels count from 0 to 1 here."""
    terms = []
    if recipe.l1:
        distance = op.ReduceMean(op.Abs(op.Sub(pixels, middle)), op.ints(1, 2, 3), keepdims=0)
        terms.append(op.Mul(distance, recipe.l1 / 255))
    if recipe.tv:
        rows, columns = (
            op.Abs(
                op.Sub(
                    op.Slice(pixels, op.ints(1), op.ints(2**31), op.ints(axis)),
                    op.Slice(pixels, op.ints(0), op.ints(-1), op.ints(axis)),
                )
            )
            for axis in (2, 3)
        )
        total = op.Add(*(op.ReduceMean(d, op.ints(1, 2, 3), keepdims=0) for d in (rows, columns)))
        terms.append(op.Mul(total, recipe.tv / 255))
    return None if not terms else terms[0] if len(terms) == 1 else op.Add(*terms)
