"""Pictures in tar archives (WebDataset's shards), read where they lie and never unpacked."""

import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from onnxviz.errors import ImageError

MOST_BYTES = 2**28
"""What one member may hold: a header is quickly written that says more than a machine's memory."""


@dataclass(frozen=True, slots=True)
class Member:
    """A picture in an archive: where its bytes begin in that file, and how many there are."""

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        """The archive's path and the member's name."""
        return f"{self.archive}/{self.name}"

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            OSError: The archive is gone, or has become shorter.
        """
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"the archive ends {self.size - len(data)} bytes too early")
        return data


def members(archive: Path, suffixes: Collection[str]) -> list[Member]:
    """The pictures in a tar archive, in the order in which they lie there; only headers are read.

    Args:
        archive: Not compressed: the members of a compressed one have no places of their own.
        suffixes: What the names of pictures end with, lower case.

    Raises:
        ImageError: It cannot be read, is no tar archive, damaged or compressed, or holds no picture.
    """
    try:
        with tarfile.open(archive, "r:") as opened:
            found = [
                Member(archive, entry.name.replace("\\", "/"), entry.offset_data, entry.size)
                for entry in _entries(opened)
                if entry.isreg() and _is_picture(entry.name, suffixes) and not entry.issparse()
            ]
            end = opened.offset
        if not _ends(archive, end):
            raise ImageError(f"{archive}: damaged: byte {end} begins no header; fetch or pack it again")
    except tarfile.ReadError as err:
        hint = "; unpack or decompress it first" if _is_compressed(archive) else ""
        raise ImageError(f"{archive}: not a tar archive that can be read ({err}){hint}") from None
    except OSError as err:
        raise ImageError(f"{archive}: cannot be read: {err.strerror or err}") from None
    if not found:
        raise ImageError(f"{archive}: there is no picture in this archive")
    for member in found:
        if member.size > MOST_BYTES:
            raise ImageError(
                f"{member}: holds {member.size} bytes, more than {MOST_BYTES}; no picture is so large"
            )
    return found


def _entries(opened: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (entry := opened.next()) is not None:
        # It keeps all that it has read, for a search by name: 400 MB for a million members.
        opened.members.clear()  # type: ignore[attr-defined]
        yield entry


def _ends(archive: Path, offset: int) -> bool:
    """Whether an archive ends there: tarfile takes a header that is damaged or cut short for the end, too."""
    with archive.open("rb") as file:
        file.seek(offset)
        return not any(file.read(tarfile.BLOCKSIZE))


def _is_picture(name: str, suffixes: Collection[str]) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.name.startswith(".") and path.suffix.lower() in suffixes


def _is_compressed(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
