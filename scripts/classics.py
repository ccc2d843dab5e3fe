"""Draw the pictures of docs/classics.md: each tutorial's figure by one command.

    python scripts/classics.py               into docs/images
    python scripts/classics.py --only fox    those whose name holds a word
    python scripts/classics.py --out FOLDER  elsewhere

It needs scikit-image (`pip install ".[superpixels]"`): the astronaut (NASA, public domain)
for the open and the closed eye, and ten others (CC0 or public domain) whose squares are the set of the
Zeiler-Fergus figure.
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from onnxviz.cli import main as onnxviz

ROOT = Path(__file__).resolve().parent.parent
SQUEEZENET, MNIST = ROOT / "models" / "squeezenet1.1.onnx", ROOT / "models" / "mnist.onnx"
WIDTH = 900
PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "hubble_deep_field"),
    *("retina", "rocket", "text"),
)
SQUARE = 100
EYES = ((203, 101), (247, 104))  # of the astronaut, in her photograph
FACE = (150, 40, 300, 190)


def command(*arguments: object, sheet: str = "grid.png") -> tuple[Image.Image, str]:
    """What a command draws, and what it says."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        with contextlib.redirect_stdout(said):
            code = onnxviz([str(one) for one in (*arguments, "-q", "--out", out)], standalone_mode=False)
        if code:
            raise SystemExit(f"onnxviz {' '.join(map(str, arguments))} ended with {code}")
        found = [Image.open(path).convert("RGB") for path in sorted(out.glob(sheet))]
    return together(found, len(found), sum(one.width for one in found)), said.getvalue()


def pages() -> Image.Image:
    """Filter pages: the channels of four layers, 40 steps each, the highest last loss first."""
    layers = ("conv1", "fire3_expand3x3", "fire5_expand3x3", "fire8_expand3x3")
    drawn = [
        command(
            "maximize", SQUEEZENET, "--layer", layer, "--channels", "0-63", "--recipe", "chollet", "--sort",
            "--crop", "64x64", "--columns", 8,
        )[0]
        for layer in layers
    ]  # fmt: skip
    return together(drawn, 2, 1400)


def six_filters() -> Image.Image:
    """Six channels of one convolution, the corner of each."""
    return command(
        "maximize", SQUEEZENET, "--layer", "fire5_expand3x3", "--channels", "1-6", "--recipe", "hvass",
        "--crop", "100x100", "--columns", 3,
    )[0]  # fmt: skip


def six_classes() -> Image.Image:
    """Six class scores."""
    targets = [part for number in range(1, 7) for part in ("--target", number)]
    return command("maximize", SQUEEZENET, *targets, "--recipe", "hvass", "--columns", 3)[0]


def kit_fox() -> Image.Image:
    """One class, 100 steps, with the report of every step."""
    drawn, said = command(
        "maximize", SQUEEZENET, "--target", "kit fox", "--recipe", "hvass", "--steps", 100, "--report"
    )
    lines = said.splitlines()
    print(lines[0], lines[-2], lines[-1], sep="\n")
    return drawn


def lucid() -> Image.Image:
    """What six channels of a late layer would like to see."""
    return command(
        "maximize", SQUEEZENET, "--layer", "fire9_concat", "--channels", "0-5", "--recipe", "lucid",
        "--columns", 3,
    )[0]  # fmt: skip


def digits() -> Image.Image:
    """The ten classes and the channels of a network that reads digits."""
    classes = [part for number in range(10) for part in ("--target", number)]
    drawn = [
        command("maximize", MNIST, *classes, "--recipe", "hvass-b", "--columns", 5)[0],
        command("maximize", MNIST, *classes, "--recipe", "lucid", "--transforms", "jitter:2", "--columns", 5)[
            0
        ],
        command(
            "maximize", MNIST, "--layer", "conv2", "--channels", "all", "--recipe", "hvass-b", "--columns", 8
        )[0],
    ]
    return together(drawn, 1, WIDTH)


