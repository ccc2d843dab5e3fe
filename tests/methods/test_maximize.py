"""maximize: objectives and their arithmetic, runs that stop and go on, pictures that never wake."""

import numpy as np
import pytest
from methods.nets import net

import onnxviz
from onnxviz.errors import SelectorError, ShapeError, TargetError, UnsupportedOperator
from onnxviz.methods.ascent.numeric import Sampler
from onnxviz.methods.ascent.objective import Direction, Keep, described, settled
from onnxviz.methods.ascent.parse import parse_objective
from onnxviz.methods.ascent.recipe import RECIPES, Recipe, find_recipe
from onnxviz.methods.ascent.run import Run
from onnxviz.methods.ascent.transforms import (
    crop_resize,
    parse_transforms,
    resize_centred,
    resize_legacy,
    rotation,
    stages,
)
from onnxviz.methods.maximize import maximize
from onnxviz.samples import sample_model

TEXT = """
    (float[{batch},3,{size}] x) => (float[{batch},4] logits) {{
        c = Conv <pads = [1,1,1,1]> (x, w1, b1)
        r = Relu (c)
        pooled = GlobalAveragePool (r)
        flat = Flatten (pooled)
        logits = Gemm <transB = 1> (flat, w2)
    }}
"""
PLAIN = Recipe(low=100.0, high=150.0, steps=4, rate=20.0, normalise="rms", epsilon=1e-12)
OPTIONS = {"preprocess": "unit", "device": "cpu", "recipe": PLAIN}


def weights(seed=0, bias=0.1):
    rng = np.random.default_rng(seed)
    return {
        "w1": rng.normal(0, 0.6, (5, 3, 3, 3)).astype(np.float32),
        "b1": np.full(5, bias, np.float32),
        "w2": rng.normal(0, 1, (4, 5)).astype(np.float32),
    }


def small_net(batch="N", size="8,9", **given):
    return net(TEXT.format(batch=batch, size=size), weights(**given))


