"""The strongest pictures of channels into a folder: sheets, pages, numbers, statistics and the manifest."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.errors import DisconnectedError, ShapeError, UnsupportedOperator
from onnxviz.files import write_atomic
from onnxviz.methods.ascent.shown import as_rgb
from onnxviz.methods.manifest import json_text
from onnxviz.methods.maximize import maximize
from onnxviz.methods.projection import MID_GREY, Projections, crop, project
from onnxviz.methods.save import filling, slug
from onnxviz.methods.save_projections import in_colours
from onnxviz.methods.top.histogram import LEVELS, bars
from onnxviz.methods.top.images import TopImages
from onnxviz.methods.units import Unit
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track
from onnxviz.views.text import number
from onnxviz.views.top import ChannelView, PageView, channel_page, top_sheet
from onnxviz.vision.images import Pictures, prepare, seen

_AT_ONCE = 16
_ON_A_SHEET = 64
_BARS = 65
_STEPS = 128  # of the ascent: a quarter of what `maximize` takes


def save_top(
    found: TopImages,
    folder: str | Path,
    *,
    overwrite: bool = False,
    projections: bool = True,
    pages: bool = False,
) -> Path:
    """Write the strongest patches: sheets of up to 64 channels, the numbers, and the statistics.

    Args:
        found: What `top_images` found.
        folder: Where to: sheets, top.json, top.npz, statistics.json and manifest.json.
        overwrite: Write there though it holds files.
        projections: Whether to project each patch's unit to the pixels, where the model lets it.
        pages: Whether to draw a page for each channel too.

    Raises:
        ImageError: A picture cannot be read any more.
        OutputError: The folder cannot be written, or holds files and `overwrite` is false.
    """
    layer = found.layer
    stem, title = f"{layer.index:03d}-{slug(layer.name)}", f"{layer.name}  ({layer.op})"
    rows = [row for row in range(len(found.channels)) if found.units(row)]
    groups = list(batches(len(rows), _AT_ONCE))
    warnings = list(found.manifest["warnings"])
    liked = _synthetic(found, rows, warnings) if pages else {}
    with filling(folder, overwrite) as out:
        views: list[ChannelView] = []
        for start, stop in track(groups, "drawing"):
            group = _Group(found, rows[start:stop], projections)
            if group.refused is not None:
                projections = False
                warnings.append(f"no projections: {group.refused}")
            views += map(group.channel, range(stop - start))
            for place in range(stop - start) if pages else ():
                channel = int(found.channels[rows[start + place]])
                about = replace(group.page(place), synthetic=liked.get(channel))
                page = channel_page(group.channel(place), about, title, _told(found, projections))
                out.picture(f"channel-{channel:04d}", page)
        sheets = list(batches(len(views), _ON_A_SHEET))
        for start, stop in sheets:
            ending = "" if len(sheets) == 1 else f"-{start // _ON_A_SHEET + 1:03d}"
            out.picture(f"{stem}{ending}", top_sheet(views[start:stop], title, _told(found, projections)))
        out.arrays("top", arrays_of(found))
        write_atomic(out.path / "top.json", _encoded(listed(found)))
        write_atomic(out.path / "statistics.json", _encoded(statistics_of(found)))
        out.manifest({**found.manifest, "projections": projections, "warnings": warnings})
    return Path(folder)


def arrays_of(found: TopImages) -> dict[str, npt.NDArray[Any]]:
    """The numbers: a row for each chosen channel, then the statistics of every channel of the layer."""
    spread = found.statistics
    return {
        "channels": found.channels,
        "paths": np.array(found.paths),
        "values": found.values,
        "numbers": found.numbers,
        "positions": found.positions,
        "boxes": found.boxes,
        "mean": spread.mean,
        "min": spread.least,
        "max": spread.greatest,
        "levels": np.array(LEVELS),
        "quantiles": spread.quantiles,
        "share_of_zeros": spread.zeros,
        "share_not_above_zero": spread.nonpositive,
        "share_of_dead_pictures": spread.dead,
        "not_finite": spread.broken,
    }


def listed(found: TopImages) -> dict[str, Any]:
    """What top.json holds: see docs/top.md."""
    return {
        "layer": found.layer.name,
        "k": found.job.k,
        "channels": [
            {
                "channel": int(channel),
                "pictures": [
                    {
                        "path": path,
                        "number": int(number),
                        "value": float(value),
                        "position": place.tolist(),
                        "box": box.tolist(),
                    }
                    for path, number, value, place, box in zip(
                        found.paths[row],
                        found.numbers[row],
                        found.values[row],
                        found.positions[row],
                        found.boxes[row],
                        strict=True,
                    )
                    if number >= 0
                ],
            }
            for row, channel in enumerate(found.channels)
        ],
    }


def statistics_of(found: TopImages) -> dict[str, Any]:
    """What statistics.json holds: see docs/top.md."""
    model = found.manifest["model"]
    return {
        "model": {"path": model["path"], "sha256": model["sha256"]},
        "layer": found.layer.name,
        "tensor": found.layer.tensor,
        **found.statistics.to_dict(),
    }


def _synthetic(
    found: TopImages, rows: Sequence[int], warnings: list[str]
) -> dict[int, npt.NDArray[np.uint8]]:
    """For each channel a picture made to excite it, uint8 [h, w, 3]; none for one that never wakes."""
    job, channels = found.job, [int(found.channels[row]) for row in rows]
    try:
        made = maximize(
            job.query.model,
            found.layer.index,
            channels,
            recipe="lucid",
            steps=_STEPS,
            gradient="graph",
            preprocess=job.query.preprocess,
            inputs=job.inputs,
            device=job.device,
        )
    except (UnsupportedOperator, DisconnectedError, ShapeError) as err:
        warnings.append(f"no synthetic pictures: {err}")
        return {}
    pictures = zip(channels, as_rgb(made.images), made.woke, strict=True)
    return {channel: picture for channel, picture, woke in pictures if woke}


class _Group:
    """A few channels while they are drawn: their pictures, and their units' projections."""

    def __init__(self, found: TopImages, rows: Sequence[int], projections: bool) -> None:
        """Read the pictures of these rows, and project their units."""
        self.found, self.rows = found, rows
        numbers = sorted({unit.picture for row in rows for unit in found.units(row)})
        self.query = replace(found.job.query, pictures=_as_seen(found, numbers))
        place = {number: index for index, number in enumerate(numbers)}
        self.units = [[replace(u, picture=place[u.picture]) for u in found.units(row)] for row in rows]
        self.refused: str | None = None
        self.projections = self._project() if projections else None

    def _project(self) -> Projections | None:
        flat: list[Unit] = [unit for units in self.units for unit in units]
        try:
            return project(self.query, self.found.layer, flat, device=self.found.job.device)
        except (UnsupportedOperator, DisconnectedError, ShapeError) as err:
            self.refused = str(err)
            return None

    def channel(self, place: int) -> ChannelView:
        """One of the channels as the sheet shows it."""
        row, units = self.rows[place], self.units[place]
        value = float(self.found.values[row, 0])
        title = f"channel {self.found.channels[row]} · {number(value)}{'' if value > 0 else ' (dead)'}"
        if self.projections is None:
            shown = self.query.pictures.pixels
            boxes = self.found.boxes[row]
            pairs = zip(units, boxes, strict=False)
            return ChannelView(
                title, np.stack([crop(shown[u.picture], box, MID_GREY) for u, box in pairs]), None
            )
        first = sum(map(len, self.units[:place]))
        ours = slice(first, first + len(units))
        made, blue_first = self.projections, self.projections.blue_first
        return ChannelView(
            title,
            made.patches[ours],
            [
                in_colours(pixels, blue_first) if why is None else None
                for pixels, why in zip(made.pixels[ours], made.empty[ours], strict=True)
            ],
        )

    def page(self, place: int) -> PageView:
        """What a page shows of one of the channels beside."""
        row, units, spread = self.rows[place], self.units[place], self.found.statistics
        channel = int(self.found.channels[row])
        low, high = min(float(spread.least[channel]), 0.0), max(float(spread.greatest[channel]), 0.0)
        edges = np.linspace(low, high if high > low else low + 1, _BARS + 1)
        boxes = self.found.boxes[row][: len(units)].tolist()
        return PageView(
            labels=[number(float(value)) for value in self.found.values[row][: len(units)]],
            pictures=[self.query.pictures.pixels[unit.picture] for unit in units],
            fields=[(float(a), float(b), float(c), float(d)) for a, b, c, d in boxes],
            bars=bars(spread.histogram[channel], edges),
            ends=(float(edges[0]), float(edges[-1])),
            lines=_lines(self.found, row),
        )


