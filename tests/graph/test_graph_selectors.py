import numpy as np
import pytest
from graph.nets import net, noise

from onnxviz import samples
from onnxviz.errors import SelectorError
from onnxviz.graph.families import ELEMENTWISE, family, in_family
from onnxviz.graph.model import load
from onnxviz.graph.selectors import select, select_one

SCALE, ZERO = np.array(0.1, np.float32), np.array(0, np.uint8)

TEXT = """(float[1,3,16,16] x) => (float[1,3,a,b] y) {
    t0 = Conv(x, w)
    t1 = Relu(t0)
    t2 = com.microsoft.FusedConv(t1, w)
    q = QuantizeLinear(t2, s, z)
    t3 = QLinearConv(q, s, z, k, s, z, s, z)
    t4 = DequantizeLinear(t3, s, z)
    t5 = ConvTranspose(t4, w)
    t6 = Conv(t5, w)
    y = Relu(t6)
}"""
NAMES = ["/stem/conv/Conv", "/stem/Relu", "/layer1/layer1.0/conv/Conv", "", "/layer1/layer1.1/conv/Conv",
         "", "up", "/layer10/conv/Conv", "Conv"]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    proto = net(TEXT, w=noise(3, 3, 3, 3), k=np.ones((3, 3, 3, 3), np.uint8), s=SCALE, z=ZERO)
    for node, name in zip(proto.graph.node, NAMES, strict=True):
        node.name = name
    return load(proto)


def tensors(found):
    return " ".join(layer.tensor for layer in found)


def test_the_table_behind_these_tests(model):
    assert tensors(model.layers) == "t0 t1 t2 q t3 t4 t5 t6 y"
    modules = ["stem.conv", "stem", "layer1.0.conv", None, "layer1.1.conv", None, None, "layer10.conv", None]
    assert [layer.module for layer in model.layers] == modules


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (0, "t0"),
        (8, "y"),
        ("3", "q"),
        (" 3 ", "q"),
        ("all", "t0 t1 t2 q t3 t4 t5 t6 y"),
        ("first-conv", "t0"),
        ("last-conv", "t6"),
        ("t4", "t4"),
        ("/stem/Relu", "t1"),
        ("up", "t5"),
        ("stem", "t1"),
        ("stem.conv", "t0"),
        ("layer1", "t2 t3"),
        ("layer1.0", "t2"),
        ("layer10", "t6"),
        ("Conv", "y"),  # a node of that name, before the operator
        ("Relu", "t1 y"),
        ("FusedConv", "t2"),
        ("QLinearConv", "t3"),
        ("ConvTranspose", "t5"),
        ("QuantizeLinear", "q"),
        ("layer1*", "t2 t3 t6"),
        ("layer1.*", "t2 t3"),
        ("t[0-2]", "t0 t1 t2"),
        ("t?", "t0 t1 t2 t3 t4 t5 t6"),
        ("*/Conv", "t0 t2 t3 t6"),
        ("*", "t0 t1 t2 q t3 t4 t5 t6 y"),
    ],
)
def test_every_form_of_a_selector(model, selector, expected):
    assert tensors(select(model, selector)) == expected


def test_the_conv_family_is_not_the_transposed_one():
    proto = net(TEXT, w=noise(3, 3, 3, 3), k=np.ones((3, 3, 3, 3), np.uint8), s=SCALE, z=ZERO)
    model = load(proto)
    assert tensors(select(model, "Conv")) == "t0 t2 t3 t6"
    assert tensors(select(model, "ConvTranspose")) == "t5"
    assert select_one(model, "Conv").tensor == "t6"
    assert select_one(model, "first-conv").tensor == "t0"


def test_several_selectors_keep_the_models_order(model):
    assert tensors(select(model, ["y", "Relu", 0, "stem", "0", "t0", "first-conv"])) == "t0 t1 y"
    assert tensors(select(model, ("last-conv", "t3"))) == "t3 t6"
    assert select(model, []) == ()


