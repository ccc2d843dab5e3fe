"""Results into folders: the pictures, the raw numbers and the manifest, all of them or none."""

import io
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.errors import SelectorError
from onnxviz.files import write_atomic
from onnxviz.graph.layers import Layer
from onnxviz.methods.activations import Observation
from onnxviz.methods.channels import choose_channels
from onnxviz.methods.manifest import json_text
from onnxviz.runtime.progress import track
from onnxviz.views.colors import Pixels, Scale
from onnxviz.views.figures import compare_grid, feature_grid, strip
from onnxviz.views.files import digests, output_folder, write_png
from onnxviz.views.kernels import kernel_grid
from onnxviz.views.photographs import channels_on_picture

Array: TypeAlias = npt.NDArray[Any]

MOST_ON_PICTURE = 16
MOST_SIDE_BY_SIDE = 6


class Folder:
    """An output folder while it is filled: pictures and arrays by name."""

    def __init__(self, path: Path) -> None:
        """Fill `path`, an empty folder."""
        self.path = path

    def picture(self, name: str, image: Pixels) -> None:
        """Write one picture."""
        write_png(self.path / f"{name}.png", image)

    def arrays(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Write arrays into one .npz file."""
        data = io.BytesIO()
        # numpy.savez takes the names as keywords, and a layer may bear the name of one of its own.
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for key, array in _keyed(arrays).items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        write_atomic(self.path / f"{name}.npz", data.getvalue())

    def text(self, name: str, text: str) -> None:
        """Write a text file."""
        write_atomic(self.path / name, text.encode(errors="backslashreplace"))

    def manifest(self, entries: Mapping[str, Any]) -> None:
        """Write manifest.json, with the sha256 of every file written before."""
        whole = {**entries, "files": digests(self.path)}
        # A file name that is no Unicode holds lone surrogates, which JSON writes as escapes.
        write_atomic(self.path / "manifest.json", json_text(whole).encode(errors="backslashreplace"))


@contextmanager
def filling(folder: str | Path, overwrite: bool) -> Iterator[Folder]:
    """A folder to fill, which appears whole when the block ends well, or not at all.

    Raises:
        OutputError: It cannot be written, or holds files and `overwrite` is false.
    """
    with output_folder(folder, overwrite=overwrite) as path:
        yield Folder(path)


def save_activations(
    seen: Observation,
    folder: str | Path,
    channels: str = "all",
    scale: Scale = "layer",
    strip_channel: int | None = None,
    overwrite: bool = False,
    colormap: str | None = None,
    alpha: float | None = None,
) -> Path:
    """Write activations: one titled sheet for each layer; of several pictures, side by side on one scale.

    Up to 16 channels, chosen by number or strength, are also laid over the pictures (the first six).
    `strip_channel` adds one channel of every layer, for the first picture, in one strip.

    Raises:
        SelectorError: A channel is out of range, or there is no such colormap.
        OutputError: The folder cannot be written.
    """
    names = seen.pictures.names
    with filling(folder, overwrite) as out:
        for layer in track(seen.layers, "drawing"):
            maps = seen.maps(layer)
            chosen = choose_channels(channels, maps, layer.name)
            title, note = f"{layer.name}  ({layer.op})", _size_note(maps)
            stem = f"{layer.index:03d}-{slug(layer.name)}"
            if 1 < len(names) <= MOST_SIDE_BY_SIDE:
                columns = [(Path(name).name, one[chosen]) for name, one in zip(names, maps, strict=True)]
                out.picture(stem, compare_grid(columns, chosen, title, note, scale, colormap))
            else:
                for number, (name, one) in enumerate(zip(names, maps, strict=True)):
                    sheet = feature_grid(one[chosen], chosen, title, note, scale, colormap)
                    ending = "" if len(names) == 1 else f"-{number:03d}-{slug(Path(name).stem)}"
                    out.picture(f"{stem}{ending}", sheet)
            if channels.strip().lower() != "all" and len(chosen) <= MOST_ON_PICTURE and layer.is_spatial:
                for number, name in enumerate(names[:MOST_SIDE_BY_SIDE]):
                    figure = channels_on_picture(
                        seen.pictures.pixels[number],
                        maps[number][chosen],
                        chosen,
                        seen.pictures.boxes[number],
                        title,
                        colormap=colormap,
                        alpha=0.8 if alpha is None else alpha,
                    )
                    ending = "" if len(names) == 1 else f"-{number:03d}-{slug(Path(name).stem)}"
                    out.picture(f"{stem}-on-picture{ending}", figure)
        if strip_channel is not None:
            out.picture(f"strip-channel-{strip_channel}", _strip(seen, strip_channel, colormap))
        out.arrays("activations", seen.arrays)
        out.manifest({**seen.manifest, "channels": channels, "scale": scale})
    return Path(folder)


def save_kernels(
    kernels: Mapping[str, Array],
    layers: Sequence[Layer],
    entries: Mapping[str, Any],
    folder: str | Path,
    overwrite: bool = False,
    colormap: str | None = None,
    bgr: Collection[str] = (),
) -> Path:
    """Write the kernels of convolutions: a sheet for each layer, and the numbers.

    `bgr` names the layers whose three inputs are blue, green, red.
    """
    with filling(folder, overwrite) as out:
        for layer in track(layers, "drawing"):
            # Drawn as red, green, blue, whatever order the model takes its colours in.
            weights = kernels[layer.name][:, ::-1] if layer.name in bgr else kernels[layer.name]
            note = " × ".join(map(str, weights.shape))
            figure = kernel_grid(weights, f"{layer.name}  ({layer.op})", note, colormap)
            out.picture(f"{layer.index:03d}-{slug(layer.name)}", figure)
        out.arrays("kernels", kernels)
        out.manifest(entries)
    return Path(folder)


def slug(text: str, longest: int = 60) -> str:
    """A text as part of a file name on any system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:longest] or "_"


def _strip(seen: Observation, channel: int, colormap: str | None) -> Pixels:
    rows = [
        (layer.name, seen.maps(layer)[0, channel])
        for layer in seen.layers
        if seen.maps(layer).shape[1] > channel
    ]
    if not rows:
        raise SelectorError(f"no layer here has a channel {channel}")
    return strip(rows, f"channel {channel} of {len(rows)} layers", colormap=colormap)


def _size_note(maps: Array) -> str:
    _, channels, height, width = maps.shape
    return f"{channels} channels, {height} × {width}"


def _keyed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays under the keys of an .npz file, which are paths inside an archive, no two alike."""
    keyed: dict[str, Array] = {}
    for name, array in arrays.items():
        stem = key = name.strip("/").replace("\\", "/") or "_"
        number = 2
        while key in keyed:
            key, number = f"{stem}_{number}", number + 1
        keyed[key] = array
    return keyed