def maps_of(pictures, seed=0, bias=0.1):
    """The layer `r` [n, 5, h, w] for pictures [n, H, W, 3] of 0 to 255, in plain loops."""
    w = weights(seed, bias)
    x = np.pad(pictures.transpose(0, 3, 1, 2).astype(np.float64) / 255, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = pictures.shape[1:3]
    maps = np.zeros((len(pictures), 5, height, width))
    for i in range(3):
        for j in range(3):
            maps += np.einsum("oc,nchw->nohw", w["w1"][:, :, i, j], x[:, :, i : i + height, j : j + width])
    return np.maximum(maps + w["b1"].reshape(1, 5, 1, 1), 0)


def value_of(expression, copies=1, steps=1, **given):
    """An expression's value at the start, and the start itself."""
    recipe = given.pop("recipe", PLAIN)
    made = maximize(
        given.pop("model", small_net()),
        objective=expression,
        copies=copies,
        **OPTIONS | {"recipe": recipe},
        steps=steps,
        **given,
    )
    still = maximize(
        small_net(), objective=expression, copies=copies, **OPTIONS | {"recipe": recipe}, steps=1, rate=0.0
    )
    return made.losses[:, 0], still.pictures


def test_a_channel_is_the_mean_of_its_map_and_a_neuron_its_middle():
    (value,), start = value_of("channel(r, 2)")
    assert value == pytest.approx(maps_of(start)[0, 2].mean(), rel=1e-5)
    (value,), start = value_of("neuron(r, 2)")
    assert value == pytest.approx(maps_of(start)[0, 2, 4, 4], rel=1e-5)  # 8 x 9: the lower of the two middles
    (value,), start = value_of("neuron(r, 1, 0, 8)")
    assert value == pytest.approx(maps_of(start)[0, 1, 0, 8], rel=1e-5, abs=1e-7)


def test_a_layer_is_the_mean_of_its_squares():
    (value,), start = value_of("layer(r)")
    assert value == pytest.approx((maps_of(start) ** 2).mean(), rel=1e-5)


def test_a_direction_with_a_power_of_the_cosine(tmp_path):
    vector = np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    np.save(tmp_path / "v.npy", vector)
    maps = None
    for power in (0, 2):
        (value,), start = value_of(f"direction(r, {str(tmp_path / 'v.npy')!r}, {power})")
        maps = maps_of(start)[0]
        dot = np.einsum("chw,c->hw", maps, vector)
        cosine = dot / (1e-4 + np.sqrt((maps**2).sum(axis=0))) / (1e-4 + np.linalg.norm(vector))
        assert value == pytest.approx((dot * np.maximum(0.1, cosine) ** power).mean(), rel=1e-5)


def test_a_target_is_a_class_before_the_softmax():
    (value,), start = value_of("target(3)")
    expected = maps_of(start)[0].mean(axis=(1, 2)) @ weights()["w2"][3]
    assert value == pytest.approx(expected, rel=1e-5)


def test_arithmetic():
    (value,), start = value_of("2 * channel(r, 1) - channel(r, 0) * channel(r, 2) / 4 + 3")
    means = maps_of(start)[0].mean(axis=(1, 2))
    assert value == pytest.approx(2 * means[1] - means[0] * means[2] / 4 + 3, rel=1e-5)
    (value,), _ = value_of("-channel(r, 1)")
    assert value == pytest.approx(-means[1], rel=1e-5)


def test_diversity_and_alignment_compare_the_copies():
    values, start = value_of("diversity(r)", copies=3)
    maps = maps_of(start).reshape(3, 5, -1)
    grams = maps @ maps.transpose(0, 2, 1)
    grams /= np.linalg.norm(grams, axis=(1, 2), keepdims=True)
    table = np.einsum("iab,jab->ij", grams, grams)
    assert values == pytest.approx(-(table.sum(axis=1) - np.diag(table)), rel=1e-4)
    values, start = value_of("alignment(r)", copies=3)
    maps = maps_of(start)
    far = {(i, j): ((maps[i] - maps[j]) ** 2).mean() for i in range(3) for j in range(i)}
    expected = [-far[1, 0] / 2 - far[2, 0] / 4, -far[2, 1] / 2, 0]
    assert values == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_an_interpolation_goes_from_the_one_channel_to_the_other():
    values, start = value_of("interpolate(r, 0, 3)", copies=3)
    means = maps_of(start).mean(axis=(2, 3))
    expected = [means[0, 0], (means[1, 0] + means[1, 3]) / 2, means[2, 3]]
    assert values == pytest.approx(expected, rel=1e-5)


def test_what_is_kept_costs_its_squared_change():
    made = maximize(small_net(), objective="keep(channel(r, 1))", **OPTIONS, steps=2)
    assert made.losses[0].tolist() == [0.0, 0.0]  # nothing pushes it
    model = small_net(bias=1.0)
    free = maximize(model, objective="channel(r, 0)", **OPTIONS, steps=40, rate=2.0)
    held = maximize(
        model, objective="channel(r, 0) + 50 * keep(channel(r, 1))", **OPTIONS, steps=40, rate=2.0
    )
    wanted, kept = (
        [abs(means(made.after)[0, k] - means(made.before)[0, k]) for made in (free, held)] for k in (0, 1)
    )
    assert kept[1] < 0.2 * kept[0]
    assert wanted[1] > 0.2 * wanted[0]


def means(watched):
    """The channels' means of the one layer that was watched."""
    (found,) = watched.values()
    return found


@pytest.mark.parametrize(
    "expression",
    [
        "channel(r, 2)",
        "-channel(r, 2)",
        "neuron(r, 1)",
        "layer(r)",
        "target(1)",
        "target(1) - target(2)",
        "channel(r, 1) + channel(r, 3)",
        "channel(r, 1) * channel(r, 3)",
        "interpolate(r, 0, 3)",
        "channel(r, 2) + 0.1 * diversity(r)",
        "channel(r, 2) + alignment(r)",
        "channel(r, 0) + 0.1 * keep(channel(r, 1))",
    ],
)
@pytest.mark.parametrize("recipe", ["hvass", "lucid"])
def test_every_objective_rises(expression, recipe):
    size = "24,24" if recipe == "lucid" else "8,9"
    settings = {"transforms": ("jitter:2",)} if recipe == "lucid" else {}
    made = maximize(
        small_net(size=size),
        objective=expression,
        recipe=recipe,
        copies=2,
        steps=12,
        preprocess="unit",
        device="cpu",
        **settings,
    )
    assert (made.losses[:, -3:].mean(axis=1).sum()) > made.losses[:, 0].sum()
    assert made.woke.all()


def test_one_graph_serves_all_channels_and_a_batch_changes_nothing():
    alone = maximize(small_net(), "r", "all", **OPTIONS, batch=1)
    together = maximize(small_net(), "r", "all", **OPTIONS, batch=3)
    assert alone.channels == (0, 1, 2, 3, 4)
    assert np.abs(alone.pictures - together.pictures).max() < 1e-2
    fixed = maximize(small_net(batch=1), "r", "1,3", **OPTIONS)
    assert np.abs(fixed.pictures - alone.pictures[[1, 3]]).max() < 1e-2


def test_copies_begin_elsewhere_and_a_seed_repeats():
    made = maximize(small_net(), "r", [2], **OPTIONS, copies=2)
    again = maximize(small_net(), "r", [2], **OPTIONS, copies=2)
    assert (made.pictures == again.pictures).all()
    assert np.abs(made.pictures[0] - made.pictures[1]).max() > 1
    stability = made.manifest["stability"]["r 2"]
    rows = made.pictures.reshape(2, -1)
    assert stability["pixels"] == pytest.approx(np.corrcoef(rows)[0, 1], rel=1e-4)


def test_what_else_rises():
    made = maximize(small_net(), "r", [2], **OPTIONS)
    still = maximize(small_net(), "r", [2], **OPTIONS | {"recipe": PLAIN}, rate=0.0)
    (name,) = made.before
    assert made.before[name][0] == pytest.approx(maps_of(still.pictures)[0].mean(axis=(1, 2)), rel=1e-4)
    assert made.after[name][0] == pytest.approx(maps_of(made.pictures)[0].mean(axis=(1, 2)), rel=1e-4)
    rise = made.after[name][0] - made.before[name][0]
    risen = made.manifest["risen"][0]
    assert [entry["channel"] for entry in risen["most"]] == np.argsort(-rise).tolist()
    assert risen["own"] == pytest.approx(rise[2])
    assert risen["rank"] == 1 + int((rise > rise[2]).sum())


def test_a_channel_that_never_wakes_is_said_to_sleep():
    made = maximize(small_net(bias=-100.0), "r", "0,1", **OPTIONS)
    assert not made.woke.any()
    assert "never woke" in made.warnings[-1]


def test_redirected_relus_wake_a_dead_start():
    model = small_net(bias=-1.5)
    recipe = Recipe(low=100.0, high=150.0, steps=20, rate=20.0, normalise="rms", epsilon=1e-12)
    asleep = maximize(model, "r", "all", **OPTIONS | {"recipe": recipe})
    woken = maximize(model, "r", "all", **OPTIONS | {"recipe": recipe}, redirect=16)
    assert asleep.woke.sum() < woken.woke.sum()


def test_classes_by_name_and_the_report():
    labels = '["cat", "dog, hound", "fox", "owl"]'
    model = net(TEXT.format(batch="N", size="8,9"), weights(), metadata={"onnxviz.labels": labels})
    made = maximize(model, target=["hound", 3], **OPTIONS, report=True)
    assert made.names == ("dog", "owl")
    assert made.channels == (1, 3)
    steps = made.reports[1]
    assert [step["iteration"] for step in steps] == [0, 1, 2, 3]
    assert [step["loss"] for step in steps] == pytest.approx(made.losses[1].tolist())
    start = maximize(model, target=[3], **OPTIONS, rate=0.0, steps=1).pictures
    logits = weights()["w2"] @ maps_of(start)[0].mean(axis=(1, 2))
    chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert steps[0]["class"] == int(chances.argmax())
    assert steps[0]["score"] == pytest.approx(chances.max(), rel=1e-4)
    assert steps[0]["gradient_min"] < 0 < steps[0]["gradient_max"]
    size = np.abs(made.pictures).max()
    assert 0 < steps[0]["step_size"] * steps[0]["gradient_max"] < size
    assert made.manifest["top5"][1][0]["probability"] == pytest.approx(
        float(
            np.exp(made.scores_after[1] - made.scores_after[1].max()).max()
            / np.exp(made.scores_after[1] - made.scores_after[1].max()).sum()
        ),
        rel=1e-4,
    )
    with pytest.raises(TargetError, match="owl"):
        maximize(model, target="owls", **OPTIONS)


@pytest.mark.parametrize("recipe", ["hvass", "lucid", "deepdream"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(recipe, monkeypatch):
    asked = {
        "layer": "r",
        "channels": "0-2",
        "recipe": recipe,
        "steps": 3,
        "batch": 2,
        "preprocess": "unit",
        "device": "cpu",
        "report": True,
    }
    model = small_net(size="H,W")
    asked["picture"] = (24, 24)
    whole = maximize(model, **asked)
    stop_after(monkeypatch, 4)
    stopped = maximize(model, **asked, partial=True)
    assert not stopped.finished
    assert np.isnan(stopped.losses).any()
    assert "stopped after 4" in stopped.warnings[-1]
    monkeypatch.undo()
    resumed = maximize(model, **asked, resume=stopped.rest)
    assert resumed.finished
    assert resumed.rest == {}
    assert np.array_equal(resumed.pictures, whole.pictures)
    assert np.array_equal(resumed.losses, whole.losses)
    with pytest.raises(SelectorError, match="another model or settings"):
        maximize(model, **asked | {"steps": 4}, resume=stopped.rest)
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        maximize(model, **asked)


def stop_after(monkeypatch, count):
    """Let a run be interrupted as by Ctrl-C after so many steps."""
    steps = Run._steps

    def stopping(self):
        for number, _ in enumerate(steps(self)):
            yield
            if number + 1 == count:
                raise KeyboardInterrupt

    monkeypatch.setattr(Run, "_steps", stopping)


def test_the_numeric_route_says_what_it_costs_and_climbs():
    made = maximize(
        small_net(), "r", [2], **OPTIONS, steps=10, gradient="numeric", sampler=Sampler("nes", 24, 2.0)
    )
    assert made.losses[0, -1] > made.losses[0, 0]
    assert made.manifest["queries"] == 49
    assert "49 runs" in made.warnings[-1]


@pytest.mark.parametrize("kind", ["spsa", "nes"])
def test_a_sampled_gradient_is_right_on_average(kind):
    rng = np.random.default_rng(0)
    vector = rng.normal(size=(3, 4)).astype(np.float32)
    sampler = Sampler(kind, 4000, 0.5)
    found = sampler.slope(lambda copies: np.tensordot(copies, vector, 2).astype(np.float64), 0 * vector, rng)
    # Each entry's error has a standard deviation of at most |vector| sqrt(2 / pairs).
    assert np.abs(found - vector).max() < 4 * np.linalg.norm(vector) * np.sqrt(2 / 4000)


def test_a_model_without_a_rule_is_asked_for_values():
    text = """
        (float[N,3,6,6] x) => (float[N,4] logits) {
            b = Round (x)
            pooled = GlobalAveragePool (b)
            flat = Flatten (pooled)
            logits = Gemm <transB = 1> (flat, w)
        }
    """
    w = np.abs(np.random.default_rng(0).normal(size=(4, 3))).astype(np.float32)
    made = maximize(net(text, {"w": w}), target=1, **OPTIONS | {"preprocess": "raw"}, steps=8)
    assert made.manifest["gradient"] == "numeric"
    assert made.losses[0, -1] > made.losses[0, 0]
    with pytest.raises((UnsupportedOperator, onnxviz.errors.DisconnectedError)):
        maximize(net(text, {"w": w}), target=1, **OPTIONS, gradient="graph")


def test_octaves_and_a_photograph():
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    made = maximize(
        small_net(size="H,W"), "r", recipe="deepdream", start=photo, steps=2, preprocess="unit", device="cpu"
    )
    assert made.images.shape == (1, 30, 40, 3)
    assert made.losses.shape == (1, 8)
    assert 0 < np.abs(made.pictures[0] - photo).mean() < 60


def test_a_fourier_start_from_a_photograph_is_the_photograph():
    photo = np.random.default_rng(0).integers(20, 230, (24, 25, 3), np.uint8)
    made = maximize(
        small_net(size="H,W"),
        "r",
        [0],
        recipe="lucid",
        start=photo,
        steps=1,
        rate=0.0,
        noise=0.0,
        preprocess="unit",
        device="cpu",
    )
    assert np.abs(made.pictures[0] - photo).max() < 0.01


def test_maco_keeps_the_magnitude_that_it_is_given():
    photo = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    made = maximize(
        small_net(),
        "r",
        [0],
        recipe="maco",
        magnitude=photo,
        crops=2,
        steps=2,
        picture=(16, 16),
        preprocess="unit",
        device="cpu",
        decorrelate=False,
    )
    plain = made.pictures[0].transpose(2, 0, 1) / 255
    before = np.log(plain / (1 - plain))
    from onnxviz.methods.ascent.images import measured_magnitude

    magnitude = measured_magnitude([photo.transpose(2, 0, 1).astype(float)], 3, (16, 16))
    found = np.abs(np.fft.rfft2(before))
    # Less the mean of all, and over one standard deviation: the shape of the spectrum stays.
    found[:, 0, 0] = magnitude[:, 0, 0] = 0
    inner = np.s_[:, 1:8, 1:8]  # elsewhere a real picture cannot have every phase
    ratio = found[inner] / magnitude[inner]
    assert ratio.std() < 1e-3 * ratio.mean()


def test_a_fixed_batch_and_crops():
    with pytest.raises(SelectorError, match="--crops 1"):
        maximize(small_net(batch=1), "r", [0], recipe="maco", preprocess="unit", device="cpu")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layer": "r", "channels": "9"}, "no channel 9"),
        ({"layer": "rr"}, "did you mean"),
        ({"objective": "channel(r, 9)"}, "channels 0 to 4"),
        ({"objective": "neuron(r, 1, 90, 0)"}, "no place 90,0"),
        ({"objective": "canal(r, 1)"}, "did you mean 'channel'"),
        ({"objective": "channel(r)"}, "other arguments"),
        ({"objective": "channel(r, 'x')"}, "other arguments"),
        ({"objective": "__import__('os')"}, "no objective '__import__'"),
        ({"objective": "channel(r, 1).denominator"}, "cannot read|neither|is no objective"),
        ({"objective": "[1, 2]"}, "cannot read"),
        ({"objective": "channel(r, 1) +"}, "cannot read the objective"),
        ({"objective": "3 * 2"}, "is no objective"),
        ({"objective": "1 / channel(r, 1)"}, "other than 0"),
        ({"objective": "channel(r, 1) / 0"}, "other than 0"),
        ({"objective": "direction(r, 'gone.npy')"}, "cannot read 'gone.npy'"),
        ({"channels": "strongest:3", "layer": "r"}, "cannot read channels"),
        ({"layer": "r", "copies": 0}, "copies is at least 1"),
        ({"layer": "r", "transforms": ("shear:3",)}, "no transform 'shear:3'"),
        ({"layer": "r", "transforms": ("jitter:30",)}, "leaves nothing"),
        ({"layer": "r", "recipe": "lucidd"}, "did you mean 'lucid'"),
        ({"layer": "r", "recipe": "lucid", "blur": 1.0}, "give --image pixels"),
        ({"layer": "r", "recipe": "lucid", "octaves": 2}, "octaves begin from pixels"),
        ({"layer": "r", "recipe": "hvass", "stepps": 3}, "did you mean 'steps'"),
        ({"objective": "diversity(r)", "copies": 2, "gradient": "numeric"}, "leave --gradient numeric out"),
    ],
)
def test_wrong_wishes_are_refused(asked, message):
    with pytest.raises(SelectorError, match=message):
        maximize(small_net(), **{**OPTIONS, "recipe": "hvass", **asked})


def test_objectives_of_python_are_the_texts():
    text = "channel(r, 1) + -1 * neuron(r, 2)"
    assert parse_objective(text) == parse_objective(described(parse_objective(text)))
    share = settled(parse_objective("interpolate(r, 0, 3)"), 0.25)
    assert share == Direction("r", ((0, 0.75), (3, 0.25)))
    assert isinstance(settled(parse_objective("keep(channel(r, 1))"), 0.0), Keep)


def test_recipes_refuse_what_is_not_theirs():
    with pytest.raises(SelectorError, match="steps is at least 1"):
        find_recipe("hvass", steps=0)
    with pytest.raises(SelectorError, match="one of pixels"):
        find_recipe("hvass", image="wavelet")
    assert find_recipe("hvass", steps=None) == RECIPES["hvass"]


def test_a_stage_is_the_product_of_its_transforms():
    picture = np.random.default_rng(0).random((9, 8)) * 255
    (stage,) = stages(parse_transforms(("pad:2", "blur:1")))
    feeds, size = stage.draw(np.random.default_rng(0), (9, 8))
    assert size == (13, 12)
    from scipy.ndimage import gaussian_filter

    expected = gaussian_filter(np.pad(picture, 2, constant_values=127.5), 1)
    found = feeds["down_0"] @ (picture - 127.5) @ feeds["across_0"] + 127.5
    assert np.abs(found - expected).max() < 1e-3


def test_resizes_read_where_they_should():
    assert resize_legacy(4, 2).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    assert resize_centred(2, 4)[1].tolist() == [0.75, 0.25]
    assert crop_resize(5, 3, 0.0, 1.0).tolist() == [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]]
    assert crop_resize(5, 3, -0.5, 0.5)[0].tolist() == [0] * 5
    read, inside = rotation((3, 3), np.pi / 2)
    assert read.reshape(3, 3).tolist() == np.rot90(np.arange(9).reshape(3, 3), 1).tolist()
    assert inside.all()


