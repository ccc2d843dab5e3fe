"""CAMs that take no gradient, beside slow versions: one run of a changed graph for each copy."""

from collections import Counter

import numpy as np
import onnx
import pytest
from methods.nets import cam_net, cam_weights, net, run_plainly
from methods.tail_nets import METHODS, NETS, PAIRS, QLINEAR, SMALL, WEIGHTS, X, maps, quantised
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from scipy import ndimage

from onnxviz import load
from onnxviz.errors import DisconnectedError, SelectorError
from onnxviz.graph.selectors import select_one
from onnxviz.methods.attribution.pose import pose
from onnxviz.methods.attribution.question import Bench
from onnxviz.methods.query import ask
from onnxviz.runtime.session import Session


class ByHand:
    """A model one of whose tensors is multiplied by a mask, in plain onnxruntime, picture by picture."""

    def __init__(self, model, tensor, quantiser=("s1", "z1")):
        self.model, self.tensor = onnx.ModelProto(), tensor
        self.model.CopyFrom(model)
        graph = self.model.graph
        self.batch = graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
        zeros = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
        self.scale, self.zero = (zeros.get(name) for name in quantiser)
        place, node = next((i, n) for i, n in enumerate(graph.node) if tensor in n.output)
        node.output[list(node.output).index(tensor)] = "whole"
        number = helper.make_tensor_value_info("mask", TensorProto.FLOAT, None)
        graph.input.append(number)
        for offset, new in enumerate(self._masked()):
            graph.node.insert(place + 1 + offset, new)
        self.nhwc = model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value == 3
        graph.output.append(onnx.ValueInfoProto(name="whole"))
        self.session = InferenceSession(self.model.SerializeToString(), providers=["CPUExecutionProvider"])

    def _masked(self):
        if self.zero is None:
            return [helper.make_node("Mul", ["whole", "mask"], [self.tensor])]
        self.model.graph.initializer.append(numpy_helper.from_array(np.float32(self.zero), "z_float"))
        steps = [("Cast", ["whole"]), ("Sub", ["a0", "z_float"]), ("Mul", ["a1", "mask"])]
        steps += [("Add", ["a2", "z_float"]), ("Round", ["a3"]), ("Cast", ["a4"])]
        nodes = [helper.make_node(op, reads, [f"a{n}"]) for n, (op, reads) in enumerate(steps)]
        nodes[0].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        nodes[-1].attribute.append(helper.make_attribute("to", TensorProto.UINT8))
        nodes[-1].output[0] = self.tensor
        return nodes

    def run(self, x, mask=None):
        """Scores [4] of one picture and its maps [C, h, w], the maps unmasked; the mask is [C, h, w]."""
        wide = np.ones(1, np.float32) if mask is None else np.float32(mask)[None]
        if self.nhwc and mask is not None:
            wide = wide.transpose(0, 2, 3, 1)
        feeds = {"x": np.repeat(x[None], self.batch, 0), "mask": wide}
        logits, whole = (
            array[0].astype(np.float64) for array in self.session.run(["logits", "whole"], feeds)
        )
        if self.zero is not None:
            whole = (whole - self.zero) * self.scale
        return logits, whole.transpose(2, 0, 1) if self.nhwc else whole


def told(scores, weights):
    return sum(weight * scores[..., place] for place, weight in weights.items())


@pytest.mark.parametrize("which", NETS)
def test_ablation_cam_is_what_a_graph_without_each_channel_says(which):
    build, x = NETS[which]
    hand = ByHand(build(), "r1")
    for found, (picture, _), target in zip(
        maps(build(), x, "ablation-cam", "r1"), PAIRS, WEIGHTS, strict=True
    ):
        scores, features = hand.run(x[picture])
        expected = np.zeros(features.shape[1:])
        for k in range(len(features)):
            mask = np.ones(features.shape)
            mask[k] = 0
            without, _ = hand.run(x[picture], mask)
            whole = told(scores, target)
            expected += (whole - told(without, target)) / abs(whole) * features[k]
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


GAUSSIAN = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16


