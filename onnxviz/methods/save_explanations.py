"""Explanations into a folder, part by part: pictures at once, numbers and the manifest at the end."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.methods.arrays import GrowingArrays
from onnxviz.methods.explanation import Evidence, Explanation
from onnxviz.methods.save import Folder, filling, slug
from onnxviz.methods.stream import Part
from onnxviz.runtime.progress import track
from onnxviz.views.colors import HEAT, Pixels
from onnxviz.views.heatmaps import ALPHA, heat, mosaic, overlay, place, signed
from onnxviz.views.layout import beside, fit, panel, stack
from onnxviz.views.photographs import empty_map, explanation
from onnxviz.views.text import NOTE_SIZE, caption, paragraph, wrap

Array: TypeAlias = npt.NDArray[Any]

MOST_COMPARED = 6
"""Columns of one sheet of comparison."""

ACROSS = 4
"""Tiles in a row, where one picture is explained for one target."""

_THUMB, _LABEL = 224, 120


def save_explanation(
    found: Explanation,
    folder: str | Path,
    overwrite: bool = False,
    colormap: str | None = None,
    alpha: float | None = None,
) -> Path:
    """Write an explanation: for each map the figure, the overlay, the bare heatmap and the raw map."""
    with explanations_into(folder, found.pictures.names, overwrite, colormap, alpha) as writer:
        writer.add(Part(range(len(found.pictures.names)), {found.method: found}))
    return Path(folder)


class Explanations:
    """A folder of explanations while it is filled."""

    def __init__(
        self,
        out: Folder,
        arrays: GrowingArrays,
        names: Sequence[str],
        colormap: str | None,
        alpha: float | None,
    ) -> None:
        """Write into `out`; `names` are those of all pictures that will come."""
        self.out = out
        self.stems = distinct([slug(Path(name).stem) for name in names])
        self.manifest: dict[str, Any] = {}
        self._arrays = arrays
        self._look = (HEAT if colormap is None else colormap, ALPHA if alpha is None else alpha)
        self._taken: set[str] = set()
        self._sheets = 0

    def add(self, part: Part) -> None:
        """Draw what was found of some pictures, and keep the numbers."""
        several = len(part.explanations) > 1
        for method, found in part.explanations.items():
            names = self._map_names(part, found, several)
            for one, name in track(list(zip(found.evidence, names, strict=True)), "drawing"):
                self._draw(found, one, name)
                self._keep(one, f"{method}/" if several else "")
            if not several:
                self._targets(part, found)
        if several:
            self._compare(list(part.explanations.values()))
        self.manifest = merged(self.manifest, _together(part.explanations))

    def finish(self) -> None:
        """Write the numbers and the manifest."""
        self._arrays.write(self.out.path / "explain.npz")
        self.out.manifest(self.manifest)

    def _map_names(self, part: Part, found: Explanation, several: bool) -> list[str]:
        ending = f"-{slug(found.method.replace('+', 'p'))}" if several else ""
        names = distinct(
            [
                f"{self.stems[part.numbers[one.picture]]}-{slug(one.target.text, 40)}{ending}"
                for one in found.evidence
            ]
        )
        for place_, name in enumerate(names):
            while name.lower() in self._taken:
                name += "_"
            self._taken.add(name.lower())
            names[place_] = name
        return names

    def _draw(self, found: Explanation, one: Evidence, name: str) -> None:
        colormap, alpha = self._look
        photograph = found.pictures.pixels[one.picture]
        title = f"{found.method}: {one.target.text}"
        chance = "" if one.probability is None else f", probability {one.probability:.3f}"
        where = f"at {', '.join(layer.name for layer in one.layers)}" if one.layers else "over the pixels"
        route = "" if one.route == "none" else f"; gradient: {one.route}"
        check = f"; {completeness(one.checks)}" if one.checks else ""
        note = f"{where}; score {one.score:.4g}{chance}{route}{check}"
        lines = [
            f"{rank}. {entry['label']} ({entry['index']})  {entry['probability']:.1%}"
            for rank, entry in enumerate(found.manifest["top5"][one.picture], start=1)
        ]
        if one.empty is not None:
            self.out.picture(name, empty_map(photograph, one.empty, title, lines, note))
            return
        warm = _placed(found, one)
        size = (photograph.shape[0], photograph.shape[1])
        self.out.picture(name, explanation(photograph, warm, title, lines, note, colormap, alpha))
        self.out.picture(f"{name}-overlay", overlay(photograph, warm, colormap, alpha))
        self.out.picture(f"{name}-heatmap", heat(warm, colormap))
        raw = mosaic(signed(_flat(one.raw)), found.pictures.boxes[one.picture], size)
        self.out.picture(f"{name}-raw", raw)

    def _keep(self, one: Evidence, prefix: str) -> None:
        self._arrays.add(f"{prefix}heatmap", one.heatmap)
        self._arrays.add(f"{prefix}raw", one.raw)
        self._arrays.add(f"{prefix}score", one.score)
        chance = np.nan if one.probability is None else one.probability
        self._arrays.add(f"{prefix}probability", chance)

    def _targets(self, part: Part, found: Explanation) -> None:
        """For each picture that was explained for several targets, these side by side."""
        colormap, alpha = self._look
        for picture in dict.fromkeys(one.picture for one in found.evidence):
            members = [one for one in found.evidence if one.picture == picture and one.empty is None]
            if len(members) < 2:
                continue
            photograph = found.pictures.pixels[picture]
            panels = [panel(photograph, "picture")]
            for one in members:
                chance = "" if one.probability is None else f" {one.probability:.1%}"
                laid = overlay(photograph, _placed(found, one), colormap, alpha)
                panels.append(panel(laid, f"{one.target.text}{chance}"))
            stem = self.stems[part.numbers[picture]]
            title = f"{found.method}: {len(members)} targets"
            self.out.picture(f"{stem}-targets", caption(beside(panels), title))

    def _compare(self, found: Sequence[Explanation]) -> None:
        """Sheets with a row for each method and a column for each picture and target."""
        count = len(found[0].evidence)
        if count == 1:
            self._tile(found)
            return
        for start in range(0, count, MOST_COMPARED):
            columns = range(start, min(start + MOST_COMPARED, count))
            rows = [self._row("picture", [_thumb_of(found[0], number) for number in columns])]
            rows += [
                self._row(each.method, [self._thumb(each, number) for number in columns]) for each in found
            ]
            self._sheet(rows, "methods compared", numbered=count > MOST_COMPARED)

    def _tile(self, found: Sequence[Explanation]) -> None:
        """One picture and target: a sheet with a tile for each method."""
        tiles = [_thumb_of(found[0], 0), *(self._thumb(each, 0, each.method) for each in found)]
        lines = [beside(tiles[start : start + ACROSS]) for start in range(0, len(tiles), ACROSS)]
        self._sheet(lines, found[0].evidence[0].target.text)

    def _sheet(self, lines: Sequence[Pixels], title: str, numbered: bool = False) -> None:
        ending = f"-{self._sheets:03d}" if numbered or self._sheets else ""
        self._sheets += 1
        self.out.picture(f"comparison{ending}", caption(stack(lines), title))

    def _row(self, label: str, thumbs: Sequence[Pixels]) -> Pixels:
        return beside([paragraph(wrap(label, _LABEL, NOTE_SIZE + 2), _LABEL, NOTE_SIZE + 2), *thumbs])

    def _thumb(self, found: Explanation, number: int, title: str | None = None) -> Pixels:
        one = found.evidence[number]
        photograph = found.pictures.pixels[one.picture]
        if one.empty is not None:
            return panel(fit(photograph, _THUMB), f"{title or ''} empty: {one.empty}".strip())
        colormap, alpha = self._look
        warm = _placed(found, one)
        # Lines as fine as pixels would be lost on a photograph.
        shown = heat(warm, colormap) if one.raw.ndim == 3 else overlay(photograph, warm, colormap, alpha)
        return panel(fit(shown, _THUMB), title or one.target.text)


@contextmanager
def explanations_into(
    folder: str | Path,
    names: Sequence[str],
    overwrite: bool = False,
    colormap: str | None = None,
    alpha: float | None = None,
) -> Iterator[Explanations]:
    """A folder to fill with explanations, which appears whole when the block ends well, or not at all.

    Args:
        folder: Where to write.
        names: The names of all pictures that will come.
        overwrite: Whether the folder may hold files.
        colormap: A matplotlib name; None: the usual one.
        alpha: Opacity of the strongest values; None: the usual one.

    Raises:
        OutputError: The folder cannot be written, or holds files and `overwrite` is false.
    """
    with filling(folder, overwrite) as out, TemporaryDirectory(prefix="onnxviz-") as scratch:
        writer = Explanations(out, GrowingArrays(Path(scratch)), names, colormap, alpha)
        yield writer
        writer.finish()


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of two parts of the pictures together."""
    if not first:
        return dict(second)
    whole, before = dict(first), len(first["pictures"])
    for key in ("pictures", "top5", "target", "score", "probability"):
        whole[key] = [*first[key], *second[key]] if key in first else second[key]
    for key in ("warnings", "gradient", "layer"):
        whole[key] = [*first[key], *(entry for entry in second[key] if entry not in first[key])]
    shifted = [{**entry, "picture": entry["picture"] + before} for entry in second["maps"]]
    whole["maps"] = [*first["maps"], *shifted]
    whole["seconds"] = {
        key: round(first["seconds"][key] + second["seconds"][key], 3) for key in first["seconds"]
    }
    return whole


