import numpy as np
import pytest
from methods.nets import net, noise, run_plainly
from PIL import Image

from onnxviz import explain, gradient, load
from onnxviz.errors import SelectorError, TargetError
from onnxviz.graph.model import Model
from onnxviz.methods.attribution.pose import pose
from onnxviz.methods.attribution.question import Bench
from onnxviz.methods.query import ask
from onnxviz.methods.similarity import read_embedding, similar
from onnxviz.runtime.session import Session
from onnxviz.vision.boxes import overlaps, read_boxes

SEGMENTER = """
    (float[N,3,12,16] x) => (float[N,3,6,8] logits) {
        c = Conv <kernel_shape = [2,2], strides = [2,2]> (x, w1, b1)
        features = Relu (c)
        logits = Conv (features, w2)
    }"""
WEIGHTS = {
    name: np.random.default_rng(n).normal(0, 0.4, shape).astype(np.float32)
    for n, (name, shape) in enumerate({"w1": (5, 3, 2, 2), "b1": (5,), "w2": (3, 5, 1, 1)}.items())
}


def posed(model, images, target, **settings):
    return pose(ask(model, images, **settings), [(0, target)], Bench("cpu"))


def picture(height=24, width=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask_file(folder, mask):
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "mask.png")
    return folder / "mask.png"


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_a_mask_sums_the_scores_of_a_class_inside_it(tmp_path, layout):
    text = SEGMENTER
    if layout == "channels last":
        text = text.replace("[N,3,6,8]", "[N,6,8,3]").replace(
            "logits = Conv (features, w2)",
            "m = Conv (features, w2) logits = Transpose <perm = [0,2,3,1]> (m)",
        )
    mask = np.zeros((24, 32), bool)
    mask[8:16, 4:24] = True
    file = mask_file(tmp_path, mask)
    found = posed(net(text, WEIGHTS), picture(), f"2 in {file}", preprocess="unit")
    logits = found.answers[0] if layout == "channels first" else found.answers[0].transpose(2, 0, 1)
    [(_, target)] = found.question.pairs
    assert target.score(found.rows[0]) == pytest.approx(logits[2, 2:4, 1:6].sum(), rel=1e-5)
    assert target.text == "class 2 in mask.png (10 places)"


def test_a_mask_goes_through_the_crop_that_its_picture_went_through(tmp_path):
    mask = np.zeros((24, 64), bool)
    mask[:, 32:] = True  # the right half: of the crop in the middle, too
    file = mask_file(tmp_path, mask)
    crop = {"resize": "crop", "scale": 0.01}
    found = posed(net(SEGMENTER, WEIGHTS), picture(24, 64), f"0 in {file}", preprocess=crop)
    [(_, target)] = found.question.pairs
    assert target.score(found.rows[0]) == pytest.approx(found.answers[0][0, :, 4:].sum(), rel=1e-5)


def test_one_channel_needs_no_class(tmp_path):
    text = SEGMENTER.replace("[N,3,6,8]", "[N,1,6,8]")
    weights = WEIGHTS | {"w2": WEIGHTS["w2"][:1]}
    file = mask_file(tmp_path, np.ones((24, 32), bool))
    found = explain(net(text, weights), picture(), target=f"in {file}", preprocess="unit")
    assert found.score[0] == pytest.approx(run_sum(net(text, weights), found), rel=1e-5)


def run_sum(model, found):
    x = ask(model, [found.pictures.pixels[0]], "unit").pictures.array
    return run_plainly(model, {"x": x})["logits"].sum()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("1 in no.png", "no such file"),
        ("in mask.png", "names no class, and output logits has 3"),
        ("7 in mask.png", "no class 7: output 'logits' has classes 0 to 2"),
        ("cat in mask.png", "the model names none"),
        ("1 in small.png", r"the mask .*small.png is \[5, 5\] but its picture \[24, 32\]"),
        ("1 in black.png", "the mask is empty where the model looks"),
        ("1 in 1,2,3,4", "no boxes are known in the outputs"),
    ],
)
def test_masks_that_do_not_fit(tmp_path, monkeypatch, target, said):
    monkeypatch.chdir(tmp_path)
    mask_file(tmp_path, np.ones((24, 32), bool))
    for name, size in (("small", (5, 5)), ("black", (32, 24))):
        Image.new("L", size, 0 if name == "black" else 255).save(f"{name}.png")
    with pytest.raises(TargetError, match=said):
        posed(net(SEGMENTER, WEIGHTS), picture(), target, preprocess="unit")