@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("which", NETS)
def test_recipro_cam_is_what_a_graph_with_each_place_alone_says(which, gaussian):
    build, x = NETS[which]
    hand = ByHand(build(), "r1")
    every = maps(build(), x, "recipro-cam", "r1", gaussian=gaussian)
    for found, (picture, _), target in zip(every, PAIRS, WEIGHTS, strict=True):
        _, features = hand.run(x[picture])
        _, height, width = features.shape
        expected = np.zeros((height, width))
        for i in range(height):
            for j in range(width):
                mask = np.zeros((height + 2, width + 2))
                mask[i : i + 3, j : j + 3] = GAUSSIAN if gaussian else np.pad([[1]], 1)
                kept = np.broadcast_to(mask[1:-1, 1:-1], features.shape)
                expected[i, j] = told(hand.run(x[picture], kept)[0], target)
        expected -= expected.min()
        assert np.ptp(expected) > 0
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def score_weighted(hand, x, target, masks_of, base=0.0, chosen=None):
    """Score-CAM by its definition; `masks_of` gives a channel's masks at the input's size."""
    _, features = hand.run(x)
    chosen = range(len(features)) if chosen is None else chosen(features)
    confidence = []
    for k in chosen:
        seen = []
        for mask in masks_of(k, features[k]):
            wide = mask[..., None] if hand.nhwc else mask
            masked = (base + wide * (x - base)).astype(np.float32)
            seen.append(told(hand.run(masked)[0], target))
        blank = told(hand.run(np.full_like(x, base))[0], target)
        confidence.append(np.mean(seen) - blank)
    weights = np.exp(confidence) / np.exp(confidence).sum()
    return sum(weight * features[k] for weight, k in zip(weights, chosen, strict=True))


def up(plane):
    """Bilinear with half-pixel centres, to the input's size, and scaled to [0, 1]."""
    wide = ndimage.zoom(plane, (2, 2), order=1, mode="nearest", grid_mode=True)
    return (wide - wide.min()) / np.ptp(wide)


@pytest.mark.parametrize("which", NETS)
def test_score_cam_is_the_softmax_of_what_each_mask_shows(which):
    build, x = NETS[which]
    hand = ByHand(build(), "r1")
    every = maps(build(), x, "score-cam", "r1")
    for found, (picture, _), target in zip(every, PAIRS, WEIGHTS, strict=True):
        expected = score_weighted(hand, x[picture], target, lambda _k, plane: [up(plane)])
        # A mask that rounds otherwise may move an 8-bit number by one.
        close = 1e-4 if hand.zero is None else 0.02
        np.testing.assert_allclose(found, expected, rtol=close, atol=close * np.abs(expected).max())


def noisy(k, plane, seed=5, level=0.3):
    for turn in range(4):
        drawn = np.random.default_rng([seed, k, turn]).standard_normal(plane.shape)
        yield up(plane + level * np.ptp(plane) * drawn)


VARIANTS = {
    "faster-score-cam": ({"channels": 2}, lambda _k, plane: [up(plane)]),
    "ss-cam": ({"samples": 4, "level": 0.3}, noisy),
    "is-cam": ({"steps": 3}, lambda _k, plane: [up(plane) * i / 3 for i in (1, 2, 3)]),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_score_cam_differ_in_their_masks_alone(name):
    settings, masks_of = VARIANTS[name]
    model = net(SMALL, cam_weights())
    hand = ByHand(model, "r1")
    chosen = (lambda a: np.argsort(-a.std(axis=(1, 2)))[:2]) if name == "faster-score-cam" else None
    every = maps(model, X, name, "r1", seed=5, **settings)
    plain = maps(model, X, "score-cam", "r1")
    for found, other, (picture, _), target in zip(every, plain, PAIRS, WEIGHTS, strict=True):
        expected = score_weighted(hand, X[picture], target, masks_of, chosen=chosen)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        assert np.abs(found - other).max() > 1e-3 * np.abs(other).max()


def test_the_running_sum_of_is_cam_is_a_setting():
    model = net(SMALL, cam_weights())
    hand = ByHand(model, "r1")
    [found] = maps(model, X, "is-cam", "r1", [(0, 1)], steps=4, cumulative=True)
    shares = np.cumsum(np.arange(1, 5) / 4)
    expected = score_weighted(hand, X[0], {1: 1}, lambda _k, plane: [share * up(plane) for share in shares])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("faster-score-cam", {"channels": 99}),
        ("ss-cam", {"samples": 3, "level": 0.0}),
        ("is-cam", {"steps": 1}),
        ("is-cam", {"steps": 1, "cumulative": True}),
    ],
)
def test_variants_that_change_nothing_are_score_cam(name, settings):
    model = net(SMALL, cam_weights())
    expected = maps(model, X, "score-cam", "r1")
    for found, one in zip(maps(model, X, name, "r1", **settings), expected, strict=True):
        np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-7)