def completeness(checks: Mapping[str, float]) -> str:
    """How far a map's sum is from what it promises, in words."""
    return f"sums to {checks['sum']:.4g} of {checks['difference']:.4g} (delta {checks['delta']:.2g})"


def _together(found: Mapping[str, Explanation]) -> dict[str, Any]:
    """One manifest of the same pictures explained by several methods."""
    first = next(iter(found.values())).manifest
    if len(found) == 1:
        return dict(first)
    whole = dict(first)
    whole["method"] = list(found)
    whole["settings"] = {name: each.manifest["settings"] for name, each in found.items()}
    whole["rules"] = {name: each.manifest["rules"] for name, each in found.items()}
    manifests = [each.manifest for each in found.values()]
    for key in ("warnings", "gradient", "layer"):
        whole[key] = [*{str(entry): entry for one in manifests for entry in one[key]}.values()]
    whole["maps"] = [
        {"method": name, **entry} for name, each in found.items() for entry in each.manifest["maps"]
    ]
    whole["seconds"] = {
        key: round(sum(one["seconds"][key] for one in manifests), 3) for key in first["seconds"]
    }
    return whole


def distinct(names: Sequence[str]) -> list[str]:
    """File names, numbered where several are the same, which upper and lower case are on many systems."""
    count = Counter(name.lower() for name in names)
    found: dict[str, str] = {}
    for number, name in enumerate(names):
        one = name if count[name.lower()] == 1 else f"{name}-{number}"
        while one.lower() in found:
            one += "_"
        found[one.lower()] = one
    return list(found.values())


def _placed(found: Explanation, one: Evidence) -> npt.NDArray[np.float32]:
    size = found.pictures.pixels[one.picture].shape[:2]
    warm = place(one.heatmap, found.pictures.boxes[one.picture], (size[0], size[1]))
    return np.clip(warm, 0, 1)


def _thumb_of(found: Explanation, number: int) -> Pixels:
    picture = found.evidence[number].picture
    return panel(fit(found.pictures.pixels[picture], _THUMB), Path(found.pictures.names[picture]).name)


def _flat(raw: Array) -> Array:
    """A raw map as one signed plane: pixel methods are summed over their channels."""
    if raw.ndim == 2:
        return raw
    channels = -1 if raw.shape[-1] in (1, 3) else 0
    return np.asarray(raw.astype(np.float64).sum(axis=channels))
