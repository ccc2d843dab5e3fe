from pathlib import Path

import numpy as np
import pytest
from graph.nets import net, noise

from onnxviz.graph.attention import attentions, head_of, projected, read_out, streams
from onnxviz.graph.model import load
from onnxviz.graph.normalise import known_sizes
from onnxviz.graph.tokens import Part

DATA = Path(__file__).parents[1] / "data" / "attention"
PATCHES = "c = Conv<strides = [2,2]>(x, wc) r = Reshape(c, flat) t = Transpose<perm = [0,2,1]>(r)"
WEIGHTS = {"wc": noise(5, 3, 2, 2), "flat": np.array([0, 5, -1]), "wm": noise(5, 7)}


def found(body, shape="N,3,8,12", out="N,24,7", opset=18, **weights):
    """The layers of a net behind 4 x 6 patches of 5 features, by tensor; `y` ends it."""
    text = f"(float[{shape}] x) => (float[{out}] y) {{ {PATCHES} {body} }}"
    model = load(net(text, opset=opset, **{**WEIGHTS, **weights}))
    return {layer.tensor: layer for layer in model.layers}


def laid(layer):
    return layer.grid, layer.channel, layer.tokens


def test_patches_in_one_axis_are_tokens_row_by_row():
    layers = found("y = MatMul(t, wm)")
    assert laid(layers["c"]) == ((2, 3), 1, None)
    assert laid(layers["r"]) == ((2,), 1, (0, 4, 6))
    assert laid(layers["t"]) == laid(layers["y"]) == ((1,), 2, (0, 4, 6))
    assert layers["y"].is_spatial
    assert layers["y"].channels == 7


def test_columns_first_is_no_grid():
    body = "u = Transpose<perm = [0,3,2,1]>(c) v = Reshape(u, turned) y = MatMul(v, wm)"
    layers = found(body, turned=np.array([0, -1, 5]))
    assert laid(layers["u"]) == ((2, 1), 3, None)
    assert laid(layers["v"]) == laid(layers["y"]) == ((), None, None)


@pytest.mark.parametrize(
    ("parts", "length", "before"),
    [("k, t", 25, 1), ("k, t, k", 26, 1), ("t, k", 25, 0), ("k, k, t", 26, 2), ("k, k, k, t, k", 28, 3)],
)
def test_tokens_in_front_and_behind_have_no_place(parts, length, before):
    body = f"z = Concat<axis = 1>({parts}) a = Add(z, p) y = MatMul(a, wm)"
    layers = found(body, "1,3,8,12", f"1,{length},7", k=noise(1, 1, 5), p=noise(1, length, 5))
    for tensor in "zay":
        assert laid(layers[tensor]) == ((1,), 2, (before, 4, 6))


