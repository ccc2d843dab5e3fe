"""The first steps of every published recipe against the same written once more after its source."""

import numpy as np
import pytest
from methods import ascent_reference as reference
from methods.nets import net

from onnxviz.methods.ascent.images import natural_magnitude
from onnxviz.methods.ascent.plan import Asked, plan_for
from onnxviz.methods.ascent.recipe import RECIPES, find_recipe
from onnxviz.methods.ascent.run import Run
from onnxviz.methods.maximize import maximize

SMOOTH = """
    (float[N,{channels},{height},{width}] x) => (float[N,4] logits) {{
        c = Conv (x, w1)
        s = Sigmoid (c)
        pooled = GlobalAveragePool (s)
        flat = Flatten (pooled)
        logits = Gemm <transB = 1> (flat, w2)
    }}
"""
CHANNEL = 2


def smooth_net(channels=3, height="H", width="W", seed=0):
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, 1.5, (5, channels, 3, 3)).astype(np.float32),
        "w2": rng.normal(0, 1, (4, 5)).astype(np.float32),
    }
    text = SMOOTH.format(channels=channels, height=height, width=width)
    return net(text, weights), weights["w1"].astype(np.float64)


def activation(kernels, pixels, channel=CHANNEL):
    """The channel's map of pixels of 0 to 255, preprocessed as `unit` does."""
    x = pixels / 255
    height, width = x.shape[1] - 2, x.shape[2] - 2
    z = np.zeros((height, width))
    for c in range(x.shape[0]):
        for i in range(3):
            for j in range(3):
                z += kernels[channel, c, i, j] * x[c, i : i + height, j : j + width]
    return 1 / (1 + np.exp(-z))


def path(model, recipe, steps, **asked):
    """The pictures before each step and after the last, and the values; and what was drawn from."""
    settings = find_recipe(recipe, **asked.pop("settings", {}))
    options = {
        "seed": 3,
        "start": None,
        "magnitude": None,
        "picture": None,
        "route": "graph",
        "sampler": None,
        "report": False,
        "preprocess": "unit",
        "inputs": None,
        "size": None,
        "device": "cpu",
        "batch": 1,
        "output": None,
        "labels": None,
    }
    plan = plan_for(model, Asked("s", str(CHANNEL), [], [], 1), settings, **options | asked)
    run = Run(plan, None)
    (batch,) = run._batches
    ascent = run._ascent(batch, 0)
    start = ascent.begin(run._seeds(batch))
    pictures, values = [ascent._render.run({"theta": start.theta})["picture"][0]], []
    for climb, report in ascent.climb(start, start.theta, run._objectives(batch), batch.seed, steps):
        theta = climb.theta.numpy()
        pictures.append(ascent._render.run({"theta": theta})["picture"][0])
        values.append(float(report.value[0]))
    return start.theta[0].astype(np.float64), pictures, values, ascent, climb


def assert_same(found, values, expected):
    for step, ((picture, value), own) in enumerate(zip(expected, found, strict=True)):
        assert np.abs(own - picture).max() < 1e-4 * 255, step
        if step < len(values):
            assert values[step] == pytest.approx(value, rel=1e-4, abs=1e-7)
    moved = np.abs(expected[-1][0] - expected[0][0]).max()
    assert moved > 0.1  # of 255: the comparison could fail


@pytest.mark.parametrize("recipe", ["chollet", "hvass"])
def test_the_normalised_gradient(recipe):
    model, kernels = smooth_net(height=7, width=8)
    theta, pictures, values, _, _ = path(model, recipe, 3)
    low, high = RECIPES[recipe].low, RECIPES[recipe].high
    assert low <= theta.min() < theta.max() <= high
    expected = getattr(reference, recipe)(lambda x: activation(kernels, x).mean(), theta, 3)
    assert_same(pictures, values, expected)


@pytest.mark.parametrize(
    "extra",
    [{}, {"small_norm": 40.0}, {"small_contribution": 30.0}, {"decay": 0.3, "small_norm": 20.0}],
    ids=str,
)
def test_yosinski_in_the_order_of_the_toolbox(extra):
    model, kernels = smooth_net(height=9, width=8)
    settings = {"rate": 4e4, **extra}
    theta, pictures, values, _, climb = path(
        model, "yosinski", 6, settings=settings, preprocess={"scale": 1 / 255, "mean": [0.5], "std": [1.0]}
    )
    mean = 127.5

    def value(x):
        return activation(kernels, x - mean)[3, 3]  # the lower right of the middle: 7 x 6 places

    known = {"decay": 1e-4, "sigma": 1.0, "every": 4, **settings}
    expected = reference.yosinski(value, theta, mean, 6, **known)
    assert_same(pictures, values, expected)
    assert climb.state["best_value"].numpy()[0] == pytest.approx(max(values), rel=1e-6)


@pytest.mark.parametrize("size", [(8, 9), (7, 8)], ids=["odd width", "even width"])
def test_lucid(size):
    model, kernels = smooth_net()
    theta, pictures, values, _, _ = path(model, "lucid", 3, picture=size)
    expected = reference.lucid(lambda x: activation(kernels, x).mean(), theta, size, 3, (3, 0, 2))
    assert_same(pictures, values, expected)


