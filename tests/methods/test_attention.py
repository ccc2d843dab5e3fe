from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from methods.nets import cam_net, correlation, net, noise
from onnx import helper, numpy_helper
from onnxruntime import quantization

import onnxviz
from onnxviz import explain, explainer
from onnxviz.autodiff.spelled import spell_out
from onnxviz.errors import ShapeError, UnsupportedOperator
from onnxviz.graph.attention import attentions, is_fused, streams, token_layer
from onnxviz.graph.model import load
from onnxviz.graph.selectors import select_one
from onnxviz.methods.attribution.layers import default_layers, stages
from onnxviz.methods.scores import find_scores

DATA = Path(__file__).parents[1] / "data" / "attention"
VITS = ("vit_class", "vit_mean")
CLASSES = range(4)


def close(found, expected, rtol=1e-4):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def exported(name):
    return load(DATA / f"{name}.onnx"), np.load(DATA / f"{name}.npz")


# --- against PyTorch -------------------------------------------------------------------------------------


def for_each_class(model, x, method):
    """The explanation of all pictures for each class, and its maps [classes, N, h, w]."""
    targets = [target for target in CLASSES for _ in x]
    found = explain(model, np.concatenate([x for _ in CLASSES]), method, targets)
    return found, found.raw.reshape(len(CLASSES), len(x), *found.raw.shape[1:])


@pytest.mark.parametrize("name", VITS)
def test_legrad_is_pytorchs(name):
    model, torch = exported(name)
    found, maps = for_each_class(model, torch["x"], "legrad")
    close(maps, torch["legrad"])
    assert maps.shape == (4, 2, 3, 5)
    assert found.heatmap.shape == (8, 12, 20)
    assert found.manifest["rules"] == "gradient"
    assert not [one for one in found.manifest["warnings"] if "legrad" in one]


@pytest.mark.parametrize("name", VITS)
@pytest.mark.parametrize(("method", "key"), [("attention-rollout", "rollout"), ("attention", "attention")])
def test_what_attention_alone_says_is_pytorchs(name, method, key):
    model, torch = exported(name)
    found = explain(model, torch["x"], method)
    close(found.raw, torch[key])
    assert found.manifest["gradient"] == ["none"]
    assert any("knows no target" in one for one in found.manifest["warnings"])
    close(explain(model, torch["x"], method, 3).raw, torch[key])


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("vit_class", "node_layer_norm_4"),
        ("vit_mean", "/blocks/blocks.2/Add_1"),
        ("swin", "node_layer_norm_10"),
    ],
)
def test_grad_cam_of_tokens_is_pytorchs_at_the_layer_chosen(name, layer):
    model, torch = exported(name)
    found, maps = for_each_class(model, torch["x"], "grad-cam")
    assert found.layer == layer
    close(maps, torch["grad_cam"])
    close(found.score, torch["scores"].T.ravel())


def test_a_picture_alone_has_the_same_maps():
    model, torch = exported("vit_class")
    for method in ("legrad", "attention-rollout"):
        together = explain(model, torch["x"], method, 1).raw
        close(explain(model, torch["x"][1:], method, 1).raw[0], together[1], 1e-5)
        close(explain(model, torch["x"], method, 1, batch=1).raw, together, 1e-5)


def test_behind_the_last_attention_of_a_class_token_no_patch_has_a_gradient():
    """Which is why the layer chosen is in front of it."""
    model, torch = exported("vit_class")
    last = [layer for layer in model.layers if layer.op == "LayerNormalization"][-1]
    assert not explain(model, torch["x"], "grad-cam", 0, last.name).raw.any()
    scores = find_scores(model)
    assert [layer.name for layer in default_layers(model, scores)] == ["node_layer_norm_4"]
    assert stages(model, scores)[-1].name == "node_layer_norm_4"
    assert token_layer(model, [], scores.tensor) is None


def test_models_without_a_class_token_have_no_layer_of_their_own():
    for model in (exported("vit_mean")[0], exported("swin")[0], load(cam_net())):
        assert token_layer(model, model.layers, find_scores(model).tensor) is None


# --- a transformer written down --------------------------------------------------------------------------

