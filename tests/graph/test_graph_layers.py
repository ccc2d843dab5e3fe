import json

import numpy as np
import onnx
import pytest
from graph.nets import net, noise
from onnx import numpy_helper

from onnxviz import samples
from onnxviz.graph.layers import Layer, ReceptiveField, module_path, total_parameters
from onnxviz.graph.model import load


def layers(text, opset=18, **weights):
    return load(net(text, opset=opset, **weights)).layers


def by_tensor(text, opset=18, **weights):
    return {layer.tensor: layer for layer in layers(text, opset, **weights)}


# --- names and modules ---------------------------------------------------------------------------------


def named(*names):
    """A chain of Relus with these node names and the outputs a, b, c ..."""
    body = " ".join(f"{chr(97 + i)} = Relu({chr(96 + i) if i else 'x'})" for i in range(len(names)))
    proto = net(f"(float[2] x) => (float[2] {chr(96 + len(names))}) {{ {body} }}")
    for node, name in zip(proto.graph.node, names, strict=True):
        node.name = name
    return load(proto).layers


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["first", "second"], ["first", "second"]),
        (["first", ""], ["first", "b"]),
        (["", ""], ["a", "b"]),
        (["same", "same", "other"], ["a", "b", "other"]),
        (["a", "b"], ["a", "b"]),
        (["b", "a", "c"], ["a", "b", "c"]),  # a node named like the output of another
        (["b", "", ""], ["a", "b", "c"]),
    ],
)
def test_names_are_unique(given, expected):
    found = named(*given)
    assert [layer.name for layer in found] == expected
    assert [layer.tensor for layer in found] == [chr(97 + i) for i in range(len(given))]
    assert [layer.index for layer in found] == list(range(len(given)))


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("", None),
        ("Conv_12", None),
        ("conv1", None),
        ("/Conv", None),
        ("/conv1/Conv", "conv1"),
        ("/layer4/layer4.0/conv1/Conv", "layer4.0.conv1"),
        ("/features/features.1/conv/conv.0/conv.0.0/Conv", "features.1.conv.0.0"),
        ("/layer1/layer1.0/relu_1/Relu", "layer1.0.relu_1"),
        ("/layer1/layer10/Relu", "layer1.layer10"),
        ("model/conv1/Conv2D", "model.conv1"),
        ("model/conv1/Conv2D;model/bn1/FusedBatchNormV3", "model.conv1"),
        ("StatefulPartitionedCall/net/block_1/add", "StatefulPartitionedCall.net.block_1"),
    ],
)
def test_modules_from_slashes(name, module):
    (layer,) = named(name)
    assert layer.module == module


@pytest.mark.parametrize(
    ("scopes", "module"),
    [
        ("['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']", "layer1.0.conv1"),
        ("['', 'conv2d']", None),
        ("['relu']", None),
        ("[]", None),
        ("('', 'layer1', 'add')", None),
        ("no literal", None),
        ("{[]: 1}", None),
        ("[" * 3000, None),
        ("\0", None),
        ("__import__('os').getcwd()", None),
    ],
)
def test_modules_from_the_scopes_of_pytorch(scopes, module):
    proto = net("(float[2] x) => (float[2] y) { y = Relu(x) }")
    proto.graph.node[0].name = "/said/by/the/Name"
    proto.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    model = load(proto)
    assert model.layers[0].module == module
    assert module_path(model.tensor("y").producer()) == module


# --- what is a layer -----------------------------------------------------------------------------------


def test_only_operators_that_data_flows_through_are_layers():
    found = layers(
        """(float[N,3,8,8] x, int64[2] indices) => (float[N,k] y, int64[N] best) {
            c = Conv(x, w)
            dead = Relu(c)
            shape = Shape(c)
            zero = Constant<value_int = 0>()
            batch = Gather(shape, zero)
            axis = Constant<value_ints = [0]>()
            front = Unsqueeze(batch, axis)
            rest = Constant<value_ints = [-1]>()
            target = Concat<axis = 0>(front, rest)
            flat = Reshape(c, target)
            count = Size(x)
            size = Cast<to = 1>(count)
            big = Greater(flat, size)
            spared = Where(big, flat, size)
            chosen = Gather<axis = 1>(spared, indices)
            best = ArgMax<axis = 1, keepdims = 0>(chosen)
            made = Mul(half, half)
            y = Mul(chosen, made)
        }""",
        w=noise(4, 3, 3, 3),
        half=np.array(0.5, np.float32),
    )
    assert [(layer.op, layer.tensor) for layer in found] == [
        ("Conv", "c"),
        ("Reshape", "flat"),
        ("Where", "spared"),
        ("Gather", "chosen"),
        ("Mul", "y"),
    ]


