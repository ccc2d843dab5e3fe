"""Gradients over the pixels: by the true derivative, or by another rule set."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.lrp import epsilon_gamma_box, lrp_z_box
from onnxviz.autodiff.ruleset import RuleSet
from onnxviz.graph.extend import extend
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops
from onnxviz.methods.attribution.baselines import baseline
from onnxviz.methods.attribution.cams import floats_at
from onnxviz.methods.attribution.method import Array, Maps, Method
from onnxviz.methods.attribution.question import Question
from onnxviz.methods.target import Target

GUIDED = "it looks alike whatever the weights are, and so fails the sanity check of Adebayo et al. 2018"

OUTPUT = "pixels"


def by_rules(rules: str = "auto", times_input: bool = False) -> Callable[..., Maps]:
    """The method that takes the gradient by a rule set, alone or times the input."""

    def maps(question: Question, _layers: Sequence[Layer]) -> Maps:
        model = pixel_model(question, rules, times_input)
        return Maps(list(question.run(model)[OUTPUT]), model.rules, "graph")

    return maps


def relevance(rules: str) -> Callable[..., Maps]:
    """The method that hands the score down as relevance (LRP), by one of its rule sets."""

    def maps(question: Question, _layers: Sequence[Layer]) -> Maps:
        scores = question.rows(range(len(question)))
        handed = [_weighed(target, row) for (_, target), row in zip(question.pairs, scores, strict=True)]
        model = pixel_model(question, _bounded(question, rules))
        raw = list(question.aimed(handed).run(model)[OUTPUT])
        return Maps(raw, model.rules, "graph", checks=_conserved(raw, question.values()))

    return maps


def pixel_model(question: Question, rules: str | RuleSet = "auto", times_input: bool = False) -> Model:
    """The model of the scores' gradient by the picture's pixels: `pixels`, shaped like the input."""
    at = question.query.where.name
    derived = question.gradient(at, rules, [at])

    def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        pixels, slope = floats_at(op, question.model, derived, at, values)
        return {OUTPUT: op.Mul(slope, pixels) if times_input else slope}

    return question.bench.model((OUTPUT, derived.rules, times_input), lambda: extend(derived, OUTPUT, write))


def _weighed(target: Target, scores: Array) -> Target:
    """A target whose weights are times the scores: what of the score each element has to hand down."""
    return Target(target.text, tuple((place, w * float(scores[place])) for place, w in target.terms))


def _conserved(raw: Sequence[Array], scores: Array) -> list[dict[str, float]]:
    """How much of the score arrived at the pixels."""
    sums = [float(one.sum(dtype=np.float64)) for one in raw]
    return [
        {"sum": total, "difference": float(score), "delta": abs(total - float(score))}
        for total, score in zip(sums, scores, strict=True)
    ]


def _bounded(question: Question, rules: str) -> str | RuleSet:
    """The box rule's bounds: black and white, pushed through the preprocessing."""
    sets = {"lrp-z-box": lrp_z_box, "lrp-epsilon-gamma-box": epsilon_gamma_box}
    if rules not in sets or question.query.pictures.array.dtype.kind != "f":
        return rules
    ends = np.stack([baseline(question, 0, color) for color in ("black", "white")]).astype(np.float64)
    low, high = (reduce(ends, axis=0)[None] for reduce in (np.min, np.max))
    given = question.query.pictures.array
    if given.min() < low.min() or given.max() > high.max():
        return rules  # the arrays are no pictures: each is its own box
    return sets[rules](low, high)


_LRP = (
    ("lrp-0", "R_i = sum_j x_i w_ij / z_j R_j", "Bach et al. 2015, PLoS ONE 10"),
    ("lrp-epsilon", "R_i = sum_j x_i w_ij / (z_j + eps sign z_j) R_j", "Bach et al. 2015, PLoS ONE 10"),
    ("lrp-gamma", "as LRP-0 with w + gamma w+ for w", "Montavon et al. 2019"),
    ("lrp-z-plus", "the positive contributions alone", "Montavon et al. 2017"),
    (
        "lrp-alpha-beta",
        "2 times the share of the positive, less the share of the negative contributions",
        "Bach et al. 2015, PLoS ONE 10",
    ),
    ("lrp-z-box", "z+, and the box of all pictures at the pixels", "Montavon et al. 2017"),
    ("lrp-w-square", "z+, and w^2 at the pixels", "Montavon et al. 2017"),
    ("lrp-flat", "z+, and equal shares at the pixels", "Lapuschkin et al. 2019"),
    ("lrp-epsilon-plus", "z+ in convolutions, epsilon in dense layers", "zennit, EpsilonPlus"),
    (
        "lrp-epsilon-gamma-box",
        "box at the pixels, gamma in convolutions, epsilon in dense layers",
        "zennit, EpsilonGammaBox",
    ),
    (
        "lrp-epsilon-alpha2-beta1",
        "alpha 2 beta 1 in convolutions, epsilon in dense layers",
        "zennit, EpsilonAlpha2Beta1",
    ),
)

PIXEL_GRADIENTS = (
    Method(
        "gradient",
        by_rules(),
        "pixels",
        "dS/dx; the picture shows its largest magnitude over the channels",
        "1 F + 1 B",
        "Simonyan et al. 2014, arXiv:1312.6034",
    ),
    Method(
        "input-x-gradient",
        by_rules(times_input=True),
        "pixels",
        "x dS/dx",
        "1 F + 1 B",
        "Shrikumar et al. 2016, arXiv:1605.01713",
        signed=True,
    ),
    Method(
        "guided-backprop",
        by_rules("guided-backprop"),
        "pixels",
        "the gradient, only what is positive passing each ReLU both ways",
        "1 F + 1 B",
        "Springenberg et al. 2015, arXiv:1412.6806",
        caveat=GUIDED,
    ),
    Method(
        "deconvnet",
        by_rules("deconvnet"),
        "pixels",
        "the gradient, rectified at each ReLU on the way down",
        "1 F + 1 B",
        "Zeiler & Fergus 2014, arXiv:1311.2901",
        caveat=GUIDED,
    ),
    *(
        Method(name, relevance(name), "pixels", definition, "1 F + about 2 B", citation, signed=True)
        for name, definition, citation in _LRP
    ),
)
