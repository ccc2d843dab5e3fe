"""Every operator that has a rule, in each of its versions from opset 7 on, loaded as the file has it."""

from collections.abc import Iterator

import numpy as np
import onnx
import onnx.defs
import onnxruntime
import pytest
from autodiff.cases import CASES, quantization
from autodiff.cases.table import Case, cases, feeds_of, floats_of, model_of, newest_opset

from onnxviz._reference.evaluator import run
from onnxviz.autodiff.ruleset import GRADIENT, zero_everywhere
from onnxviz.autodiff.variants import GRADIENTS
from onnxviz.graph.model import load
from onnxviz.testing import check_gradient

IR_VERSIONS = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9}

# Forms that an operator has left behind: what was an attribute is an input now, or the other way round.
_LAYER = "double[4,2,3] x, double[1,{0},3] w, double[1,{0},2] r"
OLD_FORMS = {
    ("GRU", 7): Case(_LAYER.format(6), "y, last = GRU<hidden_size=2>(x, w, r)"),
    ("LSTM", 7): Case(_LAYER.format(8), "y, last, cell = LSTM<hidden_size=2>(x, w, r)"),
    ("RNN", 7): Case(_LAYER.format(2), "y, last = RNN<hidden_size=2>(x, w, r)"),
    ("SequenceEmpty", 11): Case(
        "double[3] a",
        "n = SequenceEmpty<dtype=DOUBLE>() t = SequenceInsert(n, a) z = ConcatFromSequence<axis=0>(t) "
        "r = Constant<value=int64[1]{3}>() y = Reshape(z, r)",
    ),
    ("Pad", 7): Case("double[2,3] a", "y = Pad<pads=[0,1,1,0], value=0.5>(a)"),
    ("Resize", 10): Case(
        "double[1,1,2,4] a", 's = Constant<value=float[4]{1,1,2,2}>() y = Resize<mode="linear">(a, s)'
    ),
    ("Resize", 11): Case(
        "double[1,1,2,4] a",
        "r = Constant<value=float[0]{}>() s = Constant<value=float[4]{1,1,2,2}>() "
        'y = Resize<mode="cubic">(a, r, s)',
    ),
    ("GroupNormalization", 18): Case(
        "double[2,4,3] a, double[2] s, double[2] b", "y = GroupNormalization<num_groups=2>(a, s, b)"
    ),
    ("Scan", 8): Case(
        "double[2,3] h, double[2,5,3] xs",
        "last, y = Scan<num_scan_inputs=1, body = b (double[3] s, double[3] x) => (double[3] t, double[3] o) "
        '{ t = Mul(s, x) o = Exp(t) }>("", h, xs)',
    ),
    ("Slice", 7): Case("double[4,5] a", "y = Slice<starts=[1,-3], ends=[3,9], axes=[0,1]>(a)"),
    ("Split", 7): Case("double[5,2] a", "b, c = Split<split=[2,3]>(a) d = Exp(b) y = Concat<axis=0>(d, c)"),
    ("Split", 11): Case("double[5,2] a", "b, c = Split<split=[2,3]>(a) d = Exp(b) y = Concat<axis=0>(d, c)"),
    ("TopK", 7): Case("double[3,5] a", "v, i = TopK<k=2, axis=1>(a) y = Exp(v)"),
    ("TopK", 10): Case(
        "double[3,5] a", "k = Constant<value=int64[1]{2}>() v, i = TopK<axis=0>(a, k) y = Exp(v)"
    ),
    ("TopK", 11): Case(
        "double[3,5] a", "k = Constant<value=int64[1]{2}>() v, i = TopK<largest=0>(a, k) y = Exp(v)"
    ),
    ("Unique", 11): Case("double[4] a", "u, i = Unique(a) y = Exp(u)", feeds={"a": [3, 1, 2, 4]}),
    ("Range", 11): Case(
        "double a, double d",
        "l = Constant<value=double{3.2}>() y = Range(a, l, d)",
        feeds={"a": 0.5, "d": 0.7},
    ),
    ("GatherND", 11): Case("double[3,2] a", "i = Constant<value=int64[2,1]{2,0}>() y = GatherND(a, i)"),
    ("Compress", 9): Case("double[3,2] a", "c = Constant<value=bool[3]{1,0,1}>() y = Compress<axis=0>(a, c)"),
    ("Compress", 11): Case("double[3,2] a", "c = Constant<value=bool[2]{0,1}>() y = Compress<axis=-1>(a, c)"),
    ("Scatter", 9): Case(
        "double[3,2] a, double[1,2] u", "i = Constant<value=int64[1,2]{2,0}>() y = Scatter<axis=0>(a, i, u)"
    ),
    ("Upsample", 7): Case("double[1,1,2,3] a", 'y = Upsample<mode="linear", scales=[1.0,1.0,2.0,2.0]>(a)'),
    ("Upsample", 9): Case(
        "double[1,1,2,3] a", 's = Constant<value=float[4]{1,1,2,3}>() y = Upsample<mode="nearest">(a, s)'
    ),
    ("Unsqueeze", 7): Case("double[2,3] a", "y = Unsqueeze<axes=[0,2]>(a)"),
    ("Unsqueeze", 11): Case("double[2,3] a", "y = Unsqueeze<axes=[-1]>(a)"),
}