def test_one_of_several_is_the_last(model):
    assert select_one(model, "layer1").tensor == "t3"
    assert select_one(model, 2).tensor == "t2"


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("t9", "no layer 't9' in this model; did you mean 't"),
        ("STEM.CONV", "no layer 'STEM.CONV' in this model; did you mean 'stem.conv'"),
        ("Rellu", "did you mean 'Relu'"),
        ("quantizelinear", "did you mean 'QuantizeLinear'"),
        ("layer2.*", "no layer 'layer2.*' in this model"),
        ("zzzzzzzz", "no layer 'zzzzzzzz' in this model; `onnxviz inspect` lists them"),
        ("", "no layer '' in this model"),
        ("x", "no layer 'x' in this model"),
        ("layer", "no layer 'layer' in this model"),
        (9, "no layer 9: this model has layers 0 to 8"),
        ("9", "no layer 9: this model has layers 0 to 8"),
        (-1, "no layer -1: this model has layers 0 to 8"),
        ("-1", "no layer -1: this model has layers 0 to 8"),
        ("--1", "no layer '--1' in this model"),
        ("1.0", "no layer '1.0' in this model"),
        ("²", "no layer '²' in this model"),
    ],
)
def test_a_miss_is_one_line_with_a_suggestion(model, selector, words):
    with pytest.raises(SelectorError) as caught:
        select(model, selector)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_miss_among_several_is_an_error(model):
    with pytest.raises(SelectorError, match="no layer 'no such layer'"):
        select(model, ["t0", "no such layer"])


def test_tensors_that_are_named_by_numbers():
    """As PyTorch named them before 2022: an index is an index, a number too large for one is a name."""
    proto = net("(float[2] x) => (float[2] y) { a = Relu(x) b = Neg(a) y = Abs(b) }")
    for node, output, source in zip(proto.graph.node, ["123", "1", "124"], ["x", "123", "1"], strict=True):
        node.output[0], node.input[0] = output, source
    proto.graph.output[0].name = "124"
    model = load(proto)
    assert select_one(model, "123").index == 0
    assert select_one(model, "124").index == 2
    assert select_one(model, "1").tensor == "1"
    assert select_one(model, "0").tensor == "123"
    for selector in (123, "125"):
        with pytest.raises(SelectorError, match=rf"no layer {selector}: this model has layers 0 to 2"):
            select(model, selector)


@pytest.mark.parametrize("selector", ["first-conv", "last-conv"])
def test_a_model_without_convolutions(selector):
    model = load(net("(float[N,4] x) => (float[N,4] y) { h = MatMul(x, w) y = Relu(h) }", w=noise(4, 4)))
    with pytest.raises(SelectorError, match=f"no layer '{selector}': this model has no Conv"):
        select(model, selector)
    with pytest.raises(SelectorError, match="no layer 'Conv' in this model"):
        select(model, "Conv")
    assert tensors(select(model, "all")) == "h y"


def test_a_glob_reads_brackets_only_where_no_name_has_them():
    proto = net("(float[2] x) => (float[2] y) { a = Relu(x) b = Neg(a) y = Abs(b) }")
    for node, name in zip(proto.graph.node, ["block[0]", "block0", "last"], strict=True):
        node.name = name
    model = load(proto)
    assert tensors(select(model, "block[0]")) == "a"
    assert tensors(select(model, "block[0-9]")) == "b"


def test_the_sample():
    model = load(samples.sample_model())
    assert len(select(model, "Conv")) == 26
    assert select_one(model, "first-conv").name == "conv1"
    assert select_one(model, "last-conv").name == "conv10"
    assert tensors(select(model, "fire2_*")).startswith("fire2_squeeze1x1")


@pytest.mark.parametrize(
    ("op", "plain"),
    [
        ("Conv", "Conv"),
        ("QLinearConv", "Conv"),
        ("FusedConv", "Conv"),
        ("NhwcConv", "Conv"),
        ("NhwcFusedConv", "Conv"),
        ("ConvInteger", "Conv"),
        ("MatMulInteger", "MatMul"),
        ("QGemm", "Gemm"),
        ("FusedGemm", "Gemm"),
        ("FusedMatMul", "MatMul"),
        ("QLinearAdd", "Add"),
        ("QLinearConcat", "Concat"),
        ("ConvTranspose", "ConvTranspose"),
        ("QLinear", "QLinear"),
        ("Integer", "Integer"),
    ],
)
def test_families(op, plain):
    assert family(op) == plain


def test_operators_in_another_layout_are_of_the_family_but_have_other_axes():
    text = """(float[1,8,8,4] x) => (float[1,8,8,4] y) {
        a = com.microsoft.NhwcMaxPool<kernel_shape = [1,1]>(x)
        y = com.microsoft.QLinearAdd(a, s, z, a, s, z, s, z)
    }"""
    first, second = load(net(text)).ir_model.graph
    assert not in_family(first, ("MaxPool",))
    assert in_family(first, ("NhwcMaxPool",))
    assert in_family(second, ELEMENTWISE)
    assert in_family(second, ("QLinearAdd",))
