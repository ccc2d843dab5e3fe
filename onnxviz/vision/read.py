"""Pictures from files, folders, Pillow and arrays, each as uint8 RGB."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from onnxviz.errors import ImageError
from onnxviz.vision.archives import Member
from onnxviz.vision.quiet import quiet_pillow

Picture: TypeAlias = str | os.PathLike[str] | Member | Image.Image | NDArray[Any]
Images: TypeAlias = Picture | Iterable[Picture]

# Pillow opens these, but knows no more than their header.
_HEADER_ONLY = frozenset({"BUFR", "GRIB", "HDF5", "MPEG"})


def list_pictures(images: Images) -> list[Picture]:
    """Every single picture in `images`, unread: a folder as its sorted picture files, a list as its items.

    A uint8 array of rank 4 is a list of pictures, and so is a float array of rank 4, also within a list.

    Raises:
        ImageError: There is no picture, the folder cannot be read, or `images` is of another type.
    """
    if isinstance(images, (str, os.PathLike)):
        return list(_files_in(Path(images))) if Path(images).is_dir() else [images]
    if isinstance(images, Image.Image | Member):
        return [images]
    if isinstance(images, np.ndarray) and not (images.dtype == np.uint8 and images.ndim == 4):
        return _rows(images)
    if not isinstance(images, Iterable):
        raise ImageError(f"{_kind(images)} is no picture; give a file, a folder, a PIL image or an array")
    listed = [row for picture in images for row in _rows(picture)]
    if not listed:
        raise ImageError("no pictures are given; give a file or a folder")
    return listed


def name_of_picture(picture: Picture, index: int) -> str:
    """The path of a picture in a file or an archive, as it was given; "picture-<index>" for any other."""
    return str(picture) if isinstance(picture, (str, os.PathLike, Member)) else f"picture-{index}"


def read_picture(picture: Picture, name: str) -> NDArray[np.uint8]:
    """Read one picture as uint8 [H, W, 3] in RGB; `name` is what an error calls it.

    The EXIF orientation is applied, 16 bits are scaled to 8, and what is transparent shows white.

    Raises:
        ImageError: The file is missing, a folder, truncated, far too large or no picture, or the array is
            not uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4].
    """
    if isinstance(picture, (str, os.PathLike)) and Path(picture).is_dir():
        raise ImageError(f"{name}: this is a folder; give it alone, or the files in it")
    if isinstance(picture, np.ndarray):
        picture = _from_array(picture, name)
    if not isinstance(picture, (str, os.PathLike, Member, Image.Image)):
        raise ImageError(f"{name}: {_kind(picture)} is no picture; give a file, a PIL image or an array")
    try:
        with quiet_pillow():
            if isinstance(picture, Image.Image):
                return _rgb(picture)
            with Image.open(io.BytesIO(picture.read()) if isinstance(picture, Member) else picture) as opened:
                return _rgb(opened)
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not a picture in a format that Pillow reads") from None
    # Pillow's decoders raise whatever they stumble on: OSError, SyntaxError, ValueError, struct.error ...
    except Exception as err:
        reason = getattr(err, "strerror", None) or " ".join(str(err).split())
        raise ImageError(f"{name}: cannot be read as a picture: {reason}") from err


def suffixes() -> frozenset[str]:
    """What the names of files end with that may be pictures."""
    return frozenset(
        extension
        for extension, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in _HEADER_ONLY
    )


def _rows(picture: Picture) -> list[Picture]:
    """The pictures of a float array that is a batch of several; any other picture alone."""
    if not isinstance(picture, np.ndarray) or picture.dtype.kind != "f" or picture.ndim != 4:
        return [picture]
    return list(picture) if len(picture) > 1 else [picture]


def _files_in(folder: Path) -> list[Path]:
    extensions = suffixes()
    try:
        files = [
            path
            for path in folder.iterdir()
            # macOS keeps a "._cat.jpg" beside "cat.jpg" which is no picture.
            if path.suffix.lower() in extensions and not path.name.startswith(".") and path.is_file()
        ]
    except OSError as err:
        raise ImageError(f"{folder}: cannot be read: {err.strerror or err}") from None
    if not files:
        raise ImageError(f"{folder}: there is no picture in this folder")
    return sorted(files, key=lambda path: path.name)


def _from_array(array: NDArray[Any], name: str) -> Image.Image:
    bands = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or bands not in (1, 3, 4) or array.size == 0:
        raise ImageError(
            f"{name}: an array of {array.dtype}{list(array.shape)} is no picture; give uint8 [H,W] or "
            "[H,W,3], or floats in the shape of the model's input"
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and bands == 1 else array)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    upright = ImageOps.exif_transpose(image)
    if 0 in upright.size:
        raise ValueError("it has no pixels")
    if upright.mode == "F":
        raise ValueError("its floating-point pixels have no known range; save it with 8 or 16 bits")
    if upright.mode.startswith("I"):
        upright = _eight_bits(upright)
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(upright.convert("RGB"), dtype=np.uint8)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A greyscale picture of 16 bits (also as Pillow keeps some, in 32) scaled to 8."""
    values = np.asarray(image).astype(np.float64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels need more than 16 bits; save it with 8 or 16 bits")
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))


def _kind(thing: object) -> str:
    return f"a value of type {type(thing).__name__}"
