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
from onnxviz.methods.attribution.method import MAP, Graph, Maps, Method, completeness
from onnxviz.methods.attribution.question import Question, Subject, named
from onnxviz.methods.query import of_pictures

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

        return subject.rewrite(
            (MAP, named(rules), times_input), lambda: extend(derived, MAP, write, subject.keep)
        )

    return graph


GRADIENT = pixel_graph()
GUIDED_BACKPROP = pixel_graph("guided-backprop")


def relevance(rules: str) -> Callable[..., Maps]:
    """The method that hands the score down as relevance (LRP), by one of its rule sets."""

    def maps(question: Question, layers: Sequence[Layer]) -> Maps:
        model = relevance_graph(_bounded(question, rules))(question.subject, layers)
        found = question.run(model)
        rows = of_pictures(found[question.scores.tensor], len(question), question.scores.tensor)
        scores = [target.score(row) for (_, target), row in zip(question.pairs, rows, strict=True)]
        raw = list(found[MAP])
        return Maps(raw, model.rules, "graph", checks=completeness(raw, scores))

    return maps


def relevance_graph(rules: str | RuleSet) -> Graph:
    """The graph of the pixels' relevance: the cotangent is what of each score is handed down."""

    def graph(subject: Subject, _layers: Sequence[Layer] = ()) -> Model:
        at, of = subject.input, subject.scores.tensor
        derived = subject.gradient(at, rules, [at, of])

        def write(op: Ops, values: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
            assert derived.cotangent is not None
            share = values[derived.cotangent]
            handed = op.Mul(share, values[of])
            for use in list(share.uses()):
                if use.node is not handed.producer():
                    use.node.replace_input_with(use.idx, handed)
            return {MAP: floats_at(op, subject.model, derived, at, values)[1]}

        kept = tuple(dict.fromkeys((of, *subject.keep)))
        return subject.rewrite((MAP, "relevance", named(rules)), lambda: extend(derived, MAP, write, kept))

    return graph


def _bounded(question: Question, rules: str) -> str | RuleSet:
    """The box rule's bounds: black and white, pushed through the preprocessing."""
    if rules not in _BOXES or question.query.pictures.array.dtype.kind != "f":
        return rules
    ends = np.stack([baseline(question, 0, color) for color in ("black", "white")]).astype(np.float64)
    low, high = (reduce(ends, axis=0)[None] for reduce in (np.min, np.max))
    given = question.query.pictures.array
    if given.min() < low.min() or given.max() > high.max():
        return rules  # the arrays are no pictures: each is its own box
    return _BOXES[rules](low, high)


_BOXES = {"lrp-z-box": lrp_z_box, "lrp-epsilon-gamma-box": epsilon_gamma_box}
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
    _pixels(
        "excitation-backprop",
        "the probability that each pixel wins: its share of the positive contributions, layer by layer",
        "Zhang et al. 2018, arXiv:1608.00507",
        pixel_graph("excitation-backprop"),
        signed=True,
    ),
    *(
        Method(
            name,
            relevance(name),
            "pixels",
            definition,
            "1 F + about 2 B",
            citation,
            signed=True,
            # The box is that of the pictures, which a file knows nothing of.
            graph=None if name in _BOXES else relevance_graph(name),
        )
        for name, definition, citation in _LRP
    ),
)