def test_quantised_tensors_are_layers_and_integer_products_too():
    found = layers(
        """(float[1,3,8,8] x) => (float[1,4,6,6] y) {
            q, s, z = DynamicQuantizeLinear(x)
            c = ConvInteger(q, w, z)
            d = Cast<to = 1>(c)
            y = Mul(d, s)
        }""",
        w=np.ones((4, 3, 3, 3), np.int8),
    )
    assert [layer.op for layer in found] == ["DynamicQuantizeLinear", "ConvInteger", "Cast", "Mul"]
    assert [layer.params for layer in found] == [0, 108, 0, 0]
    assert [layer.macs for layer in found] == [0, 4 * 36 * 27, 0, 0]
    assert [(layer.grid, layer.channel) for layer in found] == [((2, 3), 1)] * 4


def test_a_nested_graph_is_one_layer_with_what_it_captures():
    found = layers("""(float[2] x, bool c) => (float[2] y) {
        h = Relu(x)
        y = If(c) < then_branch = t () => (float[2] a) { a = Neg(h) },
                    else_branch = e () => (float[2] b) { b = Abs(h) } >
    }""")
    assert [(layer.op, layer.tensor) for layer in found] == [("Relu", "h"), ("If", "y")]


def test_a_model_without_layers():
    model = load(net("(int64[2] x) => (int64[2] y) { y = Neg(x) }"))
    assert model.layers == ()
    assert total_parameters(model) == 0


# --- parameters ----------------------------------------------------------------------------------------


def test_parameters_are_the_numbers_in_the_weights():
    text = """(float[1,3,8,8] x) => (float[1,10] y) {
        c = Conv(x, w, b)
        n = BatchNormalization(c, s, t, m, v)
        p = PRelu(n, slope)
        f = Flatten(p)
        y = Gemm(f, g, h)
    }"""
    weights = {
        "w": noise(6, 3, 3, 3), "b": noise(6), "s": noise(6), "t": noise(6), "m": noise(6),
        "v": np.ones(6, np.float32), "slope": noise(6, 1, 1), "g": noise(216, 10), "h": noise(10),
    }  # fmt: skip
    proto = net(text, **weights)
    model = load(proto)
    assert [layer.params for layer in model.layers] == [6 * 27 + 6, 24, 6, 0, 216 * 10 + 10]
    assert total_parameters(model) == sum(array.size for array in weights.values())


def test_the_parameters_of_the_sample():
    model = load(samples.sample_model())
    assert total_parameters(model) == 1_235_496
    assert sum(layer.params for layer in model.layers) == 1_235_496
    assert {layer.op for layer in model.layers if layer.params} == {"Conv"}


def test_shared_weights_count_once_in_the_total():
    text = "(float[N,4] x) => (float[N,4] y) { h = MatMul(x, w) z = MatMul(h, w) y = Mul(z, z) }"
    model = load(net(text, w=noise(4, 4)))
    assert [layer.params for layer in model.layers] == [16, 16, 0]
    assert total_parameters(model) == 16


def test_a_weight_used_twice_by_one_node_counts_once():
    (layer,) = layers("(float[N,4] x) => (float[N,4] y) { y = Sum(x, w, w) }", w=noise(4))
    assert layer.params == 4


def test_the_weights_of_a_layer_are_not_those_of_the_layers_behind_it():
    text = """(int64[2,3] ids, float[4,5] x) => (float[2,3,8] y, float[2,5] z) {
        e = Gather(table, ids)
        a = Relu(e)
        y = LayerNormalization<axis = -1>(a, s, b)
        m = MatMul(w, x)
        z = Neg(m)
    }"""
    model = load(net(text, table=noise(50, 8), s=noise(8), b=noise(8), w=noise(2, 4)))
    assert [(layer.op, layer.params) for layer in model.layers] == [
        ("Gather", 400), ("Relu", 0), ("LayerNormalization", 16), ("MatMul", 8), ("Neg", 0),
    ]  # fmt: skip
    assert total_parameters(model) == 424


