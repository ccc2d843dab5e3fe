"""Check gradients against finite differences: the tests of this project, and of your own rules."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy.typing as npt

if TYPE_CHECKING:
    from onnxviz.autodiff.ruleset import RuleSet
    from onnxviz.graph.model import ModelLike


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
    by ONNX's reference evaluator: in float64 where it can, else in the model's own types, with steps of at
    least 1e-2. Places where a tensor is infinite are left as they are. Where quantisers are differentiated
    straight through, the differences leave their rounding errors what they are.

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
    from onnxviz._reference.differences import TOLERANCE, compare
    from onnxviz.graph.model import load

    names = [wrt] if isinstance(wrt, str) else list(dict.fromkeys(wrt))
    found = compare(load(model), of, names, inputs or {}, rules, seed, step, tolerance)
    limit = TOLERANCE[found.in_double] if tolerance is None else tolerance
    for slope in found.slopes:
        if not slope.error <= limit:  # a NaN is an error too
            raise AssertionError(
                f"the gradient of {of!r} with respect to {slope.name!r} is wrong: along one direction "
                f"the graph says {slope.exact:.9g}, finite differences say {slope.numeric:.9g} "
                f"(relative error {slope.error:.1e}, tolerance {limit:.0e})"
            )
    return max((slope.error for slope in found.slopes), default=0.0)
