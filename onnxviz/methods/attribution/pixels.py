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
from onnxviz.methods.attribution.method import MAP, Array, Graph, Maps, Method
from onnxviz.methods.attribution.question import Question, Subject, named
from onnxviz.methods.target import Target

GUIDED = "it looks alike whatever the weights are, and so fails the sanity check of Adebayo et al. 2018"


def by_graph(graph: Graph) -> Callable[[Question, Sequence[Layer]], Maps]:
    """The maps of a method over the pixels that is one graph."""

    def maps(question: Question, layers: Sequence[Layer]) -> Maps:
        model = graph(question.subject, layers)
        return Maps(list(question.run(model)[MAP]), model.rules, "graph")

    return maps


def pixel_graph(rules: str | RuleSet = "auto", times_input: bool = False) -> Graph:
    """The graph of the scores' gradient by the picture's pixels, alone or times these."""

    def graph(subject: Subject, _layers: Sequence[Layer] = ()) -> Model:
        at = subject.input
        derived = subject.gradient(at, rules, [at])

        def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
            pixels, slope = floats_at(op, subject.model, derived, at, values)
            return {MAP: op.Mul(slope, pixels) if times_input else slope}

        return subject.bench.model(
            (MAP, named(rules), times_input), lambda: extend(derived, MAP, write, subject.keep)
        )

    return graph


GRADIENT = pixel_graph()
GUIDED_BACKPROP = pixel_graph("guided-backprop")


def relevance(rules: str) -> Callable[..., Maps]:
    """The method that hands the score down as relevance (LRP), by one of its rule sets."""

    def maps(question: Question, _layers: Sequence[Layer]) -> Maps:
        scores = question.rows(range(len(question)))
        handed = [_weighed(target, row) for (_, target), row in zip(question.pairs, scores, strict=True)]
        model = pixel_graph(_bounded(question, rules))(question.subject, ())
        raw = list(question.aimed(handed).run(model)[MAP])
        return Maps(raw, model.rules, "graph", checks=_conserved(raw, question.values()))

    return maps


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


def _pixels(name: str, definition: str, citation: str, graph: Graph, signed: bool = False) -> Method:
    caveat = GUIDED if name in ("guided-backprop", "deconvnet") else None
    return Method(
        name, by_graph(graph), "pixels", definition, "1 F + 1 B", citation, caveat, signed, graph=graph
    )


PIXEL_GRADIENTS = (
    _pixels(
        "gradient",
        "dS/dx; the picture shows its largest magnitude over the channels",
        "Simonyan et al. 2014, arXiv:1312.6034",
        GRADIENT,
    ),
    _pixels(
        "input-x-gradient",
        "x dS/dx",
        "Shrikumar et al. 2016, arXiv:1605.01713",
        pixel_graph(times_input=True),
        signed=True,
    ),
    _pixels(
        "guided-backprop",
        "the gradient, only what is positive passing each ReLU both ways",
        "Springenberg et al. 2015, arXiv:1412.6806",
        GUIDED_BACKPROP,
    ),
    _pixels(
        "deconvnet",
        "the gradient, rectified at each ReLU on the way down",
        "Zeiler & Fergus 2014, arXiv:1311.2901",
        pixel_graph("deconvnet"),
    ),
    *(
        Method(name, relevance(name), "pixels", definition, "1 F + about 2 B", citation, signed=True)
        for name, definition, citation in _LRP
    ),
)