def test_weights_behind_constant_operators():
    text = """(float[N,4] x) => (float[N,6] y) {
        t = Transpose<perm = [1,0]>(w)
        h = Cast<to = 1>(t)
        m = MatMul(x, h)
        c = Constant<value: tensor = float[6] {1, 2, 3, 4, 5, 6}>()
        scaled = Mul(c, factor)
        y = Add(m, scaled)
    }"""
    found = layers(text, w=noise(6, 4).astype(np.float16), factor=noise(6))
    assert [(layer.op, layer.params) for layer in found] == [("MatMul", 24), ("Add", 12)]


def test_weights_behind_dequantisers():
    text = """(float[1,3,8,8] x) => (float[1,4,6,6] y) {
        q = QuantizeLinear(x, xs, xz)
        d = DequantizeLinear(q, xs, xz)
        wd = DequantizeLinear<axis = 0>(w, ws, wz)
        bd = DequantizeLinear<axis = 0>(b, ws, bz)
        y = Conv(d, wd, bd)
    }"""
    found = layers(
        text,
        xs=np.array(0.1, np.float32),
        xz=np.array(3, np.uint8),
        w=np.ones((4, 3, 3, 3), np.int8),
        ws=np.ones(4, np.float32),
        wz=np.zeros(4, np.int8),
        b=np.ones(4, np.int32),
        bz=np.zeros(4, np.int32),
    )
    assert [(layer.op, layer.params) for layer in found] == [
        ("QuantizeLinear", 0), ("DequantizeLinear", 0), ("Conv", 108 + 4)
    ]  # fmt: skip


def test_the_weights_of_quantised_operators():
    scale, zero = np.array(0.1, np.float32), np.array(0, np.uint8)
    text = """(float[1,3,8,8] x) => (uint8[1,4,6,6] y) {
        q = QuantizeLinear(x, s, z)
        y = QLinearConv(q, s, z, w, ws, wz, s, z, b)
    }"""
    arrays = {"w": np.ones((4, 3, 3, 3), np.uint8), "ws": np.ones(4, np.float32), "wz": np.zeros(4, np.uint8)}
    found = layers(text, s=scale, z=zero, b=np.ones(4, np.int32), **arrays)
    assert [(layer.op, layer.params, layer.macs) for layer in found] == [
        ("QuantizeLinear", 0, 0), ("QLinearConv", 112, 4 * 36 * 27)
    ]  # fmt: skip
    text = """(float[2,5] x) => (uint8[2,6] y) {
        q = QuantizeLinear(x, s, z)
        h = QLinearMatMul(q, s, z, w, ws, wz, s, z)
        y = com.microsoft.QGemm(h, s, z, g, ws, wz, b, s, z)
    }"""
    arrays = {"w": np.ones((5, 6), np.uint8), "ws": np.ones(6, np.float32), "wz": np.zeros(6, np.uint8)}
    found = layers(text, s=scale, z=zero, g=np.ones((6, 6), np.uint8), b=np.ones(6, np.int32), **arrays)
    assert [(layer.op, layer.params, layer.macs) for layer in found[:2]] == [
        ("QuantizeLinear", 0, 0), ("QLinearMatMul", 30, 30)
    ]  # fmt: skip
    assert (found[2].op, found[2].params) == ("QGemm", 42)


def test_bounds_scales_and_indices_are_no_parameters():
    text = """(float[1,3,8,8] x) => (float[1,3,a,b] y) {
        r = Resize(x, , scales)
        c = Clip(r, low)
        s = Slice(c, starts, ends, axes)
        p = Pad(s, pads, low)
        y = Gather<axis = 2>(p, rows)
    }"""
    found = layers(
        text,
        scales=np.array([1, 1, 2, 2], np.float32),
        low=np.array(0, np.float32),
        starts=np.array([0, 0], np.int32),
        ends=np.array([4, 4], np.int32),
        axes=np.array([2, 3], np.int32),
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        rows=np.array([0, 2], np.int32),
    )
    assert [layer.params for layer in found] == [0] * 5