def test_a_mask_may_blend_towards_another_picture():
    model = net(SMALL, cam_weights())
    x = np.full((1, 3, 8, 10), 0.5, np.float32) + X[:1]
    level = x[0].astype(np.float64).mean(axis=(1, 2), keepdims=True)
    [found] = maps(model, x, "score-cam", "r1", [(0, 1)], baseline="mean")
    hand = ByHand(model, "r1")
    base = np.broadcast_to(level, x[0].shape)
    expected = score_weighted(hand, x[0], {1: 1}, lambda _k, plane: [up(plane)], base=base)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    [zero] = maps(model, x, "score-cam", "r1", [(0, 1)])
    assert np.abs(found - zero).max() > 1e-3


def test_channels_that_are_the_same_everywhere_make_no_mask():
    weights = cam_weights()
    weights["w1"][[1, 4]] = 0
    weights["b1"][[1, 4]] = [0.7, -1]
    model = net(SMALL, weights)
    hand = ByHand(model, "r1")
    varied = lambda a: np.flatnonzero(np.ptp(a, axis=(1, 2)))  # noqa: E731
    [found] = maps(model, X, "score-cam", "r1", [(0, 1)])
    expected = score_weighted(hand, X[0], {1: 1}, lambda _k, plane: [up(plane)], chosen=varied)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    weights["w1"][:] = 0
    [flat] = maps(net(SMALL, weights), X, "score-cam", "r1", [(0, 1)])
    assert flat.shape == (4, 5)
    assert not flat.any()


