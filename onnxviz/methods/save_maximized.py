"""Synthetic pictures into a folder: the sheet, each alone, the curves, the numbers, what a resume needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxviz.errors import SelectorError
from onnxviz.methods.ascent.shown import as_rgb
from onnxviz.methods.maximize import Maximized
from onnxviz.methods.save import filling, slug
from onnxviz.runtime.progress import track
from onnxviz.views.maximized import curves, on_white, picture_grid

RESUME = "resume.npz"


def save_maximized(
    made: Maximized,
    folder: str | Path,
    *,
    sort: bool = False,
    most: int | None = None,
    crop: tuple[int, int] | None = None,
    columns: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write all of it.

    Args:
        made: What `maximize` made.
        folder: Where.
        sort: Whether the sheet has the highest last objective first.
        most: So many on the sheet, the first or the highest; all are written one by one.
        crop: Height and width of the upper left corner that the sheet shows of each; None: all of it.
        columns: Pictures in a row of the sheet; None makes it nearly square.
        overwrite: Whether a folder that holds files may be replaced.

    Raises:
        OutputError: The folder cannot be written.
    """
    order = ranked(made, sort)[:most]
    rgb = as_rgb(made.images)
    labels = labelled(made)
    with filling(folder, overwrite) as out:
        if order:
            tiles = rgb[order]
            if crop is not None:
                tiles = tiles[:, : crop[0], : crop[1]]
            awake = [bool(made.woke[row]) for row in order]
            short = _short(made, labels)
            named, title = [short[row] for row in order], _title(made)
            out.picture("grid", picture_grid(tiles, named, title, _note(made, sort), awake, columns))
            out.picture("curves", curves(made.losses[order], named, title))
        for row, image in enumerate(track(rgb, "writing pictures")):
            stem = f"{row:03d}-{slug(labels[row])}"
            out.picture(stem, image)
            if made.transparency is not None:
                out.picture(f"{stem}-on-white", on_white(image, made.transparency[row]))
        out.arrays("maximized", _arrays(made))
        if made.reports and any(made.reports):
            lines = [
                line for row, name in enumerate(labels) for line in report_lines(name, made.reports[row])
            ]
            out.text("report.txt", "\n".join(lines) + "\n")
        if made.rest:
            out.arrays(Path(RESUME).stem, made.rest)
        out.manifest({**made.manifest, "labels": labels, "sorted": sort})
    return Path(folder)


def read_rest(folder: str | Path) -> dict[str, Any]:
    """What a run that was stopped left in its folder.

    Raises:
        SelectorError: There is nothing to go on with.
    """
    place = Path(folder) / RESUME
    try:
        with np.load(place, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except FileNotFoundError:
        raise SelectorError(
            f"{folder} holds no run that was stopped ({RESUME}); leave --resume out"
        ) from None
    except (OSError, ValueError, EOFError) as err:
        raise SelectorError(f"{place} cannot be read ({err}); leave --resume out") from None


def ranked(made: Maximized, sort: bool) -> list[int]:
    """The pictures' numbers, as asked for; or the highest last objective first, those asleep last."""
    if not sort:
        return list(range(len(made.losses)))
    last = [row[np.isfinite(row)][-1] if made.woke[i] else -np.inf for i, row in enumerate(made.losses)]
    return [int(row) for row in np.argsort(-np.array(last), kind="stable")]


def labelled(made: Maximized) -> list[str]:
    """A label for each picture: what it raises, and which copy where there are several."""
    several = any(made.copies)
    return [
        f"{name} #{copy}" if several else name for name, copy in zip(made.names, made.copies, strict=True)
    ]


def _short(made: Maximized, labels: Sequence[str]) -> list[str]:
    """Labels for a sheet whose title names the one layer that all channels are of: without its name."""
    layers = made.manifest["layer"]
    if len(layers) != 1:
        return list(labels)
    return [label.removeprefix(f"{layers[0]} ") for label in labels]


def report_lines(name: str, steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The classic report of a picture, a line for each step."""
    return [f"{name}  {_line(step)}" for step in steps]


def _line(step: Mapping[str, Any]) -> str:
    parts = [f"Iteration: {step['iteration']}"]
    if "label" in step:
        parts.append(f"Predicted class-name: {step['label']} (#{step['class']}), score: {step['score']:.2%}")
    if "gradient_min" in step:
        parts.append(f"Gradient min: {step['gradient_min']:.6g}, max: {step['gradient_max']:.6g}")
    if "step_size" in step:
        parts.append(f"stepsize: {step['step_size']:.6g}")
    return ", ".join([*parts, f"Loss: {step['loss']:.6g}"])


def _arrays(made: Maximized) -> dict[str, Any]:
    arrays: dict[str, Any] = {"pictures": made.pictures, "losses": made.losses, "woke": made.woke}
    arrays |= {f"before/{name}": array for name, array in made.before.items()}
    arrays |= {f"after/{name}": array for name, array in made.after.items()}
    optional = {
        "scores_before": made.scores_before,
        "scores_after": made.scores_after,
        "transparency": made.transparency,
    }
    return arrays | {name: array for name, array in optional.items() if array is not None}


def _title(made: Maximized) -> str:
    recipe = made.manifest["recipe"]
    names = list(dict.fromkeys(made.manifest["layer"]))
    return f"{', '.join(names) or 'scores'}  ({recipe['name']}, {recipe['steps']} steps)"


def _note(made: Maximized, sort: bool) -> str:
    asleep = int(np.count_nonzero(~made.woke))
    parts = [
        "highest last objective first" if sort else "",
        f"{asleep} of {len(made.woke)} never woke" if asleep else "",
        "" if made.finished else "stopped before the last step",
    ]
    return " · ".join(part for part in parts if part)