# --- multiply-accumulates ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kernel", "macs"),
    [
        ("(float[5,3,16] x) => (float[N,C,L] y) { y = Conv(x, w) }", (6, 3, 4), 6 * 13 * 3 * 4),
        ("(float[5,6,9,7] x) => (float[N,C,H,W] y) { y=Conv<group=3, strides=[2,1], pads=[1,0,1,0]>(x, w) }",
         (9, 2, 3, 1), 9 * 5 * 7 * 2 * 3),
        ("(float[N,4,8,8] x) => (float[N,C,H,W] y) { y = Conv<group=4, auto_pad=\"SAME_UPPER\">(x, w) }",
         (4, 1, 3, 3), 4 * 64 * 9),
        ("(float[1,2,4,5,6] x) => (float[N,C,D,H,W] y) { y = Conv(x, w) }", (3, 2, 2, 3, 2),
         3 * 3 * 3 * 5 * 2 * 2 * 3 * 2),
        ("(float[1,4,5,7] x) => (float[N,C,H,W] y) { y = ConvTranspose<strides=[2,2]>(x, w) }", (4, 6, 3, 2),
         4 * 5 * 7 * 6 * 3 * 2),
        ("(float[1,4,5] x) => (float[N,C,L] y) { y = ConvTranspose<group=2>(x, w) }", (4, 3, 3),
         4 * 5 * 3 * 3),
        ("(float[N,5] x) => (float[N,7] y) { y = Gemm(x, w) }", (5, 7), 35),
        ("(float[3,5] x) => (float[N,7] y) { y = Gemm<transB=1>(x, w) }", (7, 5), 35),
        ("(float[5,3] x) => (float[N,7] y) { y = Gemm<transA=1>(x, w) }", (5, 7), 35),
        ("(float[5,3] x) => (float[N,7] y) { y = Gemm<transA=1, transB=1>(x, w) }", (7, 5), 35),
        ("(float[N,9,5] x) => (float[N,9,7] y) { y = MatMul(x, w) }", (5, 7), 9 * 5 * 7),
        ("(float[N,2,9,5] x) => (float[N,2,9,7] y) { y = MatMul(x, w) }", (2, 5, 7), 2 * 9 * 5 * 7),
        ("(float[5] x) => (float[7] y) { y = MatMul(x, w) }", (5, 7), 35),
        ("(float[2,5,9] x) => (float[2,9,7] y) { y = com.microsoft.FusedMatMul<transA=1>(x, w) }",
         (5, 7), 9 * 7 * 5),
        ("(float[N,C,8,8] x) => (float[N,3,a,b] y) { y = Mul(x, w) }", (3, 1, 1), 0),
    ],
)  # fmt: skip
def test_macs_for_one_sample(text, kernel, macs):
    (layer,) = layers(text, w=noise(*kernel))
    assert layer.macs == macs


def test_the_macs_of_attention_count_both_products():
    text = """(float[N,4,9,16] q, float[N,4,16,9] k, float[N,4,9,16] v) => (float[N,4,9,16] y) {
        s = MatMul(q, k)
        a = Softmax<axis = -1>(s)
        y = MatMul(a, v)
    }"""
    assert [layer.macs for layer in layers(text)] == [4 * 9 * 9 * 16, 0, 4 * 9 * 16 * 9]


def test_macs_are_unknown_where_a_size_is():
    (layer,) = layers("(float[N,3,H,W] x) => (float[N,4,a,b] y) { y = Conv(x, w) }", w=noise(4, 3, 3, 3))
    assert (layer.macs, layer.params) == (None, 108)


def test_the_macs_of_the_sample():
    """SqueezeNet 1.1 takes 0.35 G at 224 pixels (Iandola et al. give no number; counted by hand here)."""
    model = load(samples.sample_model()).resized({"input": [1, 3, 224, 224]})
    convolutions = [layer for layer in model.layers if layer.op == "Conv"]
    weights = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load(samples.sample_model()).graph.initializer
    }
    total = 0
    for layer in convolutions:
        node = model.tensor(layer.tensor).producer()
        m, c, kh, kw = weights[node.inputs[1].name].shape
        assert layer.macs == m * c * kh * kw * layer.shape[2] * layer.shape[3]
        total += layer.macs
    assert 0.34e9 < total < 0.36e9


# --- shapes, grids and channels ------------------------------------------------------------------------


