"""Projections into a folder: the sheet of the units, the numbers, and the manifest."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.methods.projection import Projections
from onnxviz.methods.save import filling, slug
from onnxviz.views.projections import UnitView, projection_sheet
from onnxviz.views.text import number
from onnxviz.vision.images import seen


def save_projections(
    found: Projections,
    folder: str | Path,
    overwrite: bool = False,
    colormap: str | None = None,
    alpha: float | None = None,
) -> Path:
    """Write projections: one sheet of all units, deconv.npz with the raw numbers, and manifest.json.

    Raises:
        SelectorError: There is no such colormap.
        OutputError: The folder cannot be written, or holds files and `overwrite` is false.
    """
    layer = found.layer
    with filling(folder, overwrite) as out:
        sheet = projection_sheet(
            unit_views(found),
            f"{layer.name}  ({layer.op})",
            f"{found.rules}: what each unit sees, what of that excites it (mid-grey: nothing; each on its "
            "own scale), and its channel's activation on the picture",
            colormap,
            0.8 if alpha is None else alpha,
        )
        out.picture(f"{layer.index:03d}-{slug(layer.name)}", sheet)
        out.arrays("deconv", arrays_of(found))
        out.manifest(found.manifest)
    return Path(folder)


def arrays_of(found: Projections) -> dict[str, npt.NDArray[Any]]:
    """The raw numbers, a row for each unit."""
    return {
        "pixels": found.pixels,
        "patches": found.patches,
        "boxes": found.boxes,
        "seen": found.seen,
        "channels": found.channels,
        "values": found.values,
        "positions": np.array([unit.position for unit in found.units], np.int64),
        "pictures": np.array([unit.picture for unit in found.units], np.int64),
        "activations": found.maps,
    }


def unit_views(found: Projections) -> list[UnitView]:
    """Each unit as it is drawn."""
    shown = {
        picture: seen(found.pictures.pixels[picture], found.pictures.boxes[picture], found.input_size)
        for picture in {unit.picture for unit in found.units}
    }
    return [
        UnitView(
            title=f"channel {unit.channel} · {number(float(value))}",
            patch=patch,
            projection=in_colours(pixels, found.blue_first) if why is None else None,
            reason=why or "",
            picture=shown[unit.picture],
            activation=activation,
            field=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        )
        for unit, value, patch, pixels, why, activation, box in zip(
            found.units,
            found.values,
            found.patches,
            found.pixels,
            found.empty,
            found.maps,
            found.boxes,
            strict=True,
        )
    ]


def in_colours(pixels: npt.NDArray[np.float32], blue_first: bool) -> npt.NDArray[np.float32]:
    """A projection [h, w, C] as red, green and blue [h, w, 3]; grey where it has other channels."""
    if pixels.shape[2] != 3:
        return np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    return pixels[..., ::-1] if blue_first else pixels
