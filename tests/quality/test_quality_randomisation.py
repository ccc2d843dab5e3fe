import math

import numpy as np
import onnx
import pytest
from methods.nets import cam_net, head_net, net, noise, run_plainly

from onnxviz import Session, explain, load
from onnxviz.graph.shuffle import shuffled
from onnxviz.quality.randomisation import cascade, parameter_randomisation, random_logit

PICTURE = noise(1, 3, 8, 10)


def answers(models, feeds):
    return [next(iter(Session(model).run(feeds).values())) for model in models]


def steps_of(model, feeds):
    """Each step's layer, and what the models of the cascade answer, the whole one first."""
    model = load(model)
    steps = list(cascade(model))
    for _, changed in steps:
        onnx.checker.check_model(changed.proto())
    return [layer.name for layer, _ in steps], answers([model, *(one for _, one in steps)], feeds)


def numbers(rng, *shape):
    return rng.normal(0, 1, shape).astype(np.float32)


def test_the_cascade_shuffles_from_the_last_layer_to_the_first():
    model = load(head_net())
    names = ("c1", "features", "hidden")
    whole = run_plainly(head_net(), {"x": PICTURE}, names)
    steps = list(cascade(model))
    assert [layer.name for layer, _ in steps] == ["logits", "hidden", "c2", "c1"]
    for (_, changed), stays in zip(steps, (3, 2, 1, 0), strict=True):
        found = run_plainly(changed.proto(), {"x": PICTURE}, names)
        for name in names:
            assert np.array_equal(found[name], whole[name]) == (name in names[:stays]), name
        assert np.abs(found["logits"] - whole["logits"]).max() > 1e-3


def test_a_step_changes_the_weights_of_its_layer_alone():
    model, gone = load(head_net()), set()
    before = model.ir_model.graph.initializers
    own = {"logits": {"w4", "b4"}, "hidden": {"w3", "b3"}, "c2": {"w2"}, "c1": {"w1", "b1"}}
    for layer, changed in cascade(model):
        gone |= own[layer.name]
        after = changed.ir_model.graph.initializers
        assert set(before) - set(after) == gone
        for name in set(before) & set(after):
            assert after[name].const_value.tobytes() == before[name].const_value.tobytes()


def test_a_shuffled_weight_keeps_its_numbers():
    model = load(cam_net())
    [layer] = [layer for layer in model.layers if layer.name == "c2"]
    changed = shuffled(model, [layer])
    before, after = (
        [v.const_value.numpy() for v in m.ir_model.graph.initializers.values() if v.const_value.size == 270]
        for m in (model, changed)
    )
    assert any(np.array_equal(np.sort(before[0].ravel()), np.sort(one.ravel())) for one in after)
    assert not any(np.array_equal(before[0], one) for one in after)
    again, other = shuffled(model, [layer]), shuffled(model, [layer], seed=1)
    found = answers((changed, again, other, model), {"x": PICTURE})
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-4
    np.testing.assert_array_equal(found[3], run_plainly(cam_net(), {"x": PICTURE})["logits"])


def test_weights_behind_dequantisers_and_in_constants_are_shuffled_too():
    text = """
        (float[N,2,4,4] x) => (float[N,3] y) {
            w = DequantizeLinear (q, scale)
            c = Conv (x, w)
            f = Flatten (c)
            v = Constant <value = float[2,3] {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}> ()
            y = MatMul (f, v)
        }"""
    rng = np.random.default_rng(0)
    weights = {"q": rng.integers(-99, 99, (2, 2, 4, 4)).astype(np.int8), "scale": np.array(0.02, np.float32)}
    names, found = steps_of(net(text, weights), {"x": noise(1, 2, 4, 4)})
    assert names == ["y", "c"]
    assert len({answer.tobytes() for answer in found}) == 3


