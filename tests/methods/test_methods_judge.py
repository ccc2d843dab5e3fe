from itertools import pairwise

import numpy as np
import pytest
from methods.nets import cam_net, noise, run_plainly
from scipy.ndimage import gaussian_filter

from onnxviz.methods.explain import explain_each
from onnxviz.methods.query import ask
from onnxviz.quality.curves import insertion, road
from onnxviz.quality.drops import drops, hidden
from onnxviz.quality.sparseness import entropy, gini

X = noise(3, 3, 8, 10)


def probability(target):
    """A class's probability by plain onnxruntime and a softmax in float64."""

    def predict(inputs):
        logits = run_plainly(cam_net(), {"x": inputs.astype(np.float32)})["logits"].astype(np.float64)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (raised / raised.sum(axis=1, keepdims=True))[:, target]

    return predict


@pytest.mark.parametrize(("picture", "target"), [(0, 1), (2, 3)])
def test_a_map_is_judged_by_the_probability_of_its_own_class(picture, target):
    found = explain_each(ask(cam_net(), X), [(1, 0), (picture, target)], quality=True)
    figures, heat, x = found.evidence[1].quality, found.heatmap[1], X[picture]
    predict = probability(target)
    assert figures["road"] == pytest.approx(road(predict, x, heat, (1, 2)).combined, abs=1e-6)
    blurred = gaussian_filter(x.astype(np.float64), (0, 0.5, 0.5), mode="nearest")  # 1/20 of the longer side
    assert figures["insertion"] == pytest.approx(insertion(predict, x, heat, blurred, (1, 2)).area, rel=1e-4)
    assert figures["sparseness"] == gini(heat)
    assert figures["complexity"] == entropy(heat)
    assert found.manifest["maps"][1]["quality"] == figures
    other = drops([hidden(probability(0), x, heat, np.zeros(1), (1, 2))]).drop
    assert set(figures) == {"insertion", "deletion", "road", "average-drop", "sparseness", "complexity"}
    assert figures["average-drop"] != pytest.approx(other, abs=1e-4)


def test_deletion_is_that_of_a_slow_loop_over_places():
    """Places turn black, pushed through the preprocessing, in the heatmap's order; no two are equal here."""
    found = explain_each(ask(cam_net(), X), [(0, 1)], "gradient", quality=True)
    heat, left, predict = found.heatmap[0].copy(), X[0].copy(), probability(1)
    assert len(np.unique(heat)) == heat.size
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    assert found.manifest["preprocess"]["mean"] == mean.tolist()
    gone, values = 0, []
    for step in range(29):
        while gone < round(step / 28 * heat.size):
            row, column = np.unravel_index(np.argmax(heat), heat.shape)
            heat[row, column] = -1
            left[:, row, column] = -mean / deviation
            gone += 1
        values.append(predict(left[None])[0])
    area = np.mean([(one + other) / 2 for one, other in pairwise(values)])
    assert found.evidence[0].quality["deletion"] == pytest.approx(area, rel=1e-4)