def test_behind_a_linear_tail_the_maps_can_be_written_down():
    model, w = cam_net(), cam_weights()
    a = run_plainly(model, {"x": X}, ["features"])["features"].astype(np.float64)
    share = w["w3"].astype(np.float64)[1] / 80
    ablated = maps(model, X, "ablation-cam", "features", [(n, 1) for n in range(3)])
    alone = maps(model, X, "recipro-cam", "features", [(n, 1) for n in range(3)], gaussian=False)
    blurred = maps(model, X, "recipro-cam", "features", [(n, 1) for n in range(3)])
    for n in range(3):
        spoken = np.einsum("k,khw->hw", share, a[n])
        score = spoken.sum() + w["b3"][1]
        weights = share * a[n].sum(axis=(1, 2)) / abs(score)
        np.testing.assert_allclose(ablated[n], np.einsum("k,khw->hw", weights, a[n]), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(alone[n], spoken - spoken.min(), rtol=1e-4, atol=1e-6)
        smooth = ndimage.correlate(spoken, GAUSSIAN, mode="constant")
        np.testing.assert_allclose(blurred[n], smooth - smooth.min(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bias", [-10.0, 0.0, 10.0])
def test_ablation_cam_keeps_its_sign_where_the_score_is_negative(bias):
    """The same net but for the bias of its scores: only |S| differs."""
    weights = cam_weights()
    [plain] = maps(net(SMALL, weights), X, "ablation-cam", "r1", [(0, 1)])
    score = float(run_plainly(net(SMALL, weights), {"x": X[:1]})["logits"][0, 1])
    weights["b3"] = weights["b3"] + np.float32(bias)
    [found] = maps(net(SMALL, weights), X, "ablation-cam", "r1", [(0, 1)])
    np.testing.assert_allclose(found, plain * abs(score) / abs(score + bias), rtol=1e-3, atol=1e-6)


def test_ablation_cam_of_a_score_of_zero_is_not_divided():
    text = """(float[N,3,8,10] x) => (float[N,2] logits) {
        r1 = Conv <pads = [1,1,1,1]> (x, w1, b1)
        s = ReduceMean <keepdims = 0> (r1, axes)
        logits = Gemm <transB = 1> (s, w)
    }"""
    own = {"w1": cam_weights()["w1"], "b1": cam_weights()["b1"], "axes": np.array([2, 3])}
    half = np.array([[1, -1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]], np.float32)
    own["w1"][1], own["b1"][1] = own["w1"][0], own["b1"][0]
    [found] = maps(net(text, {**own, "w": half}), X, "ablation-cam", "r1", [(0, 0)])
    a = run_plainly(net(text, {**own, "w": half}), {"x": X[:1]}, ["r1"])["r1"][0].astype(np.float64)
    expected = a[0].mean() * a[0] - a[1].mean() * a[1]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("which", ["plain", "skip connection", "NHWC", "QLinear"])
@pytest.mark.parametrize("name", METHODS)
def test_the_batch_size_changes_nothing(name, which):
    build, x = NETS[which]
    some = {"ss-cam": {"samples": 3}, "is-cam": {"steps": 3}}.get(name, {})
    expected = maps(build(), x, name, "r1", **some)
    for batch in (1, 3, 16):
        for found, one in zip(maps(build(), x, name, "r1", batch=batch, **some), expected, strict=True):
            np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize("name", METHODS)
def test_a_map_does_not_depend_on_what_else_is_asked(name):
    some = {"ss-cam": {"samples": 3}, "is-cam": {"steps": 3}}.get(name, {})
    model = net(SMALL, cam_weights())
    together = maps(model, X, name, "r1", **some)
    for pair, one in zip(PAIRS, together, strict=True):
        [alone] = maps(model, X, name, "r1", [pair], **some)
        np.testing.assert_allclose(alone, one, rtol=1e-5, atol=1e-7)


# Three pictures are asked about, one of them twice: 6 channels, 4 x 5 places.
RUNS = {
    "ablation-cam": ({}, {"x": 3, "r1": 3 * (1 + 6)}),
    "recipro-cam": ({}, {"x": 3, "r1": 3 * 20}),
    "score-cam": ({}, {"x": 3 * (1 + 6)}),
    "faster-score-cam": ({"channels": 2}, {"x": 3 * (1 + 2)}),
    "ss-cam": ({"samples": 3}, {"x": 3 * (1 + 3 * 6)}),
    "is-cam": ({"steps": 2}, {"x": 3 * (1 + 2 * 6)}),
    "random": ({}, {"x": 3}),
}


@pytest.mark.parametrize("batch", [None, 1, 4])
@pytest.mark.parametrize("name", METHODS)
def test_no_more_is_run_than_the_cost_says(name, batch, monkeypatch):
    settings, expected = RUNS[name]
    model = load(net(SMALL, cam_weights()))
    question = pose(ask(model, X), PAIRS, Bench("cpu"), batch=batch).question
    ran, largest, run = Counter(), Counter(), Session.run

    def counted(self, feeds, *rest):
        [(fed, array)] = feeds.items()
        ran[fed] += len(array)
        largest[fed] = max(largest[fed], len(array))
        return run(self, feeds, *rest)

    monkeypatch.setattr(Session, "run", counted)
    METHODS[name](question, [select_one(model, "r1")], settings)
    assert ran == expected
    assert max(largest.values()) <= (batch or 32)


def test_eight_bit_numbers_that_cross_the_cut_are_run_in_batches(monkeypatch):
    text = QLINEAR.replace("(n2, s2, z, n2, s2, z, s2, z)", "(n2, s2, z, side, s2, z, s2, z)").replace(
        "sum =", "side = QLinearConv <pads = [1,1,1,1]> (r1, s1, z1, q2, sq2, i, s2, z) sum ="
    )
    build = lambda: quantised(text)  # noqa: E731
    hand = ByHand(build(), "n2", ("s2", "z"))
    sizes, run = [], Session.run

    def watched(self, feeds, *rest):
        sizes.append(len(next(iter(feeds.values()))))
        return run(self, feeds, *rest)

    monkeypatch.setattr(Session, "run", watched)
    [found] = maps(build(), X, "recipro-cam", "n2", [(0, 1)], gaussian=False)
    assert 20 in sizes
    expected = np.zeros((4, 5))
    for i, j in np.ndindex(4, 5):
        mask = np.zeros((5, 4, 5))
        mask[:, i, j] = 1
        expected[i, j] = hand.run(X[0], mask)[0][1]
    np.testing.assert_allclose(found, expected - expected.min(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["ablation-cam", "recipro-cam"])
def test_scores_without_a_batch_axis_are_asked_for_one_by_one(name):
    text = (
        SMALL.replace("[N,4]", "[4]")
        .replace("[N,", "[1,")
        .replace(
            "logits = Gemm <transB = 1> (flat, w3, b3)",
            "wide = Gemm <transB = 1> (flat, w3, b3) logits = Reshape (wide, all)",
        )
    )
    model = net(text, {**cam_weights(), "all": np.array([-1])})
    expected = maps(net(SMALL, cam_weights()), X[1:2], name, "r1", [(0, 3)])
    found = maps(model, X[1:2], name, "r1", [(0, "logits[3]")])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("step", "coarse"), [(0.06, False), (1.0, True)])
def test_a_map_that_a_quantised_model_rounds_to_a_few_values_says_so(step, coarse):
    model = quantised(QLINEAR)
    [scale] = [array for array in model.graph.initializer if array.name == "s2"]
    scale.CopyFrom(numpy_helper.from_array(np.float32(step), "s2"))
    posed = pose(ask(load(model), X), [(0, 1)], Bench("cpu"))
    found = METHODS["recipro-cam"](posed.question, [select_one(load(model), "r1")], {})
    values = len(np.unique(found.raw[0]))
    assert (values < 8) == coarse
    assert [f"takes {values} values" in note for note in found.notes] == [True] * coarse


def test_random_maps_are_uniform_sums_of_the_channels():
    model = net(SMALL, cam_weights())
    a = run_plainly(model, {"x": X}, ["r1"])["r1"].reshape(3, 6, -1).astype(np.float64)
    drawn = []
    for seed in range(200):
        every = maps(model, X, "random", "r1", [(0, 1), (0, 2)], seed=seed)
        np.testing.assert_array_equal(every[0], every[1])
        drawn.append(np.linalg.lstsq(a[0].T, every[0].ravel(), rcond=None)[0])
    weights = np.array(drawn)
    assert weights.min() >= -1 - 1e-6
    assert weights.max() <= 1 + 1e-6
    assert abs(weights.mean()) < 4 / np.sqrt(3 * weights.size)
    assert abs(weights.var() - 1 / 3) < 0.05


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(name, bad):
    weights = cam_weights()
    weights["b1"][2] = bad
    some = {"ss-cam": {"samples": 3}, "is-cam": {"steps": 3}}.get(name, {})
    [found] = maps(net(SMALL, weights), X, name, "r1", [(0, 1)], **some)
    assert not np.isfinite(found).all()


@pytest.mark.parametrize(
    ("name", "settings"),
    [("faster-score-cam", {"channels": 0}), ("ss-cam", {"samples": 0}), ("is-cam", {"steps": -1})],
)
def test_counts_below_one_are_refused(name, settings):
    with pytest.raises(SelectorError, match="1 or more"):
        maps(net(SMALL, cam_weights()), X, name, "r1", **settings)


@pytest.mark.parametrize("name", ["ablation-cam", "recipro-cam"])
def test_a_layer_that_does_not_lead_to_the_scores_is_refused(name):
    text = SMALL.replace("(float[N,4] logits)", "(float[N,4] logits, float[N,5,4,5] side)").replace(
        "features =", "side = Neg (c2) features ="
    )
    with pytest.raises(DisconnectedError, match="side"):
        maps(net(text, cam_weights()), X, name, "side")
