import numpy as np
import pytest

from onnxviz.views.colors import DIVERGING, SEQUENTIAL, table
from onnxviz.views.text import (
    BAR_HEIGHT,
    LEAST_BAR,
    LEAST_WIDTH,
    MARGIN,
    NOTE_SIZE,
    TITLE_SIZE,
    caption,
    colorbar,
    drawable,
    elide,
    number,
    paragraph,
    width_of,
    wrap,
)

LONG = "/backbone/layer4.2/conv_with_a_long_name/and_more/Conv_output_0_quantized" * 3
TILE = np.full((40, 600, 3), 7, np.uint8)


def ink_box(image):
    rows, columns = np.nonzero((image != 255).any(axis=2))
    return rows.min(), rows.max(), columns.min(), columns.max()


@pytest.mark.parametrize("text", ["conv1", "свёртка", "συνέλιξη", "été – ½ ±×…", "قطة"])
def test_letters_of_the_font_are_drawn_as_they_are(text):
    assert drawable(text) == text


def test_other_letters_are_drawn_as_their_codes():
    assert drawable("猫/conv") == "\\u732b/conv"
    assert drawable("\U0001f431") != drawable("\U0001f432")


def test_line_breaks_and_control_letters_become_blanks():
    assert drawable("a\nb\tc\x00d\u2028e") == "a b c d e"


def test_elide_keeps_both_ends_and_fits():
    short = elide(LONG, 200, 12)
    assert width_of(short, 12) <= 200
    head, tail = short.split("…")
    assert LONG.startswith(head)
    assert LONG.endswith(tail)
    assert min(len(head), len(tail)) > 5
    assert elide("conv1", 200, 12) == "conv1"


def test_wrap_breaks_at_blanks_first():
    assert wrap("one two three", width_of("one two", 12), 12) == ["one two", "three"]


def test_wrap_breaks_names_after_their_own_marks_and_loses_nothing():
    lines = wrap(LONG, 200, 12)
    assert "".join(lines) == LONG
    assert all(width_of(line, 12) <= 200 for line in lines)
    assert all(line[-1] in "/._-" for line in lines[:-1])


def test_wrap_breaks_a_word_without_marks_anywhere():
    lines = wrap("x" * 100, 200, 12)
    assert "".join(lines) == "x" * 100
    assert all(width_of(line, 12) <= 200 for line in lines)


def test_wrap_elides_the_last_line_it_may_use():
    lines = wrap(LONG, 200, 12, most=2)
    assert len(lines) == 2
    assert "…" in lines[1]
    assert LONG.endswith(lines[1].split("…")[1])


def test_wrap_survives_a_width_of_nothing():
    assert len(wrap("abc", 1, 12)) == 3


def test_caption_puts_the_picture_under_the_title_unchanged():
    page = caption(TILE, "title")
    body = page[-MARGIN - 40 : -MARGIN, MARGIN : MARGIN + 600]
    assert np.array_equal(body, TILE)
    assert (page[: -MARGIN - 40] < 100).any()


@pytest.mark.parametrize("width", [1, 33, 700])
def test_caption_leaves_the_margin_white_however_long_the_title(width):
    page = caption(np.zeros((5, width, 3), np.uint8), LONG, LONG)
    top, bottom, left, right = ink_box(page)
    assert min(top, left) >= MARGIN
    assert max(page.shape[0] - 1 - bottom, 0) >= MARGIN
    assert page.shape[1] - 1 - right >= MARGIN
    assert page.shape[1] == max(width, LEAST_WIDTH) + 2 * MARGIN


def test_caption_wraps_its_note_and_never_cuts_it():
    short, long = (caption(TILE, "title", note) for note in ("one line", LONG))
    assert long.shape[0] > short.shape[0]
    assert "…" not in "".join(wrap(LONG, 600, NOTE_SIZE))


def test_caption_without_a_title_is_the_picture_with_margins():
    page = caption(TILE, "")
    assert np.array_equal(page[-MARGIN - 40 : -MARGIN, MARGIN : MARGIN + 600], TILE)
    assert (page[: -MARGIN - 40] == 255).all()


def test_paragraph_draws_one_line_per_step():
    image = paragraph(["A", "", "A"], 100, TITLE_SIZE)
    step = image.shape[0] // 3
    assert (image[:step] < 100).any()
    assert (image[step : 2 * step] == 255).all()
    assert np.array_equal(image[:step], image[2 * step :])


def test_paragraph_of_nothing_takes_no_room():
    assert paragraph([], 50, 12).shape == (0, 50, 3)


@pytest.mark.parametrize("width", [LEAST_BAR, 300, 777])
def test_colorbar_runs_from_the_first_colour_to_the_last(width):
    bar = colorbar(SEQUENTIAL, 0, 5, width)
    assert bar.shape[1] == width
    assert bar[0, 0].tolist() == table(SEQUENTIAL)[0].tolist()
    assert bar[BAR_HEIGHT - 1, -1].tolist() == table(SEQUENTIAL)[255].tolist()
    assert (bar[BAR_HEIGHT : BAR_HEIGHT + 2] == 255).all()


def test_colorbar_marks_zero_between_signs_alone():
    bar = colorbar(DIVERGING, -2, 2, 301)
    mark = bar[BAR_HEIGHT, :, 0]
    assert np.flatnonzero(mark < 100).tolist() == [150]
    assert (bar[BAR_HEIGHT + 4 :, 145:156] < 100).any()
    assert (colorbar(SEQUENTIAL, 0, 2, 301)[BAR_HEIGHT + 4 :, 145:156] == 255).all()


def test_colorbar_never_lets_its_numbers_touch():
    bar = colorbar(DIVERGING, -1.23e-10, 1.23e-10, 10)
    inked = np.flatnonzero((bar[BAR_HEIGHT + 4 :] < 200).any(axis=(0, 2)))
    gaps = np.diff(inked)
    assert np.count_nonzero(gaps >= 10) == 2
    lopsided = colorbar(DIVERGING, -0.001, 1.0, 10)
    assert (
        np.count_nonzero(np.diff(np.flatnonzero((lopsided[BAR_HEIGHT + 4 :] < 200).any(axis=(0, 2)))) >= 10)
        == 1
    )


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (-0.0, "0"), (1234.5, "1.23e+03"), (0.12345, "0.123"), (-5.0, "-5")]
)
def test_number(value, text):
    assert number(value) == text
