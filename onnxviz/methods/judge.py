"""How good a map is for its picture: the metrics that need nothing but the model."""

import numpy as np

from onnxviz.methods.attribution.baselines import baseline
from onnxviz.methods.attribution.question import Array, Question
from onnxviz.quality.curves import deletion, insertion, road
from onnxviz.quality.drops import drops, hidden
from onnxviz.quality.sparseness import entropy, gini


def judged(question: Question, number: int, heatmap: Array) -> dict[str, float]:
    """Insertion, deletion, ROAD, average drop, sparseness and complexity of one pair's heatmap.

    Places go to black and come into a blurred picture. What is asked of the model is the class's probability,
    or the score of a target that is no class.
    """
    [x] = question.inputs([number])
    target = question.pairs[number][1]
    places = question.places

    def predict(inputs: Array) -> Array:
        rows = question.rows([number] * len(inputs), inputs)
        return np.array([question.chance(target, row) for row in rows])

    black, blurred = (baseline(question, number, spec) for spec in ("black", "blur"))
    return {
        "insertion": insertion(predict, x, heatmap, blurred, places).area,
        "deletion": deletion(predict, x, heatmap, black, places).area,
        "road": road(predict, x, heatmap, places, seed=question.seed).combined,
        "average-drop": drops([hidden(predict, x, heatmap, black, places)]).drop,
        "sparseness": gini(heatmap),
        "complexity": entropy(heatmap),
    }
