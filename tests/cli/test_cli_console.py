import io
import re
import sys

import pytest

from onnxviz.cli import console
from onnxviz.runtime.progress import reporter, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "quiet"), [(io.StringIO, False), (io.StringIO, True), (Terminal, True)])
def test_no_bar_where_nobody_looks(stream, quiet, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    with console.progress(quiet):
        assert reporter.get() is None
        assert list(track([1, 2, 3], "counting")) == [1, 2, 3]
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize(("patience", "shown"), [(-1, True), (60, False)])
def test_a_bar_on_a_terminal_for_what_takes_longer(patience, shown, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(console, "_PATIENCE", patience)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress(quiet=False):
        assert list(track([1, 2, 3], "counting sheep")) == [1, 2, 3]
    assert reporter.get() is None
    assert ("counting sheep" in sys.stderr.getvalue()) is shown
    assert sys.stdout.getvalue() == ""


def test_a_bar_is_taken_away_when_its_loop_fails(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(console, "_PATIENCE", -1)

    def fail():
        with console.progress(quiet=False):
            for _ in track([1, 2], "counting"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert reporter.get() is None


NAMES = ["[red]x", "a\\[b]", "trailing\\", "[/]", "/features/0/Conv", "x" * 300]


def test_a_table_shows_names_as_they_are(capsys):
    console.print_table([("name", "left"), ("#", "right")], [[name, "1"] for name in NAMES])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-len(NAMES) :]] == NAMES


def test_a_table_is_cut_to_the_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console.print_table([("name", "left"), ("#", "right")], [["x" * 300, "12345"]])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", sys.stdout.getvalue()).splitlines()
    assert max(map(len, lines)) <= 60
    assert any("…" in line and "12345" in line for line in lines)
