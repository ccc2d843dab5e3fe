"""`Explanation`: the maps, what they are about, and where they came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.graph.layers import Layer
from onnxviz.methods.target import Target
from onnxviz.vision.images import Pictures

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Evidence:
    """One map: one picture, one target.

    `layers` are where it was taken (none: over the pixels), `checks` what the method promises of its map and
    how far it is from it.
    """

    picture: int
    target: Target
    score: float
    probability: float | None
    raw: Array
    heatmap: npt.NDArray[np.float32]
    layers: tuple[Layer, ...]
    route: str
    rules: str | None
    empty: str | None
    checks: Mapping[str, float]
    quality: Mapping[str, float]


@dataclass(frozen=True)
class Explanation:
    """Maps of what in each picture speaks for a target.

    Attributes:
        heatmap: float32 [N,H,W] in [0,1], at the size of the model's input; zeros where a map is empty.
        raw: Signed and not normalised: [N,h,w] at the layer's own resolution for CAMs, the input's own shape
            for pixel methods.
        target: For each map the class index, or the text of a contrast or an element.
        score: [N], the value of the tensor that was differentiated.
        probability: [N], the softmax of the output (the output itself where it is one); NaN where the target
            is no single class or element.
        layer: The layer's name; None for pixel methods.
        method: The method's name.
        manifest: Where all this came from: see docs/manifest.md.
        pictures: The pictures as read, and where the model's input lies in each.
        evidence: The same map by map.
    """

    heatmap: npt.NDArray[np.float32]
    raw: Array
    target: tuple[int | str, ...]
    score: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]
    layer: str | None
    method: str
    manifest: Mapping[str, Any]
    pictures: Pictures = field(repr=False)
    evidence: tuple[Evidence, ...] = field(repr=False)

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the pictures (PNG), the numbers (explain.npz) and manifest.json into a folder.

        Raises:
            OutputError: The folder cannot be written, or holds files and `overwrite` is false.
        """
        from onnxviz.methods.save_explanations import save_explanation

        return save_explanation(self, folder, overwrite)
