"""One step of the ascent as one graph: parameters and state in, parameters and state out."""

import math
from collections.abc import Mapping

import onnx_ir as ir

from onnxviz.autodiff.pullback import gradient
from onnxviz.graph.extend import extend
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.methods.ascent.forward import PREFIX, Forward, answering, drop_unread
from onnxviz.methods.ascent.problem import (
    BEST,
    BEST_VALUE,
    NEXT,
    PICTURE,
    RATE,
    SCORES,
    SLOPE_HIGH,
    SLOPE_LOW,
    THETA,
    TRANSPARENCY,
    VALUE,
    Problem,
)
from onnxviz.methods.ascent.update import kept_in_bounds, step_size, stepped


def step_graph(problem: Problem, made: Forward, rules: str, report: bool) -> Model:
    """The forward graph, its gradient, and the step that it leads to.

    The outputs bear the names used here: the parameters and the state after the step (`..._next`), the
    objective's value before it, and with `report` the scores and the gradient's smallest and largest number.
    """
    names = made.names
    wrt = [names[THETA], names[PICTURE]] if problem.recipe.image == "maco" else [names[THETA]]
    keep = [names[PICTURE], names[VALUE], *([names[SCORES]] if report and problem.scores else [])]
    slopes = gradient(made.model, names["total"], wrt, rules=rules, keep=keep)

    def steps(op: Ops, values: Mapping[str, ir.Value]) -> Mapping[str, ir.Value]:
        return _steps(op, values, problem, made, slopes, report)

    return extend(slopes, "step", steps)


def update_graph(problem: Problem) -> Model:
    """The step alone, for a gradient that is fed: what the numerical route runs."""
    graph = ir.Graph([], [], nodes=[], name="update", opset_imports={"": 21})
    op = Ops(graph, PREFIX)
    whole = (problem.batch, *problem.parameters.shape)
    shapes: dict[str, tuple[int, ...]] = {THETA: whole, "slope": whole, VALUE: (problem.batch,)}
    shapes |= problem.state | {"coefficients": (3,), "middle": (1, problem.channels, 1, 1)}
    if problem.recipe.blur:
        shapes |= {"blur_down": (problem.size[0],) * 2, "blur_across": (problem.size[1],) * 2}
    inputs = {
        name: ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
        for name, shape in shapes.items()
    }
    graph.inputs.extend(inputs.values())
    answers = _moved(op, inputs, inputs["slope"], inputs[VALUE], problem)
    drop_unread(graph, inputs)
    return answering(graph, op, answers)


def _steps(
    op: Ops, values: Mapping[str, ir.Value], problem: Problem, made: Forward, slopes: Model, report: bool
) -> dict[str, ir.Value]:
    g = values[slopes.gradients[made[THETA]]]
    inputs = {name: values[full] for name, full in made.names.items() if full in values}
    extra: dict[str, tuple[int, ...]] = {**problem.state, "coefficients": (3,)}
    if problem.recipe.blur:
        extra |= {"blur_down": (problem.size[0],) * 2, "blur_across": (problem.size[1],) * 2}
    if "middle" not in inputs:
        extra["middle"] = (1, problem.channels, 1, 1)
    for name, shape in extra.items():
        inputs[name] = ir.Value(
            name=_prefixed(made, name), type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape)
        )
        op.graph.inputs.append(inputs[name])
    answers = _moved(op, inputs, g, values[made[VALUE]], problem)
    if problem.recipe.image == "maco":
        seen = op.Abs(values[slopes.gradients[made[PICTURE]]])
        answers[f"{TRANSPARENCY}{NEXT}"] = op.Add(inputs[TRANSPARENCY], seen)
    answers[VALUE] = values[made[VALUE]]
    if report:
        axes = op.ints(*range(1, 1 + len(problem.parameters.shape)))
        answers[SLOPE_LOW] = op.ReduceMin(g, axes, keepdims=0)
        answers[SLOPE_HIGH] = op.ReduceMax(g, axes, keepdims=0)
        rate = step_size(op, g, inputs["coefficients"], problem.recipe)
        answers[RATE] = op.Expand(op.Reshape(rate, op.ints(-1)), op.ints(problem.batch))
        if problem.scores:
            answers[SCORES] = op.Cast(values[made[SCORES]], to=ir.DataType.FLOAT)
    drop_unread(op.graph, {name: inputs[name] for name in extra})
    return answers


def _moved(
    op: Ops, inputs: Mapping[str, ir.Value], g: ir.Value, value: ir.Value, problem: Problem
) -> dict[str, ir.Value]:
    """Parameters and state after a step."""
    recipe, theta = problem.recipe, inputs[THETA]
    moved, state = stepped(op, theta, g, inputs, inputs["coefficients"], recipe)
    if recipe.image == "pixels":
        blurs = {name: inputs[name] for name in ("blur_down", "blur_across") if name in inputs}
        moved = kept_in_bounds(op, moved, g, inputs["middle"], blurs, recipe, math.prod(problem.size))
    answers = {f"{THETA}{NEXT}": moved, **{f"{name}{NEXT}": one for name, one in state.items()}}
    if recipe.keep == "best":
        better = op.Greater(value, inputs[BEST_VALUE])
        whole = op.Reshape(better, op.ints(-1, *[1] * len(problem.parameters.shape)))
        answers[f"{BEST}{NEXT}"] = op.Where(whole, theta, inputs[BEST])
        answers[f"{BEST_VALUE}{NEXT}"] = op.Where(better, value, inputs[BEST_VALUE])
    return answers


def _prefixed(made: Forward, name: str) -> str:
    return made[THETA].removesuffix(THETA) + name
