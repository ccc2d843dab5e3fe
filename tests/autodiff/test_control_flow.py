"""Bodies: where paths end in them, what is kept for the way back, second order."""

import numpy as np
import onnx
import onnxruntime
import pytest
from autodiff.cases import CASES
from autodiff.cases.table import Case, feeds_of, floats_of, model_of

from onnxviz._reference.evaluator import run
from onnxviz.autodiff.pullback import gradient
from onnxviz.autodiff.ruleset import GRADIENT, ZERO
from onnxviz.errors import DisconnectedError, UnsupportedOperator
from onnxviz.graph.flow import nested_graphs
from onnxviz.graph.model import Model, load
from onnxviz.testing import check_gradient

LOOP = "n = Constant<value=int64{3}>() on = Constant<value=bool{1}>()"


STRAIGHT = GRADIENT.override(
    "straight",
    {
        "QuantizeLinear": lambda _op, _node, g: (g, ZERO, ZERO),
        "DequantizeLinear": lambda _op, _node, g: (g, ZERO, ZERO),
    },
)


def named(inputs: str, body: str) -> onnx.ModelProto:
    """The model, each node named after its operator."""
    model = model_of(Case(inputs, body))

    def name(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            node.name = f"the {node.op_type.lower()}"
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    name(attribute.g)

    name(model.graph)
    return model


def loop(
    turn: str, inputs: str = "double[3] s", outputs: str = "double[3] t", given: str = "a", made: str = "y"
) -> str:
    return (
        f"{LOOP} {made} = Loop<body = b (int64 i, bool c, {inputs}) => (bool d, {outputs}) "
        f"{{ d = Identity(c) {turn} }}>(n, on, {given})"
    )


SCAN = "Scan<num_scan_inputs=1, body = b (double[3] s, double[3] x) => (double[3] t, double[3] o)"

# (the inputs, the body, the nodes where all paths from a end)
STOPPED = {
    "both-branches": (
        "double[3] a, bool k",
        "y = If<then_branch = p () => (double[3] u) { u = Round(a) }, "
        "else_branch = q () => (double[3] v) { w = Floor(a) v = Neg(w) }>(k)",
        "Round node 'the round', Floor node 'the floor'",
    ),
    "condition": (
        "double[3] a, double[3] b",
        "zero = Constant<value=double{0}>() sum = ReduceSum<keepdims=0>(a) k = Greater(sum, zero) "
        "y = If<then_branch = p () => (double[3] u) { u = Neg(b) }, "
        "else_branch = q () => (double[3] v) { v = Exp(b) }>(k)",
        "If node 'the if'",
    ),
    "carried": ("double[3] a, double[3] b", loop("r = Round(s) t = Mul(r, b)"), "Round node 'the round'"),
    "carried-beside": (
        "double[3] a, double[3] b",
        loop(
            "r = Ceil(x) t = Add(s, r) z = Identity(x)",
            "double[3] s, double[3] x",
            "double[3] t, double[3] z",
            "b, a",
            "y, last",
        ),
        "Ceil node 'the ceil'",
    ),
    "captured": (
        "double[3] a, double[3] b",
        loop("r = Sign(a) t = Add(s, r)", given="b"),
        "Sign node 'the sign'",
    ),
    "scanned": (
        "double[3] b, double[4,3] a",
        f"last, y = {SCAN} {{ o = Floor(x) t = Add(s, o) }}>(b, a)",
        "Floor node 'the floor'",
    ),
    "state": (
        "double[3] a, double[4,3] b",
        f"last, y = {SCAN} {{ v = Sign(s) t = Add(v, x) o = Identity(t) }}>(a, b)",
        "Sign node 'the sign'",
    ),
    "nested": (
        "double[3] a, double[3] h, double[4,3] b",
        f"last, y = {SCAN} {{ {loop('r = Round(a) t2 = Mul(s2, r)', 'double[3] s2', 'double[3] t2', 's')} "
        "t = Identity(y) o = Add(y, x) }>(h, b)",
        "Round node 'the round'",
    ),
}


@pytest.mark.parametrize("key", STOPPED)
def test_path_that_ends_inside_names_the_node(key: str) -> None:
    inputs, body, blamed = STOPPED[key]
    with pytest.raises(DisconnectedError, match=rf"zero everywhere.*\({blamed}\)"):
        gradient(named(inputs, body), of="y", wrt="a")


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        (
            "double[3] a, bool k",
            "y = If<then_branch = p () => (double[3] u) { u = Neg(a) }, "
            "else_branch = q () => (double[3] v) { v = my.domain.Odd(a) }>(k)",
        ),
        ("double[3] a", loop("t = my.domain.Odd(s)")),
        ("double[3] b, double[4,3] a", f"last, y = {SCAN} {{ o = my.domain.Odd(x) t = Neg(s) }}>(b, a)"),
    ],
)
def test_operator_without_a_rule_inside_is_named(inputs: str, body: str) -> None:
    with pytest.raises(
        UnsupportedOperator, match=r"no 'gradient' rule .* my\.domain::Odd \(node 'the odd'\)"
    ):
        gradient(named(inputs, body), of="y", wrt="a")


def test_optional_that_a_loop_carries_is_refused() -> None:
    body = (
        f"{LOOP} o = Optional(a) q = Loop<body = b (int64 i, bool c, optional(double[3]) s) => "
        "(bool d, optional(double[3]) t) { d = Identity(c) e = OptionalGetElement(s) f = Exp(e) "
        "t = Optional(f) }>(n, on, o) y = OptionalGetElement(q)"
    )
    with pytest.raises(UnsupportedOperator, match="Loop node 'the loop' carries the optional 's'"):
        gradient(named("double[3] a", body), of="y", wrt="a")