def test_scales_and_zero_points_stay_with_their_channels():
    """What a per-channel scale says of a channel is no weight; only the integers move."""
    text = "(float[N,4] x) => (float[N,4] y) { w = DequantizeLinear <axis=1> (q, s, z) y = MatMul (x, w) }"
    rng = np.random.default_rng(1)
    weights = {
        "q": rng.integers(-9, 9, (4, 4)).astype(np.int8),
        "s": rng.uniform(0.1, 1, 4).astype(np.float32),
        "z": np.arange(4, dtype=np.int8),
    }
    [(_, changed)] = cascade(load(net(text, weights)))
    kept = changed.ir_model.graph.initializers
    for name in ("s", "z"):
        np.testing.assert_array_equal(kept[name].const_value.numpy(), weights[name])


def test_a_weight_that_layers_share_is_shuffled_once_for_both():
    text = "(float[N,4] x) => (float[N,4] y) { a = MatMul (x, w) b = Tanh (a) y = MatMul (b, w) }"
    x, w = noise(2, 4), numbers(np.random.default_rng(2), 4, 4)
    names, (whole, last, first) = steps_of(net(text, {"w": w}), {"x": x})
    assert names == ["y", "a"]
    np.testing.assert_array_equal(last, first)
    assert np.abs(whole - last).max() > 1e-3
    _, changed = next(cascade(load(net(text, {"w": w}))))
    [mixed] = [value.const_value.numpy() for value in changed.ir_model.graph.initializers.values()]
    np.testing.assert_allclose(last, np.tanh(x @ mixed) @ mixed, rtol=1e-5)


def test_a_weight_that_is_answered_too_is_answered_as_it_was():
    text = "(float[N,4] x) => (float[N,4] y, float[4,4] w) { y = MatMul (x, w) }"
    x, w = noise(2, 4), numbers(np.random.default_rng(3), 4, 4)
    model = load(net(text, {"w": w}))
    [(_, changed)] = cascade(model)
    found = Session(changed).run({"x": x})
    np.testing.assert_array_equal(found["w"], w)
    assert np.abs(found["y"] - x @ w).max() > 1e-3


def test_the_model_and_its_weights_on_disk_are_left_alone(tmp_path):
    model = net(
        "(float[N,64] x) => (float[N,64] y) { y = MatMul (x, w) }",
        {"w": numbers(np.random.default_rng(4), 64, 64)},
    )
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    names, (whole, changed) = steps_of(tmp_path / "m.onnx", {"x": noise(2, 64)})
    assert names == ["y"]
    assert np.abs(whole - changed).max() > 1e-3
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_map_of_what_was_learned_does_not_survive_its_shuffling():
    """The gradient of a linear model is its weight; the picture itself is the same whatever was learned."""
    text = "(float[N,1,12,12] x) => (float[N,2] y) { f = Flatten (x) y = MatMul (f, w) }"
    model, x = load(net(text, {"w": numbers(np.random.default_rng(5), 144, 2)})), noise(1, 1, 12, 12)
    [found] = parameter_randomisation(model, lambda one: explain(one, x, "gradient", target=0).raw[0, 0])
    assert found.layer.name == "y"
    assert abs(found.rank_correlation) < 0.3
    assert found.ssim < 0.3
    [same] = parameter_randomisation(model, lambda _: x[0, 0])
    assert same.rank_correlation == pytest.approx(1)
    assert same.ssim == pytest.approx(1)


def test_parameter_randomisation_follows_grad_cam_down_a_net():
    model = load(head_net())
    found = parameter_randomisation(
        model, lambda one: explain(one, PICTURE, target=1, layer="features").raw[0]
    )
    assert [one.layer.name for one in found] == ["logits", "hidden", "c2", "c1"]
    assert all(one.ssim < 0.9 for one in found)
    assert all(one.rank_correlation < 0.95 for one in found)


def test_random_logit_is_one_where_the_class_does_not_matter():
    maps = np.random.default_rng(6).normal(size=(5, 9, 9))
    assert random_logit(lambda _: maps[0], 2, 5) == pytest.approx(1)
    assert random_logit(lambda index: maps[index], 2, 5) < 0.4
    asked = []
    random_logit(lambda index: asked.append(index) or maps[index], 2, 5, samples=9)
    assert asked[0] == 2
    assert sorted(asked[1:]) == [0, 1, 3, 4]
    assert math.isnan(random_logit(lambda index: maps[index], 0, 1))