# Two proposals of a 16 x 12 input that only pass their numbers on: what they are is in the weights.
def detector(rows, boxes=None):
    """A model that answers `rows` whatever it is shown, but for a share of its input's mean."""
    outputs = {"out": np.asarray(rows, np.float32)} | (
        {} if boxes is None else {"boxes": np.asarray(boxes, np.float32)}
    )
    shapes = {name: ",".join(map(str, array.shape)) for name, array in outputs.items()}
    declared = ", ".join(f"float[1,{shape}] {name}" for name, shape in shapes.items())
    lines = " ".join(f"{name} = Add (m{len(array.shape)}, {name}_0)" for name, array in outputs.items())
    text = f"""
        (float[1,3,12,16] x) => ({declared}) {{
            c = Conv <pads = [1,1,1,1]> (x, w, b)
            features = Relu (c)
            g = GlobalAveragePool (features)
            shape = Constant <value_ints = [1,1,1]> ()
            m2 = Reshape (g, shape)
            {lines}
        }}"""
    weights = {f"{name}_0": array[None] for name, array in outputs.items()}
    weights |= {"w": np.full((1, 3, 3, 3), 1e-6, np.float32), "b": np.zeros(1, np.float32)}
    return net(text, weights)


CORNERS = np.array([[0, 0, 4, 4], [8, 2, 14, 10], [1, 1, 15, 11]], float)
CLASSES = np.random.default_rng(3).uniform(0.1, 0.9, (3, 4))


def centres(corners):
    return np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)


SHARES = np.array([16, 12, 16, 12])
FORMS = {
    "two outputs": (CLASSES, CORNERS, "xyxy", (1, 2)),
    "two outputs, normalised": (CLASSES, CORNERS / SHARES, "xyxy, normalised", (1, 2)),
    "two outputs, centres": (CLASSES, centres(CORNERS), "cxcywh", (1, 2)),
    "rows": (
        np.concatenate(
            [np.tile(centres(CORNERS), (4, 1)), np.full((12, 1), 0.5), np.tile(CLASSES, (4, 1))], axis=1
        ),
        None,
        "cxcywh",
        (1, 7),
    ),
    "columns": (
        np.tile(np.concatenate([centres(CORNERS), CLASSES], axis=1), (4, 1)).T,
        None,
        "cxcywh",
        (6, 1),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1, 2])
def test_a_box_takes_the_proposal_that_overlaps_it_most(form, scale):
    rows, boxes, said, element = FORMS[form]
    box = ",".join(str(number * scale) for number in (7, 3, 14, 10))
    found = posed(detector(rows, boxes), picture(12 * scale, 16 * scale), f"2 in {box}", preprocess="unit")
    [(_, target)] = found.question.pairs
    assert f"out[0,{element[0]},{element[1]}], overlap 0.76, boxes {said})" in target.text
    assert target.score(found.rows[0]) == pytest.approx(CLASSES[1, 2], abs=1e-3)
    strongest = posed(detector(rows, boxes), picture(12 * scale, 16 * scale), f"in {box}", preprocess="unit")
    [(_, target)] = strongest.question.pairs
    assert target.score(strongest.rows[0]) == pytest.approx(CLASSES[1].max(), abs=1e-3)


def test_the_grids_of_yolox():
    numbers = np.zeros((64 + 16 + 4, 4))
    numbers[:, 2:] = -1
    numbers[64 + 6] = [0.25, 0.5, np.log(2), np.log(0.5)]  # the second grid's second row, third cell
    found = read_boxes(numbers, (64, 64), raw_grid=True)
    assert found.form == "yolox"
    np.testing.assert_allclose(found.corners[70], [36 - 16, 24 - 4, 36 + 16, 24 + 4])
    np.testing.assert_allclose(found.corners[0], np.array([-1, -1, 1, 1]) * 4 / np.e)
    assert read_boxes(numbers, (64, 32), raw_grid=True).form != "yolox"


def test_overlaps():
    corners = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [0, 0, 0, 0]])
    np.testing.assert_allclose(overlaps(corners, (0, 0, 2, 2)), [1, 1 / 7, 0, 0])


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("1 in 4,4,2,9", "the box is empty"),
        ("1 in 90,90,95,95", "no proposal of the model overlaps this box"),
        ("9 in 7,3,14,10", "no class 9: output 'out' has classes 0 to 3"),
    ],
)
def test_boxes_that_do_not_fit(target, said):
    with pytest.raises(TargetError, match=said):
        posed(detector(CLASSES, CORNERS), picture(12, 16), target, preprocess="unit")


EMBEDDER = """
    (float[N,3,6,8] x) => (float[N,5] vector) {
        c = Conv (x, w, b)
        features = Tanh (c)
        g = GlobalAveragePool (features)
        vector = Flatten (g)
    }"""