CUTS = {
    "d = Slice(z, one, end, one)": (0, 4, 6),
    "d = Slice(z, back, end, one)": (0, 4, 6),
    "e, d = Split<axis = 1>(z, sizes)": (0, 4, 6),
    "d = Gather<axis = 1>(z, all)": (0, 4, 6),
    "d = Slice(z, two, end, one)": None,
    "d = Slice(z, end, bottom, one, down)": None,
    "d, e = Split<axis = 1>(z, other)": None,
    "d = Gather<axis = 1>(z, odd)": None,
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_prefix_that_is_dropped(cut):
    layers = found(
        f"z = Concat<axis = 1>(k, t) {cut} y = MatMul(d, wm)",
        "1,3,8,12",
        "1,M,7",
        k=noise(1, 1, 5),
        one=np.array([1]),
        two=np.array([2]),
        back=np.array([-24]),
        end=np.array([2**62]),
        bottom=np.array([-(2**62)]),
        down=np.array([-1]),
        sizes=np.array([1, 24]),
        other=np.array([20, 5]),
        all=np.arange(1, 25),
        odd=np.arange(0, 25, 2),
    )
    assert layers["y"].tokens == CUTS[cut]
    assert layers["y"].grid == (() if CUTS[cut] is None else (1,))


def test_heads_are_split_off_and_maps_of_attention_are_between_tokens():
    body = """
        h = Reshape(t, heads) q = Transpose<perm = [0,2,1,3]>(h) k = Transpose<perm = [0,2,3,1]>(h)
        s = MatMul(q, k) a = Softmax(s) o = MatMul(a, q) u = Transpose<perm = [0,2,1,3]>(o)
        v = Reshape(u, back) y = MatMul(v, wm)
    """
    layers = found(body, heads=np.array([0, 24, 5, 1]), back=np.array([0, 24, -1]))
    assert laid(layers["h"]) == ((1,), None, (0, 4, 6))
    assert laid(layers["q"]) == ((2,), None, (0, 4, 6))
    assert laid(layers["s"]) == laid(layers["a"]) == ((), None, None)
    assert laid(layers["v"]) == laid(layers["y"]) == ((1,), 2, (0, 4, 6))


def test_pictures_and_heads_in_one_axis_are_no_pictures():
    body = (
        "h = Reshape(t, heads) q = Transpose<perm = [2,0,1,3]>(h) m = Reshape(q, merged) y = MatMul(m, one)"
    )
    layers = found(
        body, out="M,24,2", heads=np.array([0, 24, 5, 1]), merged=np.array([-1, 24, 1]), one=noise(1, 2)
    )
    assert laid(layers["m"]) == laid(layers["y"]) == ((), None, None)


WINDOWS = """
    i = Transpose<perm = [0,2,3,1]>(c) w6 = Reshape(i, cut) p = Transpose<perm = [0,1,3,2,4,5]>(w6)
    w = Reshape(p, windows) m = MatMul(w, wm) b = Reshape(m, apart) q = Transpose<perm = [0,1,3,2,4,5]>(b)
    g = Reshape(q, whole)
"""
WINDOWED = {
    "cut": np.array([-1, 2, 2, 3, 2, 5]),
    "windows": np.array([-1, 4, 5]),
    "apart": np.array([-1, 2, 3, 2, 2, 7]),
    "whole": np.array([-1, 4, 6, 7]),
}


def test_windows_and_back():
    layers = found(f"{WINDOWS} y = Relu(g)", out="N,4,6,7", **WINDOWED)
    for tensor in ("w6", "p", "w", "m", "b", "q"):
        assert laid(layers[tensor]) == ((), None, None)
    assert laid(layers["i"]) == laid(layers["g"]) == laid(layers["y"]) == ((1, 2), 3, None)
    flat = found(f"{WINDOWS} y = Reshape(g, row)", out="N,24,7", **WINDOWED, row=np.array([-1, 24, 7]))
    assert laid(flat["y"]) == ((1,), 2, (0, 4, 6))


def test_windows_put_together_in_another_order_are_no_grid():
    turned = WINDOWS.replace("q = Transpose<perm = [0,1,3,2,4,5]>", "q = Transpose<perm = [0,3,1,2,4,5]>")
    layers = found(f"{turned} y = Relu(g)", out="N,4,6,7", **WINDOWED)
    assert laid(layers["g"]) == laid(layers["y"]) == ((), None, None)


def test_a_roll_keeps_the_grid_and_merging_halves_it():
    body = f"""{WINDOWS}
        a = Slice(g, one, end, axis) z = Slice(g, zero, one, axis) l = Concat<axis = 1>(a, z)
        n = Reshape(l, halves) v = Transpose<perm = [0,1,3,4,2,5]>(n) u = Reshape(v, merged) y = MatMul(u, w2)
    """
    layers = found(
        body,
        out="N,2,3,4",
        **WINDOWED,
        zero=np.array([0]),
        one=np.array([1]),
        end=np.array([2**62]),
        axis=np.array([1]),
        halves=np.array([-1, 2, 2, 3, 2, 7]),
        merged=np.array([-1, 2, 3, 28]),
        w2=noise(28, 4),
    )
    assert laid(layers["l"]) == ((1, 2), 3, None)
    assert laid(layers["n"]) == laid(layers["v"]) == ((), None, None)
    assert laid(layers["u"]) == laid(layers["y"]) == ((1, 2), 3, None)


def test_sizes_that_the_graph_computes():
    body = """
        s = Shape(x) n = Gather(s, first) b = Unsqueeze(n, first) e = Concat<axis = 0>(b, rest)
        k = Expand(cls, e) z = Concat<axis = 1>(k, t) y = MatMul(z, wm)
    """
    given = {"first": np.array(0), "rest": np.array([1, 5]), "cls": noise(1, 1, 5)}
    assert laid(found(body, out="N,M,7", **given)["y"]) == ((1,), 2, (1, 4, 6))
    for shape in ("N,3,H,12", "N,3,H,W"):
        assert laid(found(body, shape, "N,M,7", **given)["y"]) == ((), None, None)


def test_sizes_that_follow_from_sizes_that_follow():
    """Each Reshape takes its shape from the one before: one walk knows them all."""
    steps = " ".join(
        f"s{i} = Shape(a{i}) m{i} = Mod(s{i}, large) f{i} = Gather(m{i}, turn) a{i + 1} = Reshape(a{i}, f{i})"
        for i in range(40)
    )
    text = f"(float[N,2,6] x) => (float[N,P,Q] y) {{ a0 = Relu(x) {steps} y = Relu(a40) }}"
    model = load(net(text, turn=np.array([0, 2, 1]), large=np.array(99)))
    sizes = known_sizes(model.ir_model, {"x": (1, 2, 6)})
    assert sizes["a39"] == (1, 6, 2)
    assert sizes["y"] == (1, 2, 6)


def test_patches_that_no_convolution_cuts():
    text = """(float[N,3,8,12] x) => (float[N,24,7] y) {
        r = Reshape(x, cut) p = Transpose<perm = [0,2,4,3,5,1]>(r) t = Reshape(p, flat) y = MatMul(t, w)
    }"""
    given = {"cut": np.array([-1, 3, 4, 2, 6, 2]), "flat": np.array([-1, 24, 12]), "w": noise(12, 7)}
    layers = {layer.tensor: layer for layer in load(net(text, **given)).layers}
    assert laid(layers["t"]) == laid(layers["y"]) == ((1,), 2, (0, 4, 6))


def test_einsum_moves_its_letters():
    layers = found("""y = Einsum<equation = "btc,cd->btd">(t, wm)""")
    assert laid(layers["y"]) == ((1,), 2, (0, 4, 6))
    layers = found("""u = Einsum<equation = "btc,cd->bdt">(t, wm) y = Transpose<perm = [0,2,1]>(u)""")
    assert laid(layers["u"]) == ((2,), 1, (0, 4, 6))


def test_networks_without_sequences_are_not_traced():
    text = "(float[N,3,8,8] x) => (float[N,4] y) { c = Conv(x, w) f = Flatten(c) y = Gemm(f, v) }"
    model = load(net(text, w=noise(2, 3, 1, 1), v=noise(128, 4)))
    assert model.places.axes == {}


def test_a_batch_that_is_fixed():
    layers = found("y = MatMul(t, wm)", "2,3,8,12", "2,24,7")
    assert laid(layers["y"]) == ((1,), 2, (0, 4, 6))


def test_parts_are_split_from_the_slowest():
    assert Part(12, "rows", 2).split(3) == (Part(3, "rows", 8), Part(4, "rows", 2))


# --- exported transformers -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported():
    return {name: load(DATA / f"{name}.onnx") for name in ("vit_class", "vit_mean", "swin")}


@pytest.mark.parametrize(
    ("name", "norms", "tokens"), [("vit_class", 7, (3, 3, 5)), ("vit_mean", 6, (0, 3, 5))]
)
def test_the_norms_of_exported_vits(exported, name, norms, tokens):
    layers = [layer for layer in exported[name].layers if layer.op == "LayerNormalization"]
    on_tokens = [layer for layer in layers if layer.tokens is not None]
    assert len(on_tokens) == norms
    assert {laid(layer) for layer in on_tokens} == {((1,), 2, tokens)}
    assert {layer.channels for layer in on_tokens} == {8}


def test_the_norms_of_an_exported_swin(exported):
    """Every norm is outside the windows: on 8 x 12 patches, and behind the merging on 4 x 6."""
    layers = [layer for layer in exported["swin"].layers if layer.op == "LayerNormalization"]
    assert {laid(layer) for layer in layers} <= {
        ((1, 2), 3, None),
        ((1,), 2, (0, 8, 12)),
        ((1,), 2, (0, 4, 6)),
    }
    sizes = [layer.tokens[1:] if layer.tokens else layer.shape[1:3] for layer in layers]
    assert sizes == [(8, 12)] * 5 + [(4, 6)] * 6


HEADS = {
    "vit_class": ["LayerNormalization", "Gather", "Gemm"],
    "vit_mean": ["ReduceMean", "LayerNormalization", "Gemm"],
}


def test_attention_and_what_lies_around_it(exported):
    for name, tokens, read in (("vit_class", (3, 3, 5), [0]), ("vit_mean", (0, 3, 5), None)):
        model = exported[name]
        scores = model.outputs[0].name
        maps = attentions(model, scores)
        assert [attention.tokens for attention in maps] == [tokens] * 3
        assert read_out(model, scores) == read
        left = streams(model, maps, scores)
        assert [value.producer().op_type for value in left] == ["Add"] * 3
        given = [projected(model, model.tensor(attention.tensor)) for attention in maps]
        assert [value.producer().op_type for value in given] == ["LayerNormalization"] * 3
        assert [value.producer().inputs[0] for value in given[1:]] == left[:2]
        head = [node.op_type for node in head_of(model, left[-1], scores)]
        assert head == HEADS[name]