def test_shapes_keep_their_symbols():
    found = by_tensor("""(float[batch,3,H,8] x) => (float[batch,3,a,b] y) {
        r = Relu(x)
        p = MaxPool<kernel_shape = [2,2], strides = [2,2]>(r)
        y = Neg(p)
    }""")
    assert found["r"].shape == ("batch", 3, "H", 8)
    assert found["p"].shape[:2] == ("batch", 3)
    assert found["p"].shape[3] == 4
    assert not isinstance(found["p"].shape[2], int)


def places(layer):
    return layer.grid, layer.channel


def test_maps_in_front_of_the_channels():
    found = by_tensor(
        """(float[N,3,8,8] x) => (float[N,10] y) {
            n = Sub(x, mean)
            c = Conv(n, w)
            r = Relu(c)
            p = MaxPool<kernel_shape = [2,2]>(r)
            g = GlobalAveragePool(p)
            f = Flatten(g)
            y = Gemm(f, h)
        }""",
        mean=noise(3, 1, 1),
        w=noise(4, 3, 3, 3),
        h=noise(4, 10),
    )
    for tensor in "ncrp":
        assert places(found[tensor]) == ((2, 3), 1)
        assert found[tensor].is_spatial
    assert [found[tensor].channels for tensor in "ncrpy"] == [3, 4, 4, 4, 10]
    assert not found["g"].is_spatial
    assert places(found["f"]) == places(found["y"]) == ((), 1)
    assert not found["y"].is_spatial


def test_maps_behind_the_channels():
    """As TensorFlow lays them out, with a transposition around each convolution."""
    found = by_tensor(
        """(float[N,8,8,3] x) => (float[N,8,8,4] y) {
            n = Mul(x, k)
            t = Transpose<perm = [0,3,1,2]>(n)
            c = Conv<auto_pad = "SAME_UPPER">(t, w)
            b = Transpose<perm = [0,2,3,1]>(c)
            y = Relu(b)
        }""",
        k=noise(3),
        w=noise(4, 3, 3, 3),
    )
    assert {tensor: places(layer) for tensor, layer in found.items()} == {
        "n": ((1, 2), 3), "t": ((2, 3), 1), "c": ((2, 3), 1), "b": ((1, 2), 3), "y": ((1, 2), 3)
    }  # fmt: skip
    assert [found[tensor].channels for tensor in "ntcby"] == [3, 3, 4, 4, 4]
    assert found["y"].receptive_field == ReceptiveField((3, 3), (1, 1), (-1, -1))


def test_operators_in_onnxruntimes_own_layout_name_no_places():
    """NhwcMaxPool has its channels last: its axes are not those that a MaxPool slides over."""
    found = by_tensor("""(uint8[1,8,8,3] x) => (uint8[1,4,4,3] z) {
        n = Identity(x)
        y = com.microsoft.NhwcMaxPool<kernel_shape = [2,2], strides = [2,2]>(n)
        z = Identity(y)
    }""")
    assert places(found["n"]) == ((), None)


def test_tokens_have_the_maps_of_the_grid_that_they_were_cut_from():
    found = by_tensor(
        """(float[N,3,8,8] x) => (float[N,16,5] y) {
            c = Conv<strides = [2,2]>(x, w)
            r = Reshape(c, s)
            t = Transpose<perm = [0,2,1]>(r)
            m = MatMul(t, v)
            y = Softmax<axis = -1>(m)
        }""",
        w=noise(6, 3, 2, 2),
        s=np.array([0, 6, 16]),
        v=noise(6, 5),
    )
    assert places(found["c"]) == ((2, 3), 1)
    assert places(found["r"]) == ((2,), 1)
    for tensor in "tmy":
        assert places(found[tensor]) == ((1,), 2)
    assert [found[tensor].channels for tensor in "rtmy"] == [6, 6, 5, 5]
    for tensor in "rtmy":
        assert found[tensor].tokens == (0, 4, 4)
        assert found[tensor].receptive_field is None
        assert found[tensor].is_spatial


