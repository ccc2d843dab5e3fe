"""Score-CAM and its kin: channels weighted by the score of the picture seen through each of them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.graph.layers import Layer
from onnxviz.methods.attribution.baselines import baseline as baseline_of
from onnxviz.methods.attribution.baselines import blend
from onnxviz.methods.attribution.looped_scores import faster_graph, is_graph, score_graph, ss_graph
from onnxviz.methods.attribution.masks import counted, noise_of, shares_of
from onnxviz.methods.attribution.method import Array, Maps, Method
from onnxviz.methods.attribution.question import AT_ONCE, Question
from onnxviz.methods.attribution.shared import by_picture, layer_maps, scores_of
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track
from onnxviz.views.heatmaps import resample

MaskOf: TypeAlias = Callable[[Array, int, int], npt.NDArray[np.floating]]
"""A mask [H, W] at the input's size: from a channel's map [h, w], its number, and which turn it is."""


def score_cam(question: Question, layers: Sequence[Layer], *, baseline: str = "zero") -> Maps:
    """sum_k w_k A_k with w = softmax_k(S(x m_k) - S(x')) and m_k = U(A_k) scaled to [0, 1].

    Wang et al. 2020, algorithm 1. U is bilinear to the input's size. S is the score before any softmax over
    the classes (the authors' code weighs by probabilities instead, and takes no softmax over the channels).
    The baseline's score S(x') is the same for every channel, so the softmax does not change with it, and it
    is not run. A channel that is the same everywhere makes no mask, and gets no weight.

    Args:
        question: What is asked.
        layers: The layer.
        baseline: What a mask of 0 shows. The paper multiplies the model's own numbers by the mask, so "zero"
            (behind a mean and a standard deviation: the mean colour of the training pictures); a colour such
            as "black", or "mean" or "blur" of the picture, blends towards that instead.
    """
    return _score_weighted(question, layers, baseline, _mask(question))


def faster_score_cam(
    question: Question, layers: Sequence[Layer], *, channels: int = 10, baseline: str = "zero"
) -> Maps:
    """Score-CAM of the channels that vary most over the picture alone (tabayashi0117, 2020).

    Args:
        question: What is asked.
        layers: The layer.
        channels: How many: those of the largest standard deviation over the places.
        baseline: See `score_cam`.
    """
    return _score_weighted(question, layers, baseline, _mask(question), most=counted(channels))


def ss_cam(
    question: Question,
    layers: Sequence[Layer],
    *,
    samples: int = 35,
    level: float = 0.15,
    baseline: str = "zero",
) -> Maps:
    """Score-CAM with the mean score over masks of A_k + noise (Wang et al. 2020, "SS-CAM", variant 1).

    Args:
        question: What is asked.
        layers: The layer.
        samples: How many noisy masks for each channel.
        level: The standard deviation of the noise, as a share of the channel's range of values. The paper's
            2 is in units of its own network's activations, and means another thing for each model.
        baseline: See `score_cam`.
    """
    clean = _mask(question)

    def noisy(plane: Array, channel: int, turn: int) -> npt.NDArray[np.floating]:
        noise = noise_of(question.seed, channel, turn, plane.shape)
        return clean(plane + level * np.ptp(plane) * noise, channel, turn)

    return _score_weighted(question, layers, baseline, noisy, counted(samples))


def is_cam(
    question: Question,
    layers: Sequence[Layer],
    *,
    steps: int = 10,
    cumulative: bool = False,
    baseline: str = "zero",
) -> Maps:
    """Score-CAM with the mean score over the masks (i / N) m_k, i = 1 ... N (Naidu et al. 2020).

    Args:
        question: What is asked.
        layers: The layer.
        steps: N.
        cumulative: Add each mask to those before it, as torch-cam does: i (i + 1) / 2N in place of i / N,
            which ends far above 1.
        baseline: See `score_cam`.
    """
    whole, shares = _mask(question), shares_of(counted(steps), cumulative)

    def scaled(plane: Array, channel: int, turn: int) -> npt.NDArray[np.floating]:
        return np.asarray(shares[turn] * whole(plane, channel, turn))

    return _score_weighted(question, layers, baseline, scaled, steps)


def _score_weighted(
    question: Question,
    layers: Sequence[Layer],
    baseline: str,
    mask: MaskOf,
    turns: int = 1,
    most: int | None = None,
) -> Maps:
    """sum_k w_k A_k with w the softmax over the channels of their mean score over `turns` masks each.

    `most` keeps those channels that vary most.
    """
    from scipy.special import softmax

    [layer] = layers
    raw: dict[int, Array] = {}
    for numbers in track(by_picture(question), f"masks from {layer.name}"):
        maps = layer_maps(question, layer, numbers[0])
        used = _varied(maps, most)
        masks = [partial(mask, maps[k], int(k), turn) for k in used for turn in range(turns)]
        scores = _seen_through(question, numbers, baseline, masks)
        weights = np.zeros((len(numbers), len(maps)))
        if len(used):
            weights[:, used] = softmax(scores.reshape(len(numbers), len(used), turns).mean(axis=2), axis=1)
        raw |= zip(numbers, np.tensordot(weights, maps, axes=1), strict=True)
    return Maps([raw[number] for number in range(len(question))])


def _varied(maps: Array, most: int | None) -> npt.NDArray[np.intp]:
    """The channels of maps [C, h, w] that are not the same everywhere, in order; at most so many."""
    low, high = maps.min(axis=(1, 2)), maps.max(axis=(1, 2))
    varied = np.flatnonzero(np.isfinite(low) & np.isfinite(high) & (high > low))
    if most is None:
        return varied
    strongest = np.argsort(-maps[varied].std(axis=(1, 2)), kind="stable")[:most]
    return np.asarray(np.sort(varied[strongest]))


def _mask(question: Question) -> MaskOf:
    """A channel's map [h, w] at the input's size, scaled to [0, 1] there."""

    def scaled(plane: Array, _channel: int, _turn: int) -> npt.NDArray[np.floating]:
        wide = resample(plane, question.query.input_size)
        low, high = wide.min(), wide.max()
        return np.asarray((wide - low) / (high - low if high > low else 1))

    return scaled


def _seen_through(
    question: Question,
    numbers: Sequence[int],
    baseline: str,
    masks: Sequence[Callable[[], npt.NDArray[np.floating]]],
) -> npt.NDArray[np.float64]:
    """The scores [T, K] of one picture's targets, of the picture behind each of K masks."""
    picture, base = question.inputs(numbers[:1]), baseline_of(question, numbers[0], baseline)
    found = np.zeros((len(numbers), len(masks)))
    for start, stop in track(list(batches(len(masks), question.batch or AT_ONCE)), "masked pictures"):
        some = np.stack([mask() for mask in masks[start:stop]])
        over_channels = some[..., None] if question.places == (0, 1) else some[:, None]
        rows = question.rows([numbers[0]] * len(some), blend(picture, base, over_channels))
        found[:, start:stop] = scores_of(question, numbers, rows)
    return found


SCORE_CAMS = (
    Method(
        "score-cam",
        score_cam,
        "layer",
        "sum_k w_k A_k with w the softmax over k of the score of x times A_k, scaled to [0, 1]",
        "the trunk once + C F",
        "Wang et al. 2020, arXiv:1910.01279",
        graph=score_graph,
    ),
    Method(
        "faster-score-cam",
        faster_score_cam,
        "layer",
        "Score-CAM of the channels that vary most over the picture",
        "the trunk once + channels F",
        "tabayashi0117 2020, Faster-Score-CAM",
        graph=faster_graph,
    ),
    Method(
        "ss-cam",
        ss_cam,
        "layer",
        "Score-CAM with the mean score over noisy masks",
        "the trunk once + samples C F",
        "Wang et al. 2020, arXiv:2006.14255",
        caveat="the noise is a share of each channel's range; the paper's is in its activations' own units",
        graph=ss_graph,
    ),
    Method(
        "is-cam",
        is_cam,
        "layer",
        "Score-CAM with the mean score over the mask scaled by i / N",
        "the trunk once + steps C F",
        "Naidu et al. 2020, arXiv:2010.03023",
        graph=is_graph,
    ),
)
