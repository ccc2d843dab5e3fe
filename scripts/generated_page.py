"""A page of docs/ that a script generates from the code: write it, or check that it is what the code has."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path


def main(path: Path, page: Callable[[], str], about: str | None) -> int:
    """The command line of a script that generates a page; the exit status."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--check", action="store_true", help="exit 1 if the page differs from the code")
    arguments = parser.parse_args()
    if arguments.write:
        path.write_text(page(), encoding="utf-8")
    if arguments.check and path.read_text(encoding="utf-8") != page():
        print(f"{path.name} is not what the code has; run {sys.argv[0]} --write", file=sys.stderr)
        return 1
    if not arguments.write and not arguments.check:
        print(page(), end="")
    return 0