def test_odd_operator_beside_the_path_does_not_matter() -> None:
    body = loop(
        "t = Exp(s) z = my.domain.Odd(x)",
        "double[3] s, double[3] x",
        "double[3] t, double[3] z",
        "a, a",
        "y, odd",
    )
    derived = gradient(named("double[3] a", body), of="y", wrt="a")
    assert derived.gradients == {"a": "a_grad"}


# What is kept for the way back


def operators(model: Model) -> list[str]:
    """The operators that hold nested graphs."""
    return [node.op_type for node in model.ir_model.graph if any(True for _ in nested_graphs(node))]


@pytest.mark.parametrize(
    ("inputs", "body", "kept"),
    [
        ("double[3] a, double[3] w", loop("t = Mul(s, w)"), ["Loop"]),
        ("double[3] a, double[3] w", loop("t = Tanh(s)"), ["Loop", "Loop"]),
        ("double[3] a, double[4,3] x", f"y, last = {SCAN} {{ t = Add(s, x) o = Neg(t) }}>(a, x)", ["Scan"]),
        (
            "double[3] a, double[4,3] x",
            f"y, last = {SCAN} {{ t = Tanh(s) o = Neg(t) }}>(a, x)",
            ["Scan", "Scan"],
        ),
        (
            "double[4,3] x, double[3] a",
            "s = SplitToSequence<axis=0>(x) r = SequenceMap<body = b (double[1,3] p) => (double[1,3] z) "
            "{ z = Mul(p, a) }>(s) y = ConcatFromSequence<axis=0>(r)",
            ["SequenceMap", "Loop", "SequenceMap"],
        ),
    ],
)
def test_only_what_the_way_back_reads_is_saved(inputs: str, body: str, kept: list[str]) -> None:
    derived = gradient(model_of(Case(inputs, body)), of="y", wrt="a")
    assert sorted(operators(derived)) == sorted(kept)


def test_way_back_carries_only_what_is_reached() -> None:
    turn, carried, after = "t = Tanh(s) z = Exp(x)", "double[3] s, double[3] x", "double[3] t, double[3] z"
    body = f"{loop(turn, carried, after, 'a, b', 'p, q')} y = Add(p, q)"
    derived = gradient(model_of(Case("double[3] a, double[3] b", body)), of="y", wrt="a")
    back = [node for node in derived.ir_model.graph if node.op_type == "Loop"][-1]
    assert len(back.outputs) == 1


def test_weight_that_a_body_captures() -> None:
    case = Case("double[3] a", loop("t = Mul(s, w)"))
    model = model_of(case)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1.0, 2.0, 3.0]), "w"))
    assert check_gradient(model, of="y", wrt=["w", "a"]) < 1e-6


def test_integer_that_a_branch_captures_is_stepped_over() -> None:
    inputs = "float[3] a, float one, uint8 zero, bool k"
    body = (
        "q = QuantizeLinear(a, one, zero) y = If<then_branch = p () => (float[3] u) "
        "{ u = DequantizeLinear(q, one, zero) }, else_branch = o () => (float[3] v) { v = Neg(a) }>(k)"
    )
    derived = gradient(model_of(Case(inputs, body)), of="y", wrt="a", rules=STRAIGHT)
    feeds = {"a": [1, 2, 3], "one": 1, "zero": 0, "y_grad": [5, 6, 7]}
    given = {name: np.asarray(v, np.uint8 if name == "zero" else np.float32) for name, v in feeds.items()}
    for k, want in ((True, [5, 6, 7]), (False, [-5, -6, -7])):
        np.testing.assert_array_equal(run(derived, {**given, "k": np.array(k)})["a_grad"], want)


# Second order: what is differentiated again, and with respect to what

SECOND = {
    "If-branches-True": "a b c",
    "If-nested-False": "a b",
    "Scan-both": "h xs w",
    "Scan-several": "h xs",
    "Loop-for-true": "h w",
    "Loop-while": "h w",
    "Loop-grows": "h w",
    "Loop-unknown-rank-grows": "w",
    "Loop-if-by-turn": "h w",
    "Loop-carries-a-sequence": "h w",
    "SequenceAt-fed-3": "a",
    "SequenceMap-captures": "a w",
    "RNN-plain": "x w r b h",
    "GRU-lengths-both": "x w r b h",
    "LSTM-peepholes": "x w r b h c q",
}


@pytest.mark.parametrize("key", SECOND)
def test_second_order(key: str) -> None:
    """The gradient of a gradient, against differences in float64 and on ONNX Runtime in float32."""
    case = CASES[key]
    of, wrt, feeds = floats_of(case)[0], SECOND[key].split(), feeds_of(case)
    (y,) = run(load(model_of(case)), feeds).values()
    rng = np.random.default_rng(1)
    feeds["y_grad"] = rng.standard_normal(y.shape)
    first = gradient(model_of(case), "y", of)
    check_gradient(first, f"{of}_grad", wrt, inputs=feeds)
    seed = {f"{of}_grad_grad": rng.standard_normal(feeds[of].shape)}
    want = run(gradient(first, f"{of}_grad", wrt), {**feeds, **seed})
    single = gradient(gradient(model_of(case, "float"), "y", of), f"{of}_grad", wrt)
    onnx.checker.check_model(single.proto(), full_check=True)
    session = onnxruntime.InferenceSession(single.serialize(), providers=["CPUExecutionProvider"])
    given = {name: v.astype(np.float32) if v.dtype == np.float64 else v for name, v in (feeds | seed).items()}
    for name, got in zip(want, session.run(None, given), strict=True):
        scale = max(np.abs(want[name]).max(), 1e-6)
        np.testing.assert_allclose(got, want[name], rtol=0, atol=1e-4 * scale, err_msg=name)
