"""An .npz file whose arrays grow row by row while it is written, in bounded memory."""

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_BLOCK = 2**20


@dataclass
class _Rows:
    """Rows of one array, end to end in a file; each may have a shape of its own."""

    file: Path
    dtype: np.dtype[Any]
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def arrays(self, name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The arrays that the rows make, by name and shape: one, or one for each row if these differ."""
        if len(set(self.shapes)) == 1:
            yield name, (len(self.shapes), *self.shapes[0])
        else:
            yield from ((f"{name}_{number}", shape) for number, shape in enumerate(self.shapes))


@dataclass(frozen=True)
class GrowingArrays:
    """Arrays by name that grow by rows, kept in an empty folder until they are written as one .npz file.

    Rows of one name may differ in shape; they are then written one by one, as `NAME_0`, `NAME_1` ...
    """

    folder: Path
    _rows: dict[str, _Rows] = field(default_factory=dict)

    def add(self, name: str, row: npt.ArrayLike) -> None:
        """Add one row to the array of that name; all rows get the first one's type."""
        array = np.asarray(row)
        if name not in self._rows:
            self._rows[name] = _Rows(self.folder / str(len(self._rows)), array.dtype)
        rows = self._rows[name]
        with rows.file.open("ab") as file:
            file.write(np.ascontiguousarray(array, rows.dtype).tobytes())
        rows.shapes.append(array.shape)

    def write(self, path: Path) -> None:
        """Write all arrays into one .npz file."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, rows in self._rows.items():
                with rows.file.open("rb") as source:
                    for key, shape in rows.arrays(name):
                        with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                            _copy(source, rows.dtype, shape, member)


def _copy(source: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...], member: IO[bytes]) -> None:
    """The next array of a file, with the header of the .npy format."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    left = math.prod(shape) * dtype.itemsize
    while left:
        block = source.read(min(left, _BLOCK))
        member.write(block)
        left -= len(block)
