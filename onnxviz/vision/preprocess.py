"""`Preprocess`: what happens to a picture's pixels before the model sees them, and where that was said."""

import json
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from onnxviz.errors import PreprocessError, did_you_mean

if TYPE_CHECKING:
    from onnxviz.vision.images import PictureInput

Resize: TypeAlias = Literal["squash", "crop", "pad"]
Filter: TypeAlias = Literal["bilinear", "bicubic", "nearest"]
Color: TypeAlias = Literal["RGB", "BGR", "L"]

METADATA_KEY = "onnxviz.preprocess"


def _is_size(size: object) -> bool:
    return (
        isinstance(size, (tuple, list))
        and len(size) == 2
        and all(isinstance(length, int) and not isinstance(length, bool) and length > 0 for length in size)
    )


def _is_number(number: object) -> bool:
    if isinstance(number, bool) or not isinstance(number, Real):
        return False
    try:
        return math.isfinite(number)
    except OverflowError:  # an int that no float holds
        return False


def _brief(value: object) -> str:
    text = _one_line(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes numbers: resized, its colours ordered, then (pixel * scale - mean) / std.

    Pixels are 0..255. `size` is (height, width); None leaves it to the graph. `mean` and `std` hold one
    number, or one per channel in the order of `color`. `source` says where all this came from.

    Raises:
        PreprocessError: A value has the wrong type, is not one of the choices, or cannot be calculated with.
    """

    size: tuple[int, int] | None = None
    resize: Resize = "squash"
    filter: Filter = "bilinear"
    color: Color = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    source: str = field(default="given", compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be calculated with, wherever it came from."""
        if self.size is not None and not _is_size(self.size):
            raise self._wrong("size", "be two positive whole numbers, height and width")
        for key, choices in (("resize", Resize), ("filter", Filter), ("color", Color)):
            if getattr(self, key) not in get_args(choices):
                raise self._wrong(key, f"be one of {', '.join(get_args(choices))}")
        if not _is_number(self.scale) or self.scale == 0:
            raise self._wrong("scale", "be a finite number other than 0")
        for key in ("mean", "std"):
            numbers = getattr(self, key)
            if not isinstance(numbers, (tuple, list)) or not all(map(_is_number, numbers)):
                raise self._wrong(key, "be a list of finite numbers")
            if len(numbers) not in (1, len(self.color)):
                raise self._wrong(key, f"hold 1 number, or {len(self.color)} for color {self.color}")
        if 0 in self.std:
            raise self._wrong("std", "not hold 0")

    def to_dict(self) -> dict[str, object]:
        """The keys of a preprocessing file and `source`, as JSON holds them; `choose` takes it back."""
        return {
            "size": None if self.size is None else [int(length) for length in self.size],
            "resize": self.resize,
            "filter": self.filter,
            "color": self.color,
            "scale": float(self.scale),
            "mean": [float(number) for number in self.mean],
            "std": [float(number) for number in self.std],
            "source": self.source,
        }

    def _wrong(self, key: str, rule: str) -> PreprocessError:
        return PreprocessError(f"{self.source}: {key} must {rule}; it is {_brief(getattr(self, key))}")


_KEYS = tuple(each.name for each in fields(Preprocess) if each.name != "source")

PRESETS: Mapping[str, Preprocess] = MappingProxyType(
    {
        "imagenet": Preprocess(
            scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), source="preset imagenet"
        ),
        "caffe": Preprocess(color="BGR", mean=(103.939, 116.779, 123.68), source="preset caffe"),
        "tf": Preprocess(scale=1 / 127.5, mean=(1.0,), source="preset tf"),
        "unit": Preprocess(scale=1 / 255, source="preset unit"),
        "raw": Preprocess(source="preset raw"),
    }
)


def choose(
    given: Preprocess | Mapping[str, object] | str | os.PathLike[str] | None,
    metadata: Mapping[str, str],
    picture_input: "PictureInput",
) -> Preprocess:
    """The preprocessing to use: what is given, else what the model's metadata says, else a guess.

    `given` may be the name of a preset, a TOML file, or a mapping with the same keys. A preset, guessed or
    named, is greyed for an input of one channel. The source of a guess begins with "guess:".

    Raises:
        PreprocessError: There is no such preset or file, or what it holds is not a preprocessing.
    """
    if given is None and METADATA_KEY in metadata:
        return _from_json(metadata[METADATA_KEY])
    if given is None:
        name = _guess(picture_input)
        source = f"guess: {name} (the model names no preprocessing; give --preprocess)"
        return replace(_for_channels(PRESETS[name], picture_input.channels), source=source)
    if isinstance(given, Preprocess):
        return given
    if isinstance(given, Mapping):
        return _from_mapping(given, "given")
    if isinstance(given, str) and given in PRESETS:
        return _for_channels(PRESETS[given], picture_input.channels)
    if isinstance(given, (str, os.PathLike)):
        return _from_file(given)
    raise PreprocessError(f"preprocess must be a preset, a TOML file or a mapping, not {_brief(given)}")


def _guess(picture_input: "PictureInput") -> str:
    if "int" in picture_input.dtype:
        return "raw"
    return "unit" if picture_input.channels == 1 else "imagenet"


def _for_channels(preset: Preprocess, channels: int | None) -> Preprocess:
    """A preset as it is, or in grey (its mean and std averaged) where the input has one channel."""
    if channels != 1:
        return preset
    mean, std = (math.fsum(numbers) / len(numbers) for numbers in (preset.mean, preset.std))
    return replace(preset, color="L", mean=(mean,), std=(std,), source=f"{preset.source}, in grey")


def _from_file(path: str | os.PathLike[str]) -> Preprocess:
    name = os.fspath(path)
    try:
        # Notepad begins a UTF-8 file with a mark that TOML does not know.
        table = tomllib.loads(Path(path).read_text("utf-8-sig"))
    except FileNotFoundError:
        hint = did_you_mean(name, PRESETS)
        raise PreprocessError(
            f"{name}: neither a file nor a preset; the presets are {', '.join(PRESETS)}{hint}"
        ) from None
    except OSError as err:
        raise PreprocessError(f"{name}: cannot be read: {err.strerror or err}") from None
    except (ValueError, RecursionError) as err:
        raise PreprocessError(f"{name}: not a TOML file: {_one_line(err)}") from None
    return _from_mapping(table, name)


def _from_json(text: str) -> Preprocess:
    source = f"metadata {METADATA_KEY}"
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise PreprocessError(f"{source}: not JSON: {_one_line(err)}; give --preprocess") from None
    if not isinstance(table, dict):
        raise PreprocessError(f"{source}: must be a JSON object; it is {_brief(table)}; give --preprocess")
    return _from_mapping(table, source)


def _from_mapping(table: Mapping[str, object], source: str) -> Preprocess:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key == "source":
            continue  # `to_dict` wrote it; what counts now is where the mapping itself came from
        if key not in _KEYS:
            hint = did_you_mean(str(key), _KEYS)
            raise PreprocessError(
                f"{source}: unknown key {_brief(key)}; the keys are {', '.join(_KEYS)}{hint}"
            )
        values[key] = tuple(value) if isinstance(value, list) else value
    return Preprocess(**values, source=source)