def test_sound_and_volumes():
    found = by_tensor(
        "(float[N,1,100] x) => (float[N,4,49] y) { c = Conv<strides=[2]>(x, w) y = Relu(c) }",
        w=noise(4, 1, 3),
    )
    assert places(found["y"]) == ((2,), 1)
    assert found["y"].receptive_field == ReceptiveField((3,), (2,), (0,))
    found = by_tensor(
        "(float[N,1,9,9,9] x) => (float[N,4,7,7,7] y) { c = Conv(x, w) y = Relu(c) }", w=noise(4, 1, 3, 3, 3)
    )
    assert places(found["y"]) == ((2, 3, 4), 1)


def test_a_network_without_convolutions_has_no_places():
    found = by_tensor("(float[N,5] x) => (float[N,7] y) { h = Gemm(x, w) y = Relu(h) }", w=noise(5, 7))
    assert places(found["h"]) == places(found["y"]) == ((), 1)
    assert found["h"].receptive_field is None


def test_a_kernel_of_unknown_size_is_a_layer_without_a_field():
    (layer,) = layers("(float[1,3,8,8] x, float[a,b,c,d] w) => (float[1,e,f,g] y) { y = Conv(x, w) }")
    assert (layer.op, layer.params, layer.macs, layer.receptive_field) == ("Conv", 0, None, None)
    assert places(layer) == ((2, 3), 1)


def test_a_tensor_of_unknown_rank_is_a_layer():
    found = by_tensor("(float[1,3] x) => (float[1,3] y) { h = custom.Op(x) r = Relu(h) y = Add(r, x) }")
    assert [(layer.tensor, layer.shape) for layer in found.values()] == [
        ("h", None),
        ("r", None),
        ("y", (1, 3)),
    ]
    assert places(found["h"]) == ((), None)
    assert (found["h"].channels, found["h"].is_spatial) == (None, False)


@pytest.mark.parametrize(
    ("shape", "channel", "grid", "channels", "spatial"),
    [
        ((1, 8, 4, 4), 1, (2, 3), 8, True),
        ((1, 8, 1, 1), 1, (2, 3), 8, False),
        ((1, 8, 1, 5), 1, (2, 3), 8, True),
        ((1, "C", "H", 1), 1, (2, 3), None, True),
        ((1, 8, None, 1), 1, (2, 3), 8, True),
        ((1, 8), 1, (), 8, False),
        ((1, 8, 8), None, (), None, False),
        ((1, 8, 4, 4), None, (2, 3), None, False),
        (None, None, (), None, False),
    ],
)
def test_what_a_layer_says_of_its_maps(shape, channel, grid, channels, spatial):
    layer = Layer(0, "a", "a", "Relu", None, shape, 0, 0, None, grid, channel)
    assert (layer.channels, layer.is_spatial) == (channels, spatial)


# --- as JSON -------------------------------------------------------------------------------------------


def test_a_layer_as_json():
    found = layers(
        """(float[N,3,8,8] x) => (float[N,7] y) {
            c = Conv<strides = [2,2], pads = [1,1,0,0]>(x, w)
            u = Resize(c, , scales)
            g = GlobalAveragePool(u)
            f = Flatten(g)
            y = Gemm(f, v)
        }""",
        w=noise(4, 3, 3, 3),
        scales=np.array([1, 1, 4, 4], np.float32),
        v=noise(4, 7),
    )
    table = json.loads(json.dumps([layer.to_dict() for layer in found], allow_nan=False))
    assert table[0] == {
        "index": 0,
        "name": "c",
        "tensor": "c",
        "op": "Conv",
        "module": None,
        "shape": ["N", 4, 4, 4],
        "params": 108,
        "macs": 4 * 16 * 27,
        "receptive_field": {"size": [3, 3], "stride": [2, 2], "offset": [-1, -1]},
    }
    assert all(
        isinstance(number, int) for numbers in table[0]["receptive_field"].values() for number in numbers
    )
    assert table[1]["receptive_field"] == {"size": [4.5, 4.5], "stride": [0.5, 0.5], "offset": [-2.5, -2.5]}
    assert table[3]["receptive_field"] is None
    assert [row["index"] for row in table] == [0, 1, 2, 3, 4]
    assert table[4]["params"] == 28


def test_the_sample_as_json():
    table = [layer.to_dict() for layer in load(samples.sample_model()).layers]
    assert json.loads(json.dumps(table)) == table
    assert len(table) == len({row["name"] for row in table})
    assert sum(row["op"] == "Conv" for row in table) == 26
