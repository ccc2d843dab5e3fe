"""Layer-wise relevance propagation (LRP): rule sets whose cotangents are relevances.

``gradient(model, of, wrt, rules="lrp-epsilon")`` takes the relevance of `of` for its cotangent (to explain
one class: its score at its place, zeros elsewhere) and gives that of `wrt`. The rules here are those of
linear layers; `relevance.py` says what all other operators do.

Rules and rule sets agree with zennit's where it has them, but for what their docstrings say. The papers: Bach
et al. 2015 (PLoS ONE 10: LRP), Montavon et al. 2017 (Pattern Recognition 65: deep Taylor decomposition),
Montavon et al. 2019 (an overview), Lapuschkin et al. 2019 (Nature Communications 10), and Andeol et al. 2021
(gamma for inputs of any sign).
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxviz.autodiff.relevance import CONVOLUTIONS, EPSILON, Layer, LayerRule, composite
from onnxviz.autodiff.ruleset import RuleSet

Bound: TypeAlias = "npt.ArrayLike | None"


# The rules of linear layers


def epsilon_rule(eps: float = EPSILON) -> LayerRule:
    """R_i = sum_j x_i w_ij / (z_j + eps sign(z_j)) R_j, with sign(0) = 1 (Bach et al. 2015, equation 58).

    With eps = 0 this is LRP-0; where z_j is 0, nothing is handed down then. The bias takes its share.
    """
    return lambda layer, r: layer.distribute(r, (layer.x, layer.w), z=layer.z, eps=eps)


def gamma_rule(gamma: float = 0.25, eps: float = EPSILON) -> LayerRule:
    """LRP-gamma: w + gamma w+ for w, where x comes from a ReLU and z > 0 (Montavon et al. 2019).

    For an x and z of any sign: what pushes z away from zero weighs 1 + gamma as much (Andeol et al. 2021).
    """

    def rule(layer: Layer, r: ir.Value) -> ir.Value:
        op, (plus, minus) = layer.op, layer.x_parts
        negative = op.Less(layer.z, 0)

        def raised(v: ir.Value) -> ir.Value:
            return op.Add(v, op.Mul(op.Relu(v), gamma))

        def lowered(v: ir.Value) -> ir.Value:
            return op.Add(v, op.Mul(op.Min(v, 0), gamma))

        up, down, b = raised(layer.w), lowered(layer.w), layer.b
        above = layer.distribute(
            op.Where(negative, 0, r), (plus, up), (minus, down), b=b and raised(b), eps=eps
        )
        below = layer.distribute(
            op.Where(negative, r, 0), (plus, down), (minus, up), b=b and lowered(b), eps=eps
        )
        return op.Add(above, below)

    return rule


def alpha_beta_rule(alpha: float = 2, beta: float = 1, eps: float = EPSILON) -> LayerRule:
    """R_i = sum_j (alpha (x_i w_ij)+ / z_j+ - beta (x_i w_ij)- / z_j-) R_j (Bach et al. 2015, equation 60).

    z+ and z- hold the parts of the bias too.

    Raises:
        ValueError: alpha - beta is not 1, or one of them is negative.
    """
    if alpha < 0 or beta < 0 or not np.isclose(alpha - beta, 1):
        raise ValueError(f"alpha - beta must be 1 and neither negative, not alpha {alpha} and beta {beta}")

    def rule(layer: Layer, r: ir.Value) -> ir.Value:
        op, (plus, minus), w, b = layer.op, layer.x_parts, layer.w, layer.b
        up, down = op.Relu(w), op.Min(w, 0)
        adds = layer.distribute(r, (plus, up), (minus, down), b=b and op.Relu(b), eps=eps)
        if beta == 0:
            return adds
        takes = layer.distribute(r, (plus, down), (minus, up), b=b and op.Min(b, 0), eps=eps)
        return op.Sub(op.Mul(adds, alpha), op.Mul(takes, beta))

    return rule


def z_plus_rule(eps: float = EPSILON) -> LayerRule:
    """R_i = sum_j (x_i w_ij)+ / z_j+ R_j: alpha 1, beta 0; the z+ rule of Montavon et al. 2017."""
    return alpha_beta_rule(1, 0, eps)


def excitation_rule(eps: float = EPSILON) -> LayerRule:
    """R_i = sum_j (x_i w_ij)+ / (the sum of that over i) R_j; biases win nothing (Zhang et al. 2018, eq. 5).

    For inputs that are not negative, the probability that unit i wins over the others below unit j.
    """

    def rule(layer: Layer, r: ir.Value) -> ir.Value:
        op, (plus, minus), w = layer.op, layer.x_parts, layer.w
        return layer.distribute(r, (plus, op.Relu(w)), (minus, op.Min(w, 0)), eps=eps)

    return rule


def z_box_rule(low: Bound = None, high: Bound = None, eps: float = EPSILON) -> LayerRule:
    """R_i = sum_j (x_i w_ij - l_i w_ij+ - h_i w_ij-) / (the sum of that over i) R_j (Montavon et al. 2017).

    l <= x <= h are bounds of what the layer reads, that is of the *preprocessed* picture: black and white
    after mean and deviation. A number, an array that can be broadcast to the layer's input, or for a
    convolution one number per channel. A bound not given is the least or greatest number that the example
    itself holds, per channel for a convolution: a valid box whatever the preprocessing, and near the true
    one where a picture holds both black and white. The bias is dropped.

    Raises:
        ValueError: A lower bound is above the upper one.
    """
    if low is not None and high is not None and np.any(np.asarray(low) > np.asarray(high)):
        raise ValueError(f"the lower bound {low} is above the upper bound {high}")

    def rule(layer: Layer, r: ir.Value) -> ir.Value:
        op, x, w = layer.op, layer.x, layer.w
        bottom, top = (
            op.Expand(op.Neg(_bound(layer, given, reduce)), op.shape(x))
            for given, reduce in ((low, op.ReduceMin), (high, op.ReduceMax))
        )
        return layer.distribute(r, (x, w), (bottom, op.Relu(w)), (top, op.Min(w, 0)), eps=eps)

    return rule


def w_square_rule(eps: float = EPSILON) -> LayerRule:
    """R_i = sum_j w_ij^2 / (the sum of that over i) R_j (Montavon et al. 2017); the bias is dropped.

    Zennit squares the bias too, which then keeps its share.
    """
    return lambda layer, r: layer.distribute(r, (layer.ones, layer.op.Mul(layer.w, layer.w)), eps=eps)


def flat_rule(eps: float = EPSILON) -> LayerRule:
    """R_i = sum_j 1 / (how many i lead to j) R_j (Lapuschkin et al. 2019); the bias is dropped."""

    def rule(layer: Layer, r: ir.Value) -> ir.Value:
        assert layer.w.dtype is not None
        ones = layer.op.full(layer.op.shape(layer.w), 1, layer.w.dtype)
        return layer.distribute(r, (layer.ones, ones), eps=eps)

    return rule


def _bound(layer: Layer, given: Bound, reduce: Callable[..., ir.Value]) -> ir.Value:
    """A bound of x as it was given, or found in each example."""
    op, x = layer.op, layer.x
    assert x.shape is not None
    assert x.dtype is not None
    rank, by_channel = len(x.shape), layer.node.op_type in CONVOLUTIONS
    if given is None:
        axes = range(2, rank) if by_channel else range(min(1, rank - 1), rank)
        return reduce(x, op.ints(*axes), keepdims=1)
    numbers = np.asarray(given, x.dtype.numpy())
    if numbers.ndim == 1 and by_channel:
        numbers = numbers.reshape(-1, *[1] * (rank - 2))
    return op.constant(numbers)


# Rule sets


def lrp_0() -> RuleSet:
    """LRP-0 everywhere. Without biases, in a network of ReLU and MaxPool, it is input x gradient."""
    return composite("lrp-0", epsilon_rule(0), eps=0)


def lrp_epsilon(eps: float = EPSILON) -> RuleSet:
    """LRP-epsilon everywhere."""
    return composite("lrp-epsilon", epsilon_rule(eps), eps=eps)


def lrp_gamma(gamma: float = 0.25) -> RuleSet:
    """LRP-gamma in every linear layer."""
    return composite("lrp-gamma", gamma_rule(gamma))


def lrp_z_plus() -> RuleSet:
    """The z+ rule in every linear layer."""
    return composite("lrp-z-plus", z_plus_rule())


def lrp_alpha_beta(alpha: float = 2, beta: float = 1) -> RuleSet:
    """The alpha-beta rule in every linear layer."""
    return composite("lrp-alpha-beta", alpha_beta_rule(alpha, beta))


def lrp_z_box(low: Bound = None, high: Bound = None) -> RuleSet:
    """Deep Taylor decomposition for pixels: the box rule in the first layer, z+ in the others.

    The set named `lrp-z-box` knows no bounds: each example is its own box, see `z_box_rule`.
    """
    return composite("lrp-z-box", z_plus_rule(), first=z_box_rule(low, high))


def lrp_w_square() -> RuleSet:
    """Deep Taylor decomposition for inputs without bounds: w^2 in the first layer, z+ in the others."""
    return composite("lrp-w-square", z_plus_rule(), first=w_square_rule())


def lrp_flat() -> RuleSet:
    """The first layer spreads relevance evenly over what it reads; z+ in the others."""
    return composite("lrp-flat", z_plus_rule(), first=flat_rule())


def epsilon_plus(eps: float = EPSILON) -> RuleSet:
    """Zennit's EpsilonPlus: z+ in convolutions, epsilon in dense layers."""
    return composite("lrp-epsilon-plus", z_plus_rule(), epsilon_rule(eps))


