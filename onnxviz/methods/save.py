"""Results into folders: the pictures, the raw numbers and the manifest, all of them or none."""

import io
import re
import zipfile
from collections import Counter
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
from onnxviz.methods.explanation import Evidence, Explanation
from onnxviz.methods.manifest import json_text
from onnxviz.runtime.progress import track
from onnxviz.views.colors import HEAT, Pixels, Scale
from onnxviz.views.figures import compare_grid, feature_grid, strip
from onnxviz.views.files import digests, output_folder, write_png
from onnxviz.views.heatmaps import ALPHA, heat, mosaic, overlay, place, signed
from onnxviz.views.kernels import kernel_grid
from onnxviz.views.layout import beside, panel
from onnxviz.views.photographs import channels_on_picture, empty_map, explanation
from onnxviz.views.text import caption

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


def save_explanation(
    found: Explanation,
    folder: str | Path,
    overwrite: bool = False,
    colormap: str | None = None,
    alpha: float | None = None,
) -> Path:
    """Write an explanation: for each map the figure, the overlay, the bare heatmap and the raw map."""
    colors, opacity = (HEAT if colormap is None else colormap), (ALPHA if alpha is None else alpha)
    names = _map_names(found)
    with filling(folder, overwrite) as out:
        for one, name in track(list(zip(found.evidence, names, strict=True)), "drawing"):
            _draw_map(out, found, one, name, colors, opacity)
        for picture in dict.fromkeys(one.picture for one in found.evidence):
            members = [one for one in found.evidence if one.picture == picture and one.empty is None]
            if len(members) > 1:
                stem = _stems(found)[picture]
                out.picture(f"{stem}-targets", _side_by_side(found, members, colors, opacity))
        arrays: dict[str, Array] = {
            "heatmap": found.heatmap,
            "score": found.score,
            "probability": found.probability,
        }
        if found.raw.dtype == object:
            arrays |= {f"raw_{number}": one.raw for number, one in enumerate(found.evidence)}
        else:
            arrays["raw"] = found.raw
        out.arrays("explain", arrays)
        out.manifest(found.manifest)
    return Path(folder)


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


def _draw_map(out: Folder, found: Explanation, one: Evidence, name: str, colormap: str, alpha: float) -> None:
    photograph = found.pictures.pixels[one.picture]
    title = f"{found.method}: {one.target.text}"
    chance = "" if one.probability is None else f", probability {one.probability:.3f}"
    place_name = f"at {', '.join(layer.name for layer in one.layers)}" if one.layers else "over the pixels"
    note = f"{place_name}; score {one.score:.4g}{chance}; gradient: {one.route}"
    lines = [
        f"{rank}. {entry['label']} ({entry['index']})  {entry['probability']:.1%}"
        for rank, entry in enumerate(found.manifest["top5"][one.picture], start=1)
    ]
    if one.empty is not None:
        out.picture(name, empty_map(photograph, one.empty, title, lines, note))
        return
    warm = _placed(found, one)
    out.picture(name, explanation(photograph, warm, title, lines, note, colormap, alpha))
    out.picture(f"{name}-overlay", overlay(photograph, warm, colormap, alpha))
    out.picture(f"{name}-heatmap", heat(warm, colormap))
    size = (photograph.shape[0], photograph.shape[1])
    out.picture(f"{name}-raw", mosaic(signed(_flat(one.raw)), found.pictures.boxes[one.picture], size))


def _side_by_side(found: Explanation, members: Sequence[Evidence], colormap: str, alpha: float) -> Pixels:
    photograph = found.pictures.pixels[members[0].picture]
    panels = [panel(photograph, "picture")]
    for one in members:
        chance = "" if one.probability is None else f" {one.probability:.1%}"
        warm = _placed(found, one)
        panels.append(panel(overlay(photograph, warm, colormap, alpha), f"{one.target.text}{chance}"))
    return caption(beside(panels), f"{found.method}: {len(members)} targets")


def _placed(found: Explanation, one: Evidence) -> npt.NDArray[np.float32]:
    size = found.pictures.pixels[one.picture].shape[:2]
    warm = place(one.heatmap, found.pictures.boxes[one.picture], (size[0], size[1]))
    return np.clip(warm, 0, 1)


def _flat(raw: Array) -> Array:
    """A raw map as one signed plane: pixel methods are summed over their channels."""
    if raw.ndim == 2:
        return raw
    channels = -1 if raw.shape[-1] in (1, 3) else 0
    return np.asarray(raw.astype(np.float64).sum(axis=channels))


def _stems(found: Explanation) -> list[str]:
    """One name for each picture, numbered where several pictures would share it."""
    return _distinct([slug(Path(name).stem) for name in found.pictures.names])


def _map_names(found: Explanation) -> list[str]:
    stems = _stems(found)
    return _distinct([f"{stems[one.picture]}-{slug(one.target.text, 40)}" for one in found.evidence])


def _distinct(names: Sequence[str]) -> list[str]:
    """File names, numbered where several are the same, which upper and lower case are on many systems."""
    count = Counter(name.lower() for name in names)
    found: dict[str, str] = {}
    for number, name in enumerate(names):
        one = name if count[name.lower()] == 1 else f"{name}-{number}"
        while one.lower() in found:
            one += "_"
        found[one.lower()] = one
    return list(found.values())


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
