"""What holds for every method: the batch changes nothing, and nor do the other pictures."""

from pathlib import Path

import numpy as np
import pytest
from methods.nets import cam_net, noise

from onnxviz import explain
from onnxviz.methods.attribution.table import METHODS

DATA = Path(__file__).parents[1] / "data" / "attention"
FAST = {
    "samples": 6,
    "steps": 4,
    "cells": 2,
    "designs": 4,
    "pieces": 4,
    "permutations": 2,
    "segmentation": "grid",
}
X = noise(5, 3, 8, 10)
TARGETS = [0, 3, 1, 1, 2]


def explained(method, x, targets, batch):
    settings = {name: value for name, value in FAST.items() if name in METHODS[method].settings}
    if method in ("legrad", "attention-rollout", "attention"):
        model, x = DATA / "vit_class.onnx", noise(5, 3, 12, 20)[: len(x)]
        targets = [target % 2 for target in targets]
    else:
        model = cam_net()
    layer = ["c1", "features"] if method == "refine-cam" else None
    return explain(model, x, method, targets, layer, batch=batch, **settings)


@pytest.mark.parametrize("method", METHODS)
def test_batches_of_one_three_and_sixteen_give_the_same_map(method):
    whole = explained(method, X, TARGETS, 16)
    scale = np.abs(whole.raw).max()
    assert scale > 0
    for batch in (1, 3):
        found = explained(method, X, TARGETS, batch)
        np.testing.assert_allclose(found.raw, whole.raw, rtol=1e-4, atol=2e-5 * scale)
    alone = explained(method, X[:1], TARGETS[:1], None)
    np.testing.assert_allclose(alone.raw[0], whole.raw[0], rtol=1e-4, atol=2e-5 * scale)