def epsilon_gamma_box(
    low: Bound = None, high: Bound = None, gamma: float = 0.25, eps: float = EPSILON
) -> RuleSet:
    """Zennit's EpsilonGammaBox: box in the first layer, gamma in convolutions, epsilon in dense layers.

    The set named `lrp-epsilon-gamma-box` knows no bounds: each example is its own box, see `z_box_rule`.
    """
    rule = gamma_rule(gamma)
    return composite("lrp-epsilon-gamma-box", rule, epsilon_rule(eps), z_box_rule(low, high))


def epsilon_alpha2_beta1(eps: float = EPSILON) -> RuleSet:
    """Zennit's EpsilonAlpha2Beta1: alpha 2 and beta 1 in convolutions, epsilon in dense layers."""
    return composite("lrp-epsilon-alpha2-beta1", alpha_beta_rule(2, 1), epsilon_rule(eps))


def excitation_backprop() -> RuleSet:
    """Excitation backpropagation: the winner takes its share, layer by layer (Zhang et al. 2018)."""
    return composite("excitation-backprop", excitation_rule())


LRP_RULE_SETS = (
    *(lrp_0(), lrp_epsilon(), lrp_gamma(), lrp_z_plus(), lrp_alpha_beta(), lrp_z_box(), lrp_w_square()),
    *(lrp_flat(), epsilon_plus(), epsilon_gamma_box(), epsilon_alpha2_beta1(), excitation_backprop()),
)