HEADS, SIZE, TOKENS = 2, 4, 7
FEATURES = HEADS * SIZE
SPLIT = """
    q{b} = MatMul(z{a}, wq{b}) k{b} = MatMul(z{a}, wk{b}) v{b} = MatMul(z{a}, wv{b})
    qr{b} = Reshape(q{b}, heads) kr{b} = Reshape(k{b}, heads) vr{b} = Reshape(v{b}, heads)
    qt{b} = Transpose<perm = [0,2,1,3]>(qr{b}) kt{b} = Transpose<perm = [0,2,1,3]>(kr{b})
    vt{b} = Transpose<perm = [0,2,1,3]>(vr{b})
"""
WRITTEN_OUT = {
    "heads apart": """
        kk{b} = Transpose<perm = [0,1,3,2]>(kt{b}) s{b} = MatMul(qt{b}, kk{b}) h{b} = Mul(s{b}, half)
        a{b} = Softmax(h{b}) o{b} = MatMul(a{b}, vt{b})
    """,
    "heads among the pictures": """
        q3{b} = Reshape(qt{b}, merged) k3{b} = Reshape(kt{b}, merged) v3{b} = Reshape(vt{b}, merged)
        kk{b} = Transpose<perm = [0,2,1]>(k3{b}) s{b} = MatMul(q3{b}, kk{b}) h{b} = Mul(s{b}, half)
        a{b} = Softmax(h{b}) o3{b} = MatMul(a{b}, v3{b}) o{b} = Reshape(o3{b}, apart)
    """,
    "fused": "o{b} = Attention(qt{b}, kt{b}, vt{b})",
}
JOIN = """
    ot{b} = Transpose<perm = [0,2,1,3]>(o{b}) or{b} = Reshape(ot{b}, joined)
    m{b} = MatMul(or{b}, wo{b}) z{b} = Add(z{a}, m{b})
"""
NET = """
    (float[N,3,4,6] x) => (float[N,4] y) {{
        c = Conv<strides = [2,2]>(x, wc) r = Reshape(c, flat) t = Transpose<perm = [0,2,1]>(r)
        n = Shape<start = 0, end = 1>(x) e = Concat<axis = 0>(n, one, features) k = Expand(cls, e)
        z0 = Concat<axis = 1>(k, t) {blocks} g = Gather<axis = 1>(z2, first) y = MatMul(g, w)
    }}"""


def given():
    rng = np.random.default_rng(3)
    shapes = {"wc": (FEATURES, 3, 2, 2), "cls": (1, 1, FEATURES), "w": (FEATURES, 4)}
    shapes |= {f"w{kind}{b}": (FEATURES, FEATURES) for kind in "qkvo" for b in (1, 2)}
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    return weights | {
        "flat": np.array([0, FEATURES, 6]),
        "one": np.array([1]),
        "features": np.array([FEATURES]),
        "first": np.array(0),
        "heads": np.array([0, 0, HEADS, SIZE]),
        "merged": np.array([-1, TOKENS, SIZE]),
        "apart": np.array([-1, HEADS, TOKENS, SIZE]),
        "joined": np.array([0, 0, FEATURES]),
        "half": np.array(0.5, np.float32),
    }


def transformer(how):
    block = SPLIT + WRITTEN_OUT[how] + JOIN
    blocks = " ".join(block.format(a=b - 1, b=b) for b in (1, 2))
    return net(NET.format(blocks=blocks), given(), opset=23 if how == "fused" else 18)


def by_hand(x):
    """Attentions [N, heads, T, T] and values [N, heads, T, size] of both blocks, in double precision."""
    w = {name: array.astype(np.float64) for name, array in given().items()}
    patches = x.astype(np.float64).reshape(len(x), 3, 2, 2, 3, 2).transpose(0, 2, 4, 1, 3, 5)
    tokens = patches.reshape(len(x), 6, 12) @ w["wc"].reshape(FEATURES, 12).T
    z = np.concatenate([np.broadcast_to(w["cls"], (len(x), 1, FEATURES)), tokens], axis=1)
    maps, values = [], []
    for b in (1, 2):
        q, k, v = (
            (z @ w[f"w{kind}{b}"]).reshape(len(x), TOKENS, HEADS, SIZE).transpose(0, 2, 1, 3)
            for kind in "qkv"
        )
        raised = np.exp(0.5 * q @ k.transpose(0, 1, 3, 2))
        a = raised / raised.sum(axis=-1, keepdims=True)
        z = z + (a @ v).transpose(0, 2, 1, 3).reshape(len(x), TOKENS, FEATURES) @ w[f"wo{b}"]
        maps.append(a)
        values.append(v)
    return maps, values, z[:, 0] @ w["w"]


