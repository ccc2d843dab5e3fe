"""`Ledger`: what is done so far, in memory and in a file that a killed run goes on from."""

import io
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from onnxviz.errors import OutputError
from onnxviz.files import refused, write_atomic
from onnxviz.methods.top.job import Job
from onnxviz.methods.top.summary import Summary, empty, merge, pack, unpack

_PATIENCE = 2.0  # seconds between two writings
_SHARE = 0.02  # of the time may go into writing


class Ledger:
    """Which chunks are done, and their summary.

    The file is written whole every few seconds, never half: a chunk is in it with its summary, or not at all,
    so that none is lost but those of the last seconds, and none is counted twice.
    """

    def __init__(self, job: Job, channels: int, path: Path | None) -> None:
        """Go on from the file `path` where it is of the same job; else begin anew."""
        self.job, self.path = job, path
        self.summary = empty(channels, job.k)
        self.done: set[int] = set()
        self.resumed = 0
        self._cost, self._written, self._dirty = 0.0, time.monotonic(), False
        if path is not None and path.exists():
            self._read(path)

    @property
    def left(self) -> list[range]:
        """The chunks that are still to be done."""
        return [chunk for chunk in self.job.chunks if chunk.start not in self.done]

    def enter(self, chunk: range, summary: Summary) -> None:
        """Take in a chunk, and write the file where it is time to."""
        self.summary = merge(self.summary, summary)
        self.done.add(chunk.start)
        self._dirty = True
        if time.monotonic() - self._written > max(_PATIENCE, self._cost / _SHARE):
            self.write()

    def write(self) -> None:
        """Write the file, if there is one to write and anything is new.

        Raises:
            OutputError: It cannot be written.
        """
        if self.path is None or not self._dirty:
            return
        started = time.monotonic()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise refused(self.path, err) from err
        write_atomic(self.path, _sealed(self.job.key, self.done, pack(self.summary)))
        self._written = time.monotonic()
        self._cost, self._dirty = self._written - started, False

    def forget(self) -> None:
        """Delete the file: the answer is written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _read(self, path: Path) -> None:
        try:
            key, done, data = _opened(path.read_bytes())
            if key == self.job.key:
                self.summary, self.done = unpack(data), set(done)
        except OSError as err:
            raise OutputError(f"cannot read {path}: {err.strerror or err}; delete it to begin anew") from None
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
            raise OutputError(
                f"{path} is no progress of onnxviz top; delete it, or choose another --out"
            ) from None
        self.resumed = sum(len(chunk) for chunk in self.job.chunks if chunk.start in self.done)


def _sealed(key: str, done: Iterable[int], summary: bytes) -> bytes:
    data = io.BytesIO()
    np.savez(data, key=np.array(key), done=np.array(sorted(done)), summary=np.frombuffer(summary, np.uint8))
    return data.getvalue()


def _opened(data: bytes) -> tuple[str, list[int], bytes]:
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        return str(held["key"]), held["done"].tolist(), held["summary"].tobytes()