EMBED = {
    "w": np.random.default_rng(1).normal(0, 0.5, (5, 3, 3, 3)),
    "b": np.random.default_rng(2).normal(0, 0.5, 5),
}


def test_likeness_is_the_cosine_of_an_output_and_an_embedding():
    text = EMBEDDER.replace("float[", "double[")
    text = text.replace("c = Conv (x, w, b)", "f = Flatten (x) c = MatMul (f, w)")
    text = text.replace("g = GlobalAveragePool (features)", "g = Identity (features)")
    model = net(text, {"w": np.random.default_rng(1).normal(0, 0.2, (144, 5))})
    x, e = np.random.default_rng(5).normal(size=(3, 3, 6, 8)), np.array([1, -2, 0.5, 3, 0])
    made, name = similar(load(model), e)
    found = Session(made).run({"x": x})
    y = run_plainly(model, {"x": x})["vector"]
    np.testing.assert_allclose(found["vector"], y)
    cosine = y @ e / np.linalg.norm(y, axis=1) / np.linalg.norm(e)
    np.testing.assert_allclose(found[name][:, 0], cosine, rtol=1e-12)
    slope = Session(gradient(made, of=name, wrt="vector")).run({"x": x, f"{name}_grad": np.ones((3, 1))})[
        "vector_grad"
    ]
    size = np.linalg.norm(y, axis=1, keepdims=True)
    np.testing.assert_allclose(slope, e / np.linalg.norm(e) / size - cosine[:, None] * y / size**2, rtol=1e-9)


def test_a_likeness_is_explained_like_any_score(tmp_path):
    model = net(EMBEDDER, {name: array.astype(np.float32) for name, array in EMBED.items()})
    e = np.array([1, -2, 0.5, 3, 0])
    np.save(tmp_path / "e.npy", e)
    x = noise(2, 3, 6, 8)
    for method in ("grad-cam", "integrated-gradients", "occlusion"):
        found = explain(model, x, method, f"like {tmp_path / 'e.npy'}")
        y = run_plainly(model, {"x": x})["vector"]
        cosine = y @ e / np.linalg.norm(y, axis=1) / np.linalg.norm(e)
        np.testing.assert_allclose(found.score, cosine, rtol=1e-5)
        assert found.raw.any(axis=tuple(range(1, found.raw.ndim))).all()


def test_embeddings_that_cannot_be_used(tmp_path):
    model = net(EMBEDDER, {name: array.astype(np.float32) for name, array in EMBED.items()})
    with pytest.raises(TargetError, match="cannot be read: No such file"):
        read_embedding(tmp_path / "no.npy")
    np.save(tmp_path / "zeros.npy", np.zeros(5))
    with pytest.raises(TargetError, match="not all zero"):
        read_embedding(tmp_path / "zeros.npy")
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(TargetError, match=r"not a \.npy file of numbers"):
        read_embedding(tmp_path / "pickle.npy")
    with pytest.raises(TargetError, match="the embedding has 3 numbers, but output 'vector' has 5"):
        similar(load(model), np.ones(3))
    with pytest.raises(SelectorError, match="no output 'vektor'"):
        similar(load(model), np.ones(5), "vektor")
    np.save(tmp_path / "a.npy", np.ones(5))
    query = ask(model, noise(1, 3, 6, 8))
    with pytest.raises(TargetError, match="a similarity is explained alone"):
        pose(query, [(0, f"like {tmp_path / 'a.npy'}"), (0, "1")], Bench("cpu"))


@pytest.mark.parametrize(("target", "weights"), [("up", 1), ("down", -1)])
def test_an_output_raised_or_lowered(target, weights):
    found = explain(net(SEGMENTER, WEIGHTS), noise(1, 3, 12, 16), "gradient", target)
    logits = run_plainly(net(SEGMENTER, WEIGHTS), {"x": noise(1, 3, 12, 16)})["logits"]
    assert found.score[0] == pytest.approx(weights * logits.sum(), rel=1e-4)
    assert found.target == (target,)


def test_an_element_lowered():
    x = noise(1, 3, 12, 16)
    up = explain(net(SEGMENTER, WEIGHTS), x, "gradient", "logits[0,1,2,3]")
    down = explain(net(SEGMENTER, WEIGHTS), x, "gradient", "logits[0,1,2,3] down")
    np.testing.assert_allclose(down.raw, -up.raw)
    assert down.target == ("logits[0,1,2,3] down",)


def test_a_model_is_left_as_it_was():
    model = load(net(EMBEDDER, {name: array.astype(np.float32) for name, array in EMBED.items()}))
    before = model.serialize()
    made, _ = similar(model, np.ones(5))
    assert isinstance(made, Model)
    assert model.serialize() == before