X = noise(3, 3, 4, 6, seed=8)


@pytest.mark.parametrize("how", WRITTEN_OUT)
def test_rollout_by_hand(how):
    maps, _, scores = by_hand(X)
    mixed = [(a.mean(axis=1) + np.eye(TOKENS)) / 2 for a in maps]
    found = explain(transformer(how), X, "attention-rollout", 2)
    close(found.raw, (mixed[1] @ mixed[0])[:, 0, 1:].reshape(3, 2, 3))
    close(found.score, scores[:, 2])
    close(explain(transformer(how), X, "attention").raw, maps[1].mean(axis=1)[:, 0, 1:].reshape(3, 2, 3))


@pytest.mark.parametrize("how", WRITTEN_OUT)
def test_legrad_by_hand(how):
    """s^l is linear in A^l: ds^l / dA^l_h0j = v_hj . (wo_h w_c), and 0 for the other queries."""
    _, values, _ = by_hand(X)
    w = given()
    blocks = []
    for b in (1, 2):
        seen = (w[f"wo{b}"].astype(np.float64) @ w["w"][:, 1]).reshape(HEADS, SIZE)
        slopes = np.einsum("nhjd,hd->nhj", values[b - 1], seen)
        blocks.append(np.maximum(slopes, 0).mean(axis=1) / TOKENS)
    close(explain(transformer(how), X, "legrad", 1).raw, np.mean(blocks, axis=0)[:, 1:].reshape(3, 2, 3))


def test_a_class_token_behind_the_others():
    """Without an embedding of positions, attention knows no order: the maps are the same."""
    text = NET.replace("(k, t)", "(t, k)").format(
        blocks=" ".join(
            (SPLIT + WRITTEN_OUT["heads among the pictures"] + JOIN).format(a=b - 1, b=b) for b in (1, 2)
        )
    )
    for last in (6, -1):
        moved = net(text, given() | {"first": np.array(last)})
        for method in ("legrad", "attention-rollout", "grad-cam"):
            close(explain(moved, X, method, 1).raw, explain(transformer("heads apart"), X, method, 1).raw)
    assert attentions(load(moved), "y")[0].tokens == (0, 2, 3)


def test_where_the_head_fits_no_earlier_block_the_gradients_are_those_of_the_last_score():
    """Here the scores read what the first block leaves, too."""
    proto = transformer("heads apart")
    weights = noise(FEATURES, 4, seed=5)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "w_early"))
    proto.graph.node[-1].output[0] = "late"
    proto.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["z1", "one"], ["pooled"], keepdims=0),
            helper.make_node("MatMul", ["pooled", "w_early"], ["early"]),
            helper.make_node("Add", ["late", "early"], ["y"]),
        ]
    )
    found = explain(proto, X, "legrad", 3)
    assert any("head fits no earlier block" in one for one in found.manifest["warnings"])
    derived = onnxviz.gradient(proto, "y", ["a1", "a2"])
    seed = np.broadcast_to(np.eye(4, dtype=np.float32)[3], (3, 4))
    slopes = onnxviz.Session(derived, device="cpu").run({"x": X, "y_grad": seed})
    rows = [np.maximum(slopes[f"a{b}_grad"].astype(np.float64), 0).mean(axis=(1, 2)) for b in (1, 2)]
    close(found.raw, np.mean(rows, axis=0)[:, 1:].reshape(3, 2, 3))
    own = explain(transformer("heads apart"), X, "legrad", 3)
    assert not any("legrad" in one for one in own.manifest["warnings"])