# Where ONNX Runtime has no kernel for the first case, or one that fails.
NO_KERNEL = [("GlobalLpPool", 22), ("GridSample", 20), ("GridSample", 22), ("RoiAlign", 22), ("STFT", 17)]


def versions(operator: str) -> Iterator[int]:
    """The opsets at which an operator changed, and the first that is supported."""
    since = sorted(s.since_version for s in SCHEMAS if s.name == operator)
    yield from (max(v, 7) for v, after in zip(since, [*since[1:], 99], strict=True) if after > 7)


SCHEMAS = [schema for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""]
OPERATORS = sorted(
    {
        name
        for rules in GRADIENTS
        for name, rule in rules.by_type.items()
        if onnx.defs.has(name) and name not in quantization.OPERATORS and rule is not zero_everywhere
    }
)
PAIRS = [(operator, opset) for operator in OPERATORS for opset in versions(operator)]
PAIRS += [("Scatter", 9), ("Upsample", 7), ("Upsample", 9)]  # which others have replaced


def model_at(case: Case, opset: int, dtype: str) -> onnx.ModelProto | None:
    """The case as a file of that opset; None where the standard has it not."""
    model = model_of(case, dtype, opset)
    model.ir_version = IR_VERSIONS.get(opset, 10)
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = model.ir_version, {"": opset}
    try:
        for node in model.graph.node:
            captures = any(attribute.HasField("g") for attribute in node.attribute)
            if not captures and node.op_type != "GroupNormalization":  # whose first form is deprecated
                onnx.checker.check_node(node, context)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return None
    return model


def case_at(operator: str, opset: int) -> tuple[Case, onnx.ModelProto]:
    candidates = [CASES[key] for key in cases(operator)]
    candidates = [case for case in candidates if case.since <= max(opset, 18) < case.until]
    if (operator, opset) in OLD_FORMS:
        candidates = [OLD_FORMS[operator, opset]]
    for case in candidates:
        model = model_at(case, opset, "float")
        if model is not None:
            return case, model
    pytest.fail(f"no case of {operator} is valid at opset {opset}; give one in OLD_FORMS")


@pytest.mark.parametrize(("operator", "opset"), PAIRS)
def test_gradient_of_every_version(operator: str, opset: int) -> None:
    case, model = case_at(operator, opset)
    feeds = feeds_of(case)
    assert check_gradient(model, "y", floats_of(case), inputs=feeds) < 1e-2
    if opset <= newest_opset() and opset < case.forward and (operator, opset) not in NO_KERNEL:
        narrow = {name: v.astype(np.float32) if v.dtype == np.float64 else v for name, v in feeds.items()}
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (y,) = session.run(None, narrow)
        np.testing.assert_allclose(run(load(model), narrow)["y"], y, rtol=1e-4, atol=1e-5)


def test_every_operator_of_the_standard_that_is_differentiable_has_a_rule_or_a_body() -> None:
    """The standard tags what is differentiable; a function body serves where no rule is written."""
    differentiable = onnx.defs.OpSchema.DifferentiationCategory.Differentiable
    newest = {schema.name: schema for schema in sorted(SCHEMAS, key=lambda schema: schema.since_version)}
    tagged = {
        name
        for name, schema in newest.items()
        if any(p.differentiation_category == differentiable for p in (*schema.inputs, *schema.outputs))
    }
    assert len(tagged) > 120
    bodies = {n for n, s in newest.items() if s.has_function or s.has_context_dependent_function}
    assert tagged - set(GRADIENT.by_type) - bodies == {"Scatter"}  # ScatterElements, when it is loaded
