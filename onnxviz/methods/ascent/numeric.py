"""The gradient from values alone, for a network that cannot be differentiated: SPSA and NES."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxviz.methods.ascent.transforms import Array


@dataclass(frozen=True)
class Sampler:
    """Estimates a gradient from pairs of values on either side.

    `spsa`: the mean over K of (f(x + c d) - f(x - c d)) / (2 c) d, each d of random signs (Spall 1992).
    `nes`: the same with d normal, antithetic (Wierstra et al. 2014; Ilyas et al. 2018, algorithm 1).

    Attributes:
        kind: Which of them.
        pairs: K.
        reach: c, in the units of what is optimised.
    """

    kind: Literal["spsa", "nes"] = "spsa"
    pairs: int = 16
    reach: float = 1.0

    @property
    def queries(self) -> int:
        """How often a step asks the network, for each picture."""
        return 2 * self.pairs + 1

    def slope(self, values: Callable[[Array], Array], theta: Array, rng: np.random.Generator) -> Array:
        """The gradient at `theta` [...], float32; `values` tells what each of n neighbours is worth, [n]."""
        shape = (self.pairs, *theta.shape)
        moves = rng.choice((-1.0, 1.0), shape) if self.kind == "spsa" else rng.standard_normal(shape)
        moves = moves.astype(np.float32)
        steps = np.float32(self.reach) * moves
        found = values(np.concatenate([theta + steps, theta - steps]))
        rise = (found[: self.pairs] - found[self.pairs :]) / (2 * self.reach)
        return np.asarray(np.tensordot(rise, moves, axes=1) / self.pairs, np.float32)
