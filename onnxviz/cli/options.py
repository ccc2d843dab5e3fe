"""The options that commands share, each declared once."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import numpy as np
import numpy.typing as npt

from onnxviz.errors import ShapeError

if TYPE_CHECKING:
    from onnxviz.graph.model import Model

_SIZE = re.compile(r"([0-9]{1,6}) *x *([0-9]{1,6})")
_DIM = re.compile(r"[0-9]{1,18}|[A-Za-z_]\w*")
_MOST_PIXELS = 2**26  # a slip of the finger should not take all memory

Command = TypeVar("Command", bound=Callable[..., Any])


class Size(click.ParamType):  # type: ignore[type-arg]
    """HEIGHTxWIDTH in pixels."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read "224x320" as (224, 320)."""
        if isinstance(value, tuple):
            return value
        match = _SIZE.fullmatch(str(value).strip().lower())
        height, width = map(int, match.groups()) if match else (0, 0)
        if not 0 < height * width <= _MOST_PIXELS:
            self.fail(f"{value!r} is no size for pictures; write HEIGHTxWIDTH, such as 224x320", param, ctx)
        return height, width


_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "layer": click.option(
        "--layer",
        "layers",
        multiple=True,
        metavar="SELECTOR",
        help="An index, a tensor, node or module name, a glob, an operator type, first-conv, last-conv "
        "or all. May be given several times.",
    ),
    "channels": click.option(
        "--channels",
        default="all",
        metavar="SPEC",
        help='"0,3,8-15", "all" or "strongest:16".',
        show_default=True,
    ),
    "preprocess": click.option(
        "--preprocess",
        metavar="NAME|FILE",
        help="imagenet, caffe, tf, unit, raw, or a TOML file. Default: what the model says, else a guess.",
    ),
    "labels": click.option("--labels", metavar="FILE", help="Class names: JSON, or one a line."),
    "device": click.option(
        "--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.", show_default=True
    ),
    "batch": click.option("--batch", type=click.IntRange(min=1), help="Pictures per run. Default: chosen."),
    "input": click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="NAME=FILE.npy",
        help="Another input of the model. May be given several times.",
    ),
    "input-shape": click.option(
        "--input-shape",
        "shapes",
        multiple=True,
        metavar="NAME=1,3,H,W",
        help="The shape of an input where the file does not say it; sizes or symbols. May be given several "
        "times.",
    ),
    "size": click.option(
        "--size",
        type=Size(),
        help="Another input size than the model was exported for, if its graph allows it.",
    ),
    "output": click.option("--output", metavar="NAME", help="Which output. Default: the first like scores."),
    "out": click.option(
        "--out",
        "out",
        metavar="DIR",
        help="The folder to write. Default: onnxviz-out/COMMAND, replaced at each run.",
    ),
    "overwrite": click.option(
        "--overwrite", is_flag=True, help="Write into the folder of --out though it holds files."
    ),
    "colormap": click.option(
        "--colormap", metavar="NAME", help="A matplotlib colormap. Default: by the data's sign."
    ),
    "alpha": click.option("--alpha", type=click.FloatRange(0, 1), help="Opacity of the strongest values."),
    "json": click.option(
        "--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else."
    ),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="No messages, no progress; errors only."),
}

FOLDER = ("out", "overwrite", "json", "quiet")
PICTURES = ("preprocess", "size", "input", "device", "batch")


def shared(*names: str) -> Callable[[Command], Command]:
    """Add shared options to a command, in this order."""

    def add(command: Command) -> Command:
        for name in reversed(names):
            command = _OPTIONS[name](command)
        return command

    return add


def read_inputs(pairs: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays that `--input NAME=FILE.npy` names.

    Raises:
        ShapeError: A pair cannot be read, or a file holds no array; pickles are refused.
    """
    arrays = {}
    for pair in pairs:
        name, sign, file = pair.partition("=")
        if not sign or not name or not file:
            raise ShapeError(f"cannot read --input {pair!r}; write NAME=FILE.npy")
        try:
            array = np.load(file, allow_pickle=False)
        except OSError as err:
            raise ShapeError(f"--input {name}: cannot read {file}: {err.strerror or err}") from None
        except (ValueError, EOFError):
            raise ShapeError(f"--input {name}: {file} is not a .npy file of numbers") from None
        if not isinstance(array, np.ndarray):
            raise ShapeError(f"--input {name}: {file} holds several arrays; give a .npy file of one")
        arrays[name] = array
    return arrays


def load_at(model: str, shapes: Sequence[str]) -> "Model":
    """The model, its inputs of the shapes that `--input-shape NAME=1,3,H,W` says.

    Raises:
        ShapeError: A shape cannot be read.
        SelectorError: There is no input of that name.
    """
    from onnxviz.graph.model import load

    loaded, given = load(model), {}
    for text in shapes:
        name, sign, sizes = text.rpartition("=")
        dims = [part.strip() for part in sizes.split(",")] if sizes.strip() else []
        if not sign or not all(_DIM.fullmatch(dim) for dim in dims):
            raise ShapeError(f"cannot read --input-shape {text!r}; write NAME=1,3,224,224 or NAME=N,3,H,W")
        given[name] = [int(dim) if dim.isdigit() else dim for dim in dims]
    return loaded.resized(given) if given else loaded


def pictures(arguments: Sequence[str]) -> list[Any]:
    """The pictures that arguments name, folders unpacked."""
    from onnxviz.vision.read import list_pictures

    return [picture for argument in arguments for picture in list_pictures(argument)]


def pictures_of(arguments: Sequence[str]) -> tuple[list[Any], set[int]]:
    """The pictures that arguments name, folders unpacked; and the numbers of those that lay in a folder."""
    found: list[Any] = []
    in_folders: set[int] = set()
    for argument in arguments:
        more = pictures([argument])
        if Path(argument).is_dir():
            in_folders.update(range(len(found), len(found) + len(more)))
        found += more
    return found, in_folders


def output_place(out: str | None, overwrite: bool, command: str) -> tuple[Path, bool]:
    """The folder to write and whether it may be replaced: the default one always may."""
    return (Path("onnxviz-out") / command, True) if out is None else (Path(out), overwrite)
