"""What the command line says: results on stdout, messages and progress on stderr."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from onnxviz.methods.manifest import json_text
from onnxviz.runtime.progress import reporting

_PATIENCE = 0.7  # seconds: a loop that ends sooner needs no bar


def say(text: str, quiet: bool = False) -> None:
    """A message for people, on stderr."""
    if not quiet:
        click.echo(text, err=True)


def warn(warnings: Any, quiet: bool = False) -> None:
    """Warnings, one line each, on stderr."""
    for warning in warnings:
        say(f"Warning: {warning}", quiet)


def print_json(document: Mapping[str, Any]) -> None:
    """A document on stdout, in ASCII, which every terminal and pipe carries."""
    click.echo(json_text(document, ascii_only=True), nl=False)


@contextmanager
def progress(quiet: bool) -> Iterator[None]:
    """Show a bar on stderr for loops that take longer than a moment; none when quiet or not on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    with reporting(_bar):
        yield


@contextmanager
def _bar(description: str, total: int | None) -> Iterator[Callable[[], object]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(TextColumn):
        """How many of them are dealt with in a second."""

        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.3g}/s")

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Speed(""),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(description, total=total)
    started = time.monotonic()

    def advance() -> None:
        bar.advance(task)
        if not bar.live.is_started and time.monotonic() - started > _PATIENCE:
            bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


def print_table(columns: list[tuple[str, str]], rows: list[list[str]]) -> None:
    """A table on stdout: cut to the terminal's width, or whole where stdout is no terminal.

    `columns` are (heading, "left" or "right").
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 100_000, highlight=False, soft_wrap=not terminal)
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False)
    for heading, side in columns:
        table.add_column(
            heading, justify="right" if side == "right" else "left", overflow="ellipsis", no_wrap=not terminal
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
