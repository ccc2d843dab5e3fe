"""Progress through long loops, reported to whoever asked to hear of it; silent otherwise."""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Reporter: TypeAlias = Callable[[str, int | None], AbstractContextManager[Callable[[], object]]]
"""Called with a description and a total (None: unknown) when a loop starts; gives what each item calls."""

reporter: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


def track(sequence: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items of `sequence`, reporting each one once it is dealt with; tracks may nest.

    Args:
        sequence: What to loop over.
        description: What the loop does, for people.
        total: The number of items, where `sequence` has no length.
    """
    report = reporter.get()
    if report is None:
        yield from sequence
        return
    if total is None and isinstance(sequence, Sized):
        total = len(sequence)
    with report(description, total) as advance:
        for item in sequence:
            yield item
            advance()


@contextmanager
def reporting(factory: Reporter) -> Iterator[None]:
    """Report every `track` that starts within this context to `factory`."""
    token = reporter.set(factory)
    try:
        yield
    finally:
        reporter.reset(token)