def test_norms_behind_the_sums_leave_no_stream_to_put_the_head_on():
    proto = transformer("heads apart")
    for name in ("z1", "z2"):
        [node] = [node for node in proto.graph.node if node.output[0] == name]
        place = list(proto.graph.node).index(node)
        node.output[0] = f"sum_{name}"
        proto.graph.node.insert(
            place + 1, helper.make_node("LayerNormalization", [f"sum_{name}", "even"], [name])
        )
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(FEATURES, np.float32), "even"))
    model = load(proto)
    assert streams(model, attentions(model, "y"), "y") is None
    found = explain(proto, X, "legrad", 3)
    assert any("head fits no earlier block" in one for one in found.manifest["warnings"])


# --- other forms of a model ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VITS)
def test_a_model_that_onnxruntime_has_fused(name, tmp_path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(DATA / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    domains = {node.domain for node in onnx.load(tmp_path / "fused.onnx").graph.node}
    assert "com.microsoft" in domains
    model, torch = load(tmp_path / "fused.onnx"), np.load(DATA / f"{name}.npz")
    scores = find_scores(model).tensor
    whole = not any(node.op_type == "SkipLayerNormalization" for node in model.ir_model.graph)
    assert (streams(model, attentions(model, scores), scores) is not None) == whole
    close(explain(model, torch["x"], "legrad", 2).raw, torch["legrad"][2])
    close(explain(model, torch["x"], "attention-rollout").raw, torch["rollout"])
    close(explain(model, torch["x"], "grad-cam", 2).raw, torch["grad_cam"][2])


@pytest.mark.parametrize("name", VITS)
def test_a_quantised_model_has_the_maps_of_its_floats(name, tmp_path):
    """To 8 bits; the head's ranges were those of the last block, and must clip no other."""
    model, torch = exported(name)
    pictures = iter([{model.inputs[0].name: x[None]} for x in torch["x"]])
    reader = type(
        "Pictures", (quantization.CalibrationDataReader,), {"get_next": lambda _: next(pictures, None)}
    )
    quantization.quantize_static(DATA / f"{name}.onnx", tmp_path / "int8.onnx", reader())
    found = explain(tmp_path / "int8.onnx", torch["x"], "legrad", 1)
    assert correlation(found.raw, torch["legrad"][1]) > 0.97
    assert not [one for one in found.manifest["warnings"] if "legrad" in one]
    rolled = explain(tmp_path / "int8.onnx", torch["x"], "attention-rollout").raw
    assert correlation(rolled, torch["rollout"]) > 0.97


@pytest.mark.parametrize("method", ["legrad", "attention-rollout", "attention"])
def test_exported_maps_run_in_plain_onnxruntime(method):
    model, torch = exported("vit_class")
    wanted = explain(model, torch["x"], method, [1, 3])
    proto = explainer(model, method).proto()
    assert {node.domain for node in proto.graph.node} == {""}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {model.inputs[0].name: torch["x"], "target": np.array([1, 3])}
    [heatmap] = session.run(["heatmap"], feeds)
    np.testing.assert_allclose(heatmap, wanted.heatmap, atol=1e-5)


def test_what_has_no_map_of_attention_says_so():
    with pytest.raises(ShapeError, match="reaches over windows of the picture"):
        explain(exported("swin")[0], exported("swin")[1]["x"], "attention-rollout")
    with pytest.raises(ShapeError, match="no attention between the tokens of a picture"):
        explain(cam_net(), noise(1, 3, 8, 10), "legrad")
    with pytest.raises(ShapeError, match="Attention node 'o1' keeps its map of attention to itself"):
        attentions(load(transformer("fused")), "y")


def test_spelled_out_a_model_answers_the_same():
    model = load(transformer("fused"))
    plain = spell_out(model, is_fused)
    assert not any(map(is_fused, plain.ir_model.graph))
    assert [attention.tokens for attention in attentions(plain, "y")] == [(1, 2, 3)] * 2
    feeds = {"x": X}
    one, other = (onnxviz.Session(each, device="cpu").run(feeds)["y"] for each in (model, plain))
    close(other, one, 1e-5)
    with pytest.raises(UnsupportedOperator, match="Conv node 'c' cannot be written"):
        spell_out(model, lambda node: node.op_type == "Conv")


@pytest.mark.parametrize("how", WRITTEN_OUT)
def test_the_layer_in_front_of_the_last_attention(how):
    model = load(transformer(how))
    found = token_layer(model, model.layers, "y")
    assert found == select_one(model, "z1")
    assert found.tokens == (1, 2, 3)
