"""DeepLIFT: what each pixel has a part in of the difference from a baseline."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.deeplift import deeplift
from onnxviz.graph.extend import extend
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.methods.attribution.baselines import baseline as baseline_of
from onnxviz.methods.attribution.cams import floats_at, floats_of
from onnxviz.methods.attribution.method import MAP, Maps, Method, completeness
from onnxviz.methods.attribution.question import Question, Subject


def deep_lift(question: Question, _layers: Sequence[Layer], *, baseline: str = "black") -> Maps:
    """m (x - x') with the multipliers m of the rescale rule (Shrikumar et al. 2017, equation 3).

    The map adds up to S(x) - S(x') but for the delta that is reported: for what the rule does not know, and
    for rounding.

    Args:
        question: What is asked.
        baseline: x': a colour such as "black" or "#7f7f7f", "mean" or "blur" of the picture, or "zero" in the
            model's own numbers.
    """
    model, name = _contributions(question.subject)
    numbers = range(len(question))
    starts = np.stack([baseline_of(question, number, baseline) for number in numbers])
    raw = list(question.run(model, extra={name: starts})[MAP].astype(np.float64))
    differences = question.values() - question.on(numbers, starts).values()
    notes = [
        f"there is no rescale rule for {operator}: its gradient stands for it, and the sum may be amiss"
        for operator in model.derivative.by_slope
    ]
    return Maps(raw, model.rules, "graph", tuple(notes), completeness(raw, differences))


def _contributions(subject: Subject) -> tuple[Model, str]:
    """The model of the contributions, and its input that takes the baseline."""
    at = subject.input
    derived = subject.rewrite(
        ("multipliers", at), lambda: deeplift(subject.model, subject.scores.tensor, at, [at, *subject.keep])
    )
    known = {value.name for value in subject.model.inputs}
    [start] = [v.name for v in derived.inputs if v.name not in known and v.name != derived.cotangent]

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        pixels, multiplier = floats_at(op, subject.model, derived, at, values)
        away = op.Sub(pixels, floats_of(op, subject.model.tensor(at), values[start]))
        return {MAP: op.Mul(multiplier, away)}

    model = subject.rewrite(("deeplift", at), lambda: extend(derived, MAP, write, subject.keep))
    return model, start


DEEP_LIFT = Method(
    "deeplift",
    deep_lift,
    "pixels",
    "m (x - x'): each activation's slope is its difference from the baseline over that of its input",
    "3 F + 1 B",
    "Shrikumar et al. 2017, arXiv:1704.02685 (rescale rule)",
    signed=True,
)
