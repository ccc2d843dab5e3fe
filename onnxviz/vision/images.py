"""Which input of a model takes a picture, and pictures made to fit it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from onnxviz.errors import ImageError, PreprocessError, SelectorError, ShapeError, did_you_mean
from onnxviz.graph.model import ValueInfo, format_shape
from onnxviz.vision.preprocess import Preprocess, Resize
from onnxviz.vision.read import Images, Picture, list_pictures, name_of_picture, read_picture

Box: TypeAlias = tuple[float, float, float, float]

_FLOATS = ("float16", "float32", "float64")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True)
class PictureInput:
    """The input of a model that takes pictures; None stands for a size that the graph leaves open."""

    name: str
    layout: Literal["NCHW", "NHWC"]
    channels: int | None
    height: int | None
    width: int | None
    dtype: str
    batch: int | None

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The input's shape in its own layout."""
        if self.layout == "NCHW":
            return (self.batch, self.channels, self.height, self.width)
        return (self.batch, self.height, self.width, self.channels)


@dataclass(frozen=True)
class Pictures:
    """Pictures as the model takes them, and as they were.

    `array` has the input's layout and dtype, [N, ...]. `names` are paths as given, or "picture-<index>".
    `pixels` are the originals, uint8 [H, W, 3] in RGB. `boxes` are (left, top, right, bottom): the region of
    each original, in its own pixels, that fills the input; it reaches outside a padded picture.
    """

    array: NDArray[Any]
    names: tuple[str, ...]
    pixels: tuple[NDArray[np.uint8], ...]
    boxes: tuple[Box, ...]


class Prepared(NamedTuple):
    """One picture as the model takes it, `array` [*input], and as it was; see `Pictures`."""

    array: NDArray[Any]
    name: str
    pixels: NDArray[np.uint8]
    box: Box


def picture_input(inputs: Sequence[ValueInfo], name: str | None = None) -> PictureInput:
    """The input that takes pictures: the one of that name, else the first of rank 4 that can.

    The channels are axis 1 or axis 3, whichever looks more like them: 1 or 3, then 2 or 4, then an open size,
    then any other. Where both look alike it is axis 1.

    Raises:
        SelectorError: There is no input of that name.
        ShapeError: The input, or each of them, has another rank than 4, or holds no numbers.
    """
    known = [value.name for value in inputs]
    if name is not None and name not in known:
        raise SelectorError(f"no input {name!r} in this model{did_you_mean(name, known)}")
    asked = [value for value in inputs if name in (None, value.name)]
    found = [_as_picture_input(value) for value in asked if _can_be_picture(value)]
    if not found:
        listed = ", ".join(f"{value.name} {value.dtype}{format_shape(value.shape)}" for value in asked)
        raise ShapeError(
            f"no input takes pictures, which needs a numeric tensor of rank 4: {listed or 'none'}"
        )
    # An input of other channel counts only takes arrays, so it comes last.
    return min(found, key=lambda each: each.channels not in (None, 1, 3))


def prepare(
    images: Images,
    where: PictureInput,
    preprocess: Preprocess,
    skip: Callable[[int, ImageError], object] | None = None,
) -> Pictures:
    """Read pictures and make them the model's input.

    `images` is a path, a folder, a PIL image, a uint8 [H, W] or [H, W, C] array, a float array already shaped
    like the input (with or without its batch axis; it is not preprocessed), or a list of them. `skip` is
    called with the number of a picture that cannot be used and the reason, and the picture passed over; None:
    it is an error.

    Raises:
        ImageError: A picture (with `skip`: each of them) cannot be read, cannot fill the input's channels, or
            an array does not fit.
        PreprocessError: The size or colour asked for is not what the input takes.
    """
    ready: list[Prepared] = []
    for number, picture in enumerate(list_pictures(images)):
        try:
            name = name_of_picture(picture, len(ready))
            ready.append(prepare_one(picture, name, where, preprocess))
        except ImageError as err:
            if skip is None:
                raise
            skip(number, err)
    if not ready:
        raise ImageError("not one of the pictures can be read")
    check_alike([(each.name, each.array) for each in ready], where)
    return Pictures(
        np.ascontiguousarray(np.stack([each.array for each in ready])),
        tuple(each.name for each in ready),
        tuple(each.pixels for each in ready),
        tuple(each.box for each in ready),
    )


def prepare_one(picture: Picture, name: str, where: PictureInput, preprocess: Preprocess) -> Prepared:
    """Read one picture of those that `list_pictures` lists and make it the model's input, as `prepare` does.

    Raises:
        ImageError: It cannot be read, cannot fill the input's channels, or is an array that does not fit;
            `name` is what the error calls it.
        PreprocessError: The size or colour asked for is not what the input takes.
    """
    if isinstance(picture, np.ndarray) and picture.dtype.kind == "f":
        return _take_floats(picture, name, where, preprocess)
    return _take_picture(read_picture(picture, name), name, where, preprocess)