def test_a_layer_without_places_has_features():
    made = maximize(small_net(), "logits", "1", **OPTIONS)
    start = maximize(small_net(), "logits", "1", **OPTIONS, rate=0.0, steps=1)
    expected = weights()["w2"][1] @ maps_of(start.pictures)[0].mean(axis=(1, 2))
    assert made.losses[0, 0] == pytest.approx(expected, rel=1e-5)


def test_several_layers_are_several_graphs():
    made = maximize(small_net(), ["r", "logits"], "2,3", **OPTIONS)
    assert made.channels == (2, 3, 2, 3)
    assert len(made.names) == 4
    assert made.woke.all()


def test_a_model_of_more_channels_than_colours():
    text = TEXT.replace("{batch},3", "{batch},7").format(batch="N", size="8,9")
    w = weights() | {"w1": np.random.default_rng(1).normal(0, 0.5, (5, 7, 3, 3)).astype(np.float32)}
    made = maximize(net(text, w), "r", [1], **OPTIONS)
    assert made.images.shape == (1, 8, 9, 7)
    assert made.losses[0, -1] > made.losses[0, 0]


def test_another_input_is_the_same_for_all_pictures():
    text = """
        (float[N,3,8,9] x, float[N,1,1,1] strength) => (float[N,5,8,9] y) {
            c = Conv <pads = [1,1,1,1]> (x, w1, b1)
            r = Relu (c)
            y = Mul (r, strength)
        }
    """
    model = net(text, {name: array for name, array in weights().items() if name != "w2"})
    given = {"strength": np.full((1, 1, 1, 1), 3, np.float32)}
    made = maximize(model, "y", "0-3", **OPTIONS, inputs=given, batch=3)
    plain = maximize(small_net(), "r", "0-3", **OPTIONS)
    assert made.losses == pytest.approx(3 * plain.losses, rel=1e-3)


def test_a_kit_fox_to_squeezenet():
    """Tutorial 13's picture of one class: 100 steps from grey."""
    made = maximize(sample_model(), target="kit fox", recipe="hvass", steps=100, device="cpu")
    best = made.manifest["top5"][0][0]
    assert (best["index"], best["label"]) == (278, "kit fox")
    assert best["probability"] > 0.99
    assert made.losses[0, -1] > 100 * made.losses[0, 0] > 0


def test_no_input_that_takes_pictures():
    with pytest.raises(ShapeError):
        maximize(net("(float[N,5] x) => (float[N,5] y) { y = Relu (x) }", {}), "y", [0], **OPTIONS)