def test_lucid_in_grey():
    model, kernels = smooth_net(channels=1)
    theta, pictures, values, _, _ = path(model, "lucid", 2, picture=(8, 8))
    expected = reference.lucid(lambda x: activation(kernels, x).mean(), theta, (8, 8), 2, (3, 0, 2))
    assert_same(pictures, values, expected)


def test_maco_and_its_transparency():
    model, kernels = smooth_net(height=6, width=7)
    settings = {"crops": 4, "steps": 20}
    theta, pictures, values, ascent, climb = path(model, "maco", 3, picture=(8, 10), settings=settings)
    magnitude = natural_magnitude(3, (8, 10))
    expected, transparency = reference.maco(
        lambda x: activation(kernels, x).mean(), theta, magnitude, 3, (3, 0, 2), 4, (6, 7), 20
    )
    assert_same(pictures, values, expected)
    found = ascent.transparency(climb)[0]
    assert np.abs(found - transparency).max() < 1e-3 * transparency.max()


def test_deepdream_over_octaves():
    model, kernels = smooth_net()
    picture = np.random.default_rng(5).integers(0, 256, (20, 24, 3), np.uint8)
    made = maximize(
        model,
        "s",
        recipe="deepdream",
        seed=3,
        start=picture,
        preprocess="unit",
        device="cpu",
        steps=2,
        octaves=3,
        noise=0.0,
    )

    def value(x):
        return np.mean([activation(kernels, x, k) ** 2 for k in range(5)])

    expected, values = reference.deepdream(value, picture.transpose(2, 0, 1).astype(float), 2, 3, (3, 0, 2))
    assert np.abs(made.pictures[0].transpose(2, 0, 1) - expected).max() < 1e-4 * 255
    assert made.losses[0] == pytest.approx(values, rel=1e-4)


def test_hvass_b_steps_in_shares_of_the_range():
    """Tutorial 13-B counts pixels from 0 to 1: its step of 1 is the whole range."""
    model, kernels = smooth_net(channels=1, height=6, width=6)
    theta, pictures, _, _, _ = path(model, "hvass-b", 1)
    assert 0.45 <= theta.min() / 255 <= theta.max() / 255 <= 0.55
    g = reference.slope(lambda x: activation(kernels, 255 * x).mean(), theta / 255, 1e-4)
    expected = np.clip(theta / 255 + g / (g.std() + 1e-8), 0, 1)
    assert np.abs(pictures[1] / 255 - expected).max() < 1e-4


def test_penalties_lower_the_objective_by_their_gradient():
    model, kernels = smooth_net(height=6, width=7)
    settings = {
        "low": 100.0,
        "high": 150.0,
        "rate": 300.0,
        "normalise": "none",
        "clip": False,
        "l1": 0.7,
        "tv": 0.4,
    }
    theta, pictures, values, _, _ = path(model, "chollet", 2, settings=settings)

    def value(x):
        return activation(kernels, x).mean()

    def lowered(x):
        down, across = np.abs(np.diff(x, axis=1)).mean(), np.abs(np.diff(x, axis=2)).mean()
        return value(x) - 0.7 / 255 * np.abs(x - 0).mean() - 0.4 / 255 * (down + across)

    for step in range(2):
        assert values[step] == pytest.approx(value(theta), rel=1e-4)
        theta = theta + 300.0 * reference.slope(lowered, theta, 1e-4)
        assert np.abs(pictures[step + 1] - theta).max() < 1e-4 * 255


def test_the_rate_is_what_brings_the_rise_asked_for():
    """Yosinski et al.: rate = min(most, progress / |g|^2)."""
    model, kernels = smooth_net(height=6, width=7)
    for progress, most in ((1e-3, 1e9), (1e9, 5e4)):
        settings = {"low": 100.0, "high": 150.0, "rate": most, "normalise": "none", "progress": progress}
        theta, pictures, _, _, _ = path(model, "chollet", 1, settings=settings)
        g = reference.slope(lambda x: activation(kernels, x).mean(), theta, 1e-2)
        expected = theta + min(most, progress / (g**2).sum()) * g
        assert np.abs(pictures[1] - expected).max() < 1e-4 * np.abs(expected - theta).max()


def test_rmsprop_is_the_gradient_over_the_root_of_its_mean_square():
    model, kernels = smooth_net(height=6, width=7)
    settings = {"low": 100.0, "high": 150.0, "normalise": "none", "optimizer": "rmsprop", "epsilon": 1e-9}
    theta, pictures, _, _, _ = path(model, "chollet", 2, settings=settings)
    square = np.zeros_like(theta)
    for step in range(2):
        g = reference.slope(lambda x: activation(kernels, x).mean(), theta, 1e-2)
        square = 0.999 * square + 0.001 * g**2
        theta = theta + g / (np.sqrt(square) + 1e-9)
        assert np.abs(pictures[step + 1] - theta).max() < 1e-3 * 32


def test_every_recipe_is_compared_here():
    assert set(RECIPES) == {"chollet", "hvass", "hvass-b", "yosinski", "lucid", "maco", "deepdream"}
