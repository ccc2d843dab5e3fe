"""The network of digits that comes along: it reads, it says how, and it is small."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image

import onnxviz
from onnxviz.vision.images import picture_input
from onnxviz.vision.preprocess import choose

MODELS = Path(__file__).parents[1] / "models"
MODEL, DIGIT = MODELS / "mnist.onnx", MODELS / "digit.png"


def test_the_model_is_valid_small_and_its_nodes_have_names() -> None:
    model = onnx.load(MODEL)
    onnx.checker.check_model(model, full_check=True)
    assert MODEL.stat().st_size < 200_000
    names = [node.name for node in model.graph.node]
    assert names[:3] == ["conv1", "conv1_relu", "pool1"]
    assert names[-1] == "logits"
    assert model.opset_import[0].version >= 18


def test_plain_onnxruntime_reads_the_digit() -> None:
    with Image.open(DIGIT) as opened:
        pixels = np.asarray(opened)
    assert pixels.shape == (28, 28)
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    picture = pixels[None, None].astype(np.float32) / 255
    (scores,) = session.run(["logits"], {"input": np.concatenate([picture, 0 * picture])})
    chances = np.exp(scores[0] - scores[0].max())
    chances /= chances.sum()
    assert chances.argmax() == 3
    assert abs(chances.max() - 0.998) < 5e-4


def test_the_file_says_how_to_ask_it() -> None:
    model = onnxviz.load(MODEL)
    how = choose(None, model.metadata, picture_input(model.inputs))
    assert (how.color, how.size, how.scale) == ("L", (28, 28), 1 / 255)
    assert how.source == "metadata onnxviz.preprocess"
    assert "onnxviz.licence" in model.metadata
    found = onnxviz.explain(model, DIGIT, device="cpu")
    assert found.manifest["target"][0]["label"] == "3"
    assert abs(found.probability[0] - 0.998) < 5e-4


def test_its_digits_can_be_drawn() -> None:
    """What raises the score of a 3 is read as a 3, whatever the seed."""
    for seed in (0, 1):
        made = onnxviz.maximize(
            MODEL, target=3, recipe="lucid", seed=seed, transforms=("jitter:2",), steps=24, device="cpu"
        )
        assert made.images.shape == (1, 28, 28, 1)
        assert made.manifest["top5"][0][0]["label"] == "3"
        assert made.manifest["top5"][0][0]["probability"] > 0.99