def eyes() -> Image.Image:
    """Two channels that answer to an open eye, and what they say of a closed one."""
    import onnxviz as package

    with tempfile.TemporaryDirectory() as folder:
        opened, closed = (Path(folder, f"{name}.png") for name in ("open", "closed"))
        face = photograph("astronaut")
        face.crop(FACE).save(opened)
        with_closed_eyes(face).crop(FACE).save(closed)
        (maps,) = package.activations(str(SQUEEZENET), [opened, closed], layers="fire4_concat").values()
        fallen = maps[0].max(axis=(1, 2)) - maps[1].max(axis=(1, 2))
        channels = ",".join(str(channel) for channel in np.argsort(-fallen)[:2])
        print(f"eyes: channels {channels} of fire4_concat fall most when the eyes close")
        return command(
            "activations", SQUEEZENET, opened, closed, "--layer", "fire4_concat", "--channels", channels,
            sheet="*-on-picture-*.png",
        )[0]  # fmt: skip


def zeiler_fergus() -> Image.Image:
    """The strongest patches of some channels with their projections, over squares of photographs."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"zeiler-fergus: {squares(Path(folder))} squares of {len(PHOTOGRAPHS)} photographs")
        return command(
            "top",
            SQUEEZENET,
            folder,
            "--layer",
            "fire4_concat",
            "--channels",
            "strongest:9",
            sheet="*-fire4_concat.png",
        )[0]


def photograph(name: str) -> Image.Image:
    """A sample picture of scikit-image."""
    import skimage.data

    (path,) = (p for p in Path(skimage.data.__file__).parent.iterdir() if p.stem == name)
    with Image.open(path) as opened:
        return opened.convert("RGB")


def with_closed_eyes(face: Image.Image) -> Image.Image:
    """The astronaut with lids painted over her eyes: skin from below them, and a line of lashes."""
    painted = face.copy()
    for x, y in EYES:
        lid = face.crop((x - 16, y + 14, x + 16, y + 26)).resize((32, 18))
        mask = Image.new("L", (32, 18))
        ImageDraw.Draw(mask).ellipse((2, 1, 29, 16), fill=255)
        painted.paste(lid, (x - 16, y - 9), mask.filter(ImageFilter.GaussianBlur(1.5)))
        ImageDraw.Draw(painted).arc((x - 13, y - 7, x + 13, y + 7), 20, 160, fill=(88, 60, 48), width=1)
    return painted


def squares(folder: Path) -> int:
    """Write a set of pictures: photographs cut into squares side by side; tells how many."""
    count = 0
    for name in PHOTOGRAPHS:
        picture = photograph(name)
        for top in range(0, picture.height - SQUARE + 1, SQUARE):
            for left in range(0, picture.width - SQUARE + 1, SQUARE):
                square = picture.crop((left, top, left + SQUARE, top + SQUARE))
                square.save(folder / f"{name}-{top:04d}-{left:04d}.png")
                count += 1
    return count


def together(drawn: Sequence[Image.Image], columns: int, width: int) -> Image.Image:
    """Several pictures on one, in rows."""
    side = width // columns
    sized = [one.resize((side, round(one.height * side / one.width))) for one in drawn]
    height = max(one.height for one in sized)
    heights = [one.height for one in sized] if columns == 1 else [height] * -(-len(sized) // columns)
    sheet = Image.new("RGB", (side * columns, sum(heights)), "white")
    for number, one in enumerate(sized):
        row, column = divmod(number, columns)
        sheet.paste(one, (column * side, sum(heights[:row])))
    return sheet


CLASSICS: dict[str, Callable[[], Image.Image]] = {
    "pages": pages,
    "six-filters": six_filters,
    "six-classes": six_classes,
    "kit-fox": kit_fox,
    "lucid": lucid,
    "digits": digits,
    "eyes": eyes,
    "zeiler-fergus": zeiler_fergus,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="those whose name holds this")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="the folder to write")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, draw in CLASSICS.items():
        if arguments.only in name:
            drawn = draw()
            if drawn.width > 1400:
                drawn = drawn.resize((1400, round(drawn.height * 1400 / drawn.width)))
            drawn.save(arguments.out / f"classic-{name}.jpg", quality=85, optimize=True)
            print(f"{name}: {drawn.width} x {drawn.height}")


if __name__ == "__main__":
    main()