def check_alike(named: Sequence[tuple[str, NDArray[Any]]], where: PictureInput) -> None:
    """Refuse pictures, each with its name, that became arrays of different shapes: one run cannot take them.

    Raises:
        ImageError: They did.
    """
    first, expected = named[0]
    for name, array in named:
        if array.shape != expected.shape:
            raise ImageError(
                f"{first} becomes {list(expected.shape)} but {name} {list(array.shape)}, "
                f"and input {where.name!r} leaves its size open; give a size in the preprocessing"
            )


def seen(pixels: NDArray[np.uint8], box: Box, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture as the model sees it: its region `box` at `size` (height, width), black beyond its edges.

    It is resized as `prepare` does with the bilinear filter, averaging where it gets smaller.
    """
    (height, width), (rows, columns) = pixels.shape[:2], size
    left, top, right, bottom = box
    part = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    x, y = columns / (right - left), rows / (bottom - top)
    corner = round((part[0] - left) * x), round((part[1] - top) * y)
    across, down = max(1, round((part[2] - part[0]) * x)), max(1, round((part[3] - part[1]) * y))
    canvas = Image.new("RGB", (columns, rows))
    canvas.paste(Image.fromarray(pixels).resize((across, down), _FILTERS["bilinear"], part), corner)
    return np.asarray(canvas)


def inside(mask: Path, box: Box, extent: tuple[int, int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a mask's file is not black, in the region `box` of its picture, at `size` (height, width).

    Raises:
        ImageError: It cannot be read, or is not as large as the picture (`extent`, height and width).
    """
    pixels = read_picture(mask, str(mask))
    if pixels.shape[:2] != extent:
        raise ImageError(f"the mask {mask} is {list(pixels.shape[:2])} but its picture {list(extent)} pixels")
    shown = Image.fromarray(pixels.any(axis=2).astype(np.uint8) * 255)
    cut = shown.transform(size[::-1], Image.Transform.EXTENT, box, _FILTERS["nearest"])
    return np.asarray(cut) > 0


def solid(color: str, where: PictureInput, preprocess: Preprocess, size: tuple[int, int]) -> NDArray[Any]:
    """A picture of one colour as the model takes it, [*input] at `size` (height, width).

    Raises:
        ValueError: There is no such colour.
    """
    rgb = ImageColor.getrgb(color)[:3]
    _check_channels(where, preprocess)
    array = _numbers(_ordered(Image.new("RGB", size[::-1], rgb), preprocess), preprocess, where.dtype)
    return array if where.layout == "NHWC" else array.transpose(2, 0, 1)


def _can_be_picture(value: ValueInfo) -> bool:
    return value.shape is not None and len(value.shape) == 4 and value.dtype in _FLOATS + _INTEGERS


def _as_picture_input(value: ValueInfo) -> PictureInput:
    assert value.shape is not None
    dims = [dim if isinstance(dim, int) and dim > 0 else None for dim in value.shape]
    if _unlike_channels(dims[3]) < _unlike_channels(dims[1]):
        batch, height, width, channels = dims
        return PictureInput(value.name, "NHWC", channels, height, width, value.dtype, batch)
    batch, channels, height, width = dims
    return PictureInput(value.name, "NCHW", channels, height, width, value.dtype, batch)


def _unlike_channels(dim: int | None) -> int:
    if dim in (1, 3):
        return 0
    if dim in (2, 4):
        return 1
    return 2 if dim is None else 3


def _take_picture(
    pixels: NDArray[np.uint8], name: str, where: PictureInput, preprocess: Preprocess
) -> Prepared:
    _check_channels(where, preprocess)
    height, width = pixels.shape[:2]
    size = _size(where, preprocess) or (height, width)
    image, box = _resize(Image.fromarray(pixels), size, preprocess.resize, _FILTERS[preprocess.filter])
    array = _numbers(_ordered(image, preprocess), preprocess, where.dtype)
    return Prepared(array if where.layout == "NHWC" else array.transpose(2, 0, 1), name, pixels, box)


def _check_channels(where: PictureInput, preprocess: Preprocess) -> None:
    if where.channels not in (None, 1, 3):
        raise ImageError(
            f"a picture cannot fill input {where.name!r} of {where.channels} channels; "
            f"give a float array {format_shape(where.shape)}"
        )
    if where.channels not in (None, len(preprocess.color)):
        fitting = "L" if where.channels == 1 else "RGB or BGR"
        raise PreprocessError(
            f"{preprocess.source}: color {preprocess.color} does not fill input {where.name!r} of "
            f"{where.channels} channels; let color be {fitting}"
        )


def _size(where: PictureInput, preprocess: Preprocess) -> tuple[int, int] | None:
    """Height and width that every picture gets; None: its own."""
    graph, wanted = (where.height, where.width), preprocess.size
    if wanted is not None:
        if graph[0] not in (None, wanted[0]) or graph[1] not in (None, wanted[1]):
            raise PreprocessError(
                f"{preprocess.source}: size is {list(wanted)} but input {where.name!r} takes "
                f"{format_shape(graph)} (height, width); leave the size out"
            )
        return wanted
    if graph[0] is not None and graph[1] is not None:
        return graph[0], graph[1]
    if graph != (None, None):
        raise PreprocessError(
            f"input {where.name!r} takes {format_shape(graph)} (height, width), which leaves one of them "
            "open; give a size in the preprocessing"
        )
    return None


def _resize(
    image: Image.Image, size: tuple[int, int], how: Resize, resample: Image.Resampling
) -> tuple[Image.Image, Box]:
    """The picture at `size` (height, width), and the region of the original that fills it."""
    (width, height), (rows, columns) = image.size, size
    if how == "crop":
        across, down = min(width, height * columns / rows), min(height, width * rows / columns)
        box = ((width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2)
        return image.resize((columns, rows), resample, box), box
    if how == "pad":
        fit = min(columns / width, rows / height)
        across, down = max(1, round(width * fit)), max(1, round(height * fit))
        left, top = (columns - across) // 2, (rows - down) // 2
        canvas = Image.new("RGB", (columns, rows))
        canvas.paste(image.resize((across, down), resample), (left, top))
        # Whole pixels make the two directions' scales differ a little.
        x, y = width / across, height / down
        return canvas, (-left * x, -top * y, (columns - left) * x, (rows - top) * y)
    return image.resize((columns, rows), resample), (0.0, 0.0, float(width), float(height))


def _ordered(image: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    """The pixels [H, W, C] with their channels as the model wants them."""
    if preprocess.color == "L":
        return np.asarray(image.convert("L"))[..., None]
    pixels = np.asarray(image)
    return pixels[..., ::-1] if preprocess.color == "BGR" else pixels


def _numbers(pixels: NDArray[np.uint8], preprocess: Preprocess, dtype: str) -> NDArray[Any]:
    """(pixel * scale - mean) / std, reckoned in float64; integers are rounded and kept in their range.

    A pixel has 256 levels: each is reckoned once, and looked up for every pixel [H, W, C].
    """
    levels, channels = np.arange(256, dtype=np.uint8)[:, None], pixels.shape[2]
    mean, std = np.array(preprocess.mean, np.float64), np.array(preprocess.std, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        values = (levels * np.float64(preprocess.scale) - mean) / std
        if dtype in _INTEGERS:
            values = _clipped(values, np.iinfo(dtype))
        numbers = values.astype(dtype)
    if not np.isfinite(values).all() or not np.isfinite(numbers).all():
        raise PreprocessError(f"{preprocess.source}: scale, mean and std make numbers beyond {dtype}")
    planes = np.empty((channels, *pixels.shape[:2]), dtype)
    for channel, column in enumerate(np.broadcast_to(numbers, (256, channels)).T):
        # No level is out of range; "clip" lets take write where it is told to without a copy.
        column.take(pixels[..., channel], out=planes[channel], mode="clip")
    return planes.transpose(1, 2, 0)


def _clipped(values: NDArray[np.float64], kind: "np.iinfo[Any]") -> NDArray[np.float64]:
    # The largest integer of 64 bits is no float64: it would be rounded up, out of range.
    highest = float(kind.max) if kind.bits < 64 else np.nextafter(float(kind.max), 0)
    return np.clip(np.rint(values), float(kind.min), highest)


def _take_floats(array: NDArray[Any], name: str, where: PictureInput, preprocess: Preprocess) -> Prepared:
    """A float array that is the model's input already, with or without the batch axis."""
    if where.dtype not in _FLOATS:
        raise ImageError(
            f"{name}: a {array.dtype} array cannot be input {where.name!r}, which takes {where.dtype}; "
            "give pictures as uint8 [H,W,3]"
        )
    values = array[0] if array.ndim == 4 and len(array) == 1 else array
    expected = where.shape[1:]
    fits = values.ndim == 3 and all(
        want in (None, have) for want, have in zip(expected, values.shape, strict=True)
    )
    if not fits or values.size == 0:
        raise ImageError(
            f"{name}: the array is {array.dtype}{format_shape(array.shape)} but input {where.name!r} takes "
            f"{where.dtype}{format_shape(where.shape)}"
        )
    with np.errstate(over="ignore"):
        values = values.astype(where.dtype)
    if not np.isfinite(values).all():
        raise ImageError(f"{name}: the array holds NaN, infinity, or numbers beyond {where.dtype}")
    shown = _shown(values if where.layout == "NHWC" else values.transpose(1, 2, 0), preprocess)
    height, width = shown.shape[:2]
    return Prepared(values, name, shown, (0.0, 0.0, float(width), float(height)))


def _shown(values: NDArray[Any], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Model input [H, W, C] as uint8 RGB: its smallest number black, its largest 255; grey unless C is 3."""
    exact = values.astype(np.float64)
    if exact.shape[2] != 3:
        exact = np.repeat(exact.mean(axis=2, keepdims=True), 3, axis=2)
    elif preprocess.color == "BGR":
        exact = exact[..., ::-1]
    low, high = exact.min(), exact.max()
    span = high - low if high > low else 1.0
    shown: NDArray[np.uint8] = np.rint((exact - low) / span * 255).astype(np.uint8)
    return shown
