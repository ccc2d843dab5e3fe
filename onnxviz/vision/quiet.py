"""Pillow's warnings kept quiet, in however many threads pictures are read."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

_lock = Lock()
_filters = ExitStack()
_inside = 0


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Ignore what Pillow warns of: odd metadata, and sizes that it goes on to read.

    The filters belong to the process, so that threads which each saved and restored them would leave behind
    what another one had set. The first to come in sets them and the last to leave puts them back.
    """
    global _inside
    with _lock:
        if not _inside:
            _filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _filters.close()