def _as_seen(found: TopImages, numbers: Sequence[int]) -> Pictures:
    """Pictures of the set as the model sees them, read again; no original stays in memory."""
    job, read = found.job, []
    for index in numbers:
        one = prepare([job.images[index]], job.query.where, job.query.preprocess)
        read.append((one, seen(one.pixels[0], one.boxes[0], job.query.input_size)))
    height, width = job.query.input_size
    whole = (0.0, 0.0, float(width), float(height))
    return Pictures(
        np.concatenate([one.array for one, _ in read]),
        tuple(one.names[0] for one, _ in read),
        tuple(pixels for _, pixels in read),
        (whole,) * len(read),
    )


def _told(found: TopImages, projections: bool) -> str:
    count = found.statistics.pictures
    what = "the strongest patches of each channel, one per picture"
    beside = ", and what of them excites it (mid-grey: nothing; each on its own scale)" if projections else ""
    return f"{what}{beside} · {count} pictures"


def _lines(found: TopImages, row: int) -> list[str]:
    spread, channel = found.statistics, int(found.channels[row])
    levels = zip(LEVELS, spread.quantiles[channel], strict=True)
    shares = [f"{100 * level:.0f} % ≤ {number(value)}" for level, value in levels]
    pictures = [
        f"{number(float(value))}  {Path(path).name}"
        for value, path in zip(found.values[row], found.paths[row], strict=True)
        if path
    ]
    return [
        f"channel {channel} in {spread.pictures} pictures, {spread.places} places",
        f"mean {number(spread.mean[channel])}, from {number(spread.least[channel])} to "
        f"{number(spread.greatest[channel])}",
        *(", ".join(shares[start : start + 4]) for start in range(0, len(shares), 4)),
        f"zero at {spread.zeros[channel]:.1%} of places, not above zero at {spread.nonpositive[channel]:.1%}",
        f"dead in {spread.dead[channel]:.1%} of pictures (nowhere above 0)",
        "",
        *pictures,
    ]


def _encoded(document: dict[str, Any]) -> bytes:
    return json_text(document).encode(errors="backslashreplace")
