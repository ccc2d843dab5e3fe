"""Differentiate every case of the standard's own conformance suite and compare with finite differences.

    python3 scripts/conformance.py                     all of it: the figure to quote
    python3 scripts/conformance.py --sample 100        a seeded sample
    python3 scripts/conformance.py attention gru       the cases whose name holds one of these words

The cases are those of `onnx.backend.test.loader.load_model_tests(kind="node")`. Each output of floats is
differentiated with respect to each input of floats, along random directions, at inputs nudged off kinks.
Every case gets one verdict:

    float64            agrees with central differences in float64 (relative error 1e-6)
    float32            as float64, where an operator or the evaluator has no float64 (relative error 1e-2)
    straight-through   a quantiser: with a dequantiser behind it equal to the straight-through definition
    none               not differentiable, with the reason; that it is constant was seen by differences
    wrong, refused     failures; the exit code is then 1

Nothing is left out.
"""

import argparse
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.backend.test.loader
from onnx.backend.test.case.test_case import TestCase

from onnxviz._reference.differences import TOLERANCE, compare
from onnxviz._reference.evaluator import run
from onnxviz.autodiff.pullback import gradient
from onnxviz.errors import DisconnectedError, UnsupportedOperator
from onnxviz.graph.expose import expose
from onnxviz.graph.model import Model, load

Array = npt.NDArray[Any]

FAILURES = ("wrong", "refused")
KINDS = ("float64", "float32", "straight-through")
_TYPES = onnx.TensorProto
FLOATS = (_TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.FLOAT16, _TYPES.BFLOAT16)
QUANTISERS = ("QuantizeLinear", "DynamicQuantizeLinear")
INTEGERS = {kind for name, kind in _TYPES.DataType.items() if "INT" in name}
RANDOM = ("Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike")
# Functions that are defined on [-1, 1] alone are nudged inwards.
INWARDS = ("Asin", "Acos", "Atanh")


@dataclass(frozen=True)
class Verdict:
    """What became of a case, and why."""

    case: str
    operator: str
    kind: str
    why: str = ""


def suite() -> list[TestCase]:
    """All cases, in the order of their names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite computes infinities on purpose
        return sorted(onnx.backend.test.loader.load_model_tests(kind="node"), key=lambda case: case.name)


def judge(case: TestCase) -> Verdict:
    """One case's verdict; whatever fails is one too."""
    operator = case.model.graph.node[0].op_type if case.model is not None else ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind, why = _judge(case)
        except UnsupportedOperator as err:
            kind, why = "refused", str(err)
        except Exception as err:
            kind, why = "wrong", f"{type(err).__name__}: {err}"
    return Verdict(case.name, operator, kind, " ".join(why.split()))


def _judge(case: TestCase) -> tuple[str, str]:
    proto, feeds = with_tensors(case)
    if (
        proto.graph.node[0].op_type in QUANTISERS
        and proto.graph.output[0].type.tensor_type.elem_type in INTEGERS
    ):
        return _straight_through(proto, feeds)
    sources = [v.name for v in proto.graph.input if v.type.tensor_type.elem_type in FLOATS]
    targets = [v.name for v in proto.graph.output if v.type.tensor_type.elem_type in FLOATS]
    if not sources:
        return "none", "no input of floats"
    if not targets:
        return "none", "no output of floats"
    model = load(proto)
    nudged = _nudged(proto, feeds, sources)
    kinds, stopped = list[str](), list[str]()
    for target in targets:
        reached = []
        for source in sources:
            try:
                gradient(model, target, source)
            except DisconnectedError as err:
                stopped.append(str(err))
                _expect_constant(model, target, source, feeds)
                continue
            except UnsupportedOperator:
                if not _is_tagged_constant(proto, source):
                    raise
                stopped.append(f"no derivative by {source}, tagged so")
                continue
            reached.append(source)
        if reached:
            found = compare(model, target, reached, nudged, "auto", seed=0, step=1e-6, tolerance=None)
            worst = max(found.slopes, key=lambda slope: slope.error)
            if not worst.error <= TOLERANCE[found.in_double]:
                return "wrong", f"d {target} / d {worst.name}: {worst.exact:.6g}, not {worst.numeric:.6g}"
            kinds.append("float64" if found.in_double else "float32")
    return (max(kinds, key=KINDS.index), "") if kinds else ("none", stopped[0])


def _straight_through(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> tuple[str, str]:
    """Quantised and dequantised again, x passes its cotangent on where it came back to within half a step."""
    node = proto.graph.node[0]
    x, scale, zero = (
        (*node.input, "")[:3] if node.op_type == "QuantizeLinear" else (node.input[0], *node.output[1:])
    )
    kept = [attribute for attribute in node.attribute if attribute.name in ("axis", "block_size")]
    y = onnx.helper.make_node("DequantizeLinear", [node.output[0], scale, zero], ["y_floats"])
    ones = onnx.helper.make_node("CastLike", ["one", node.output[0]], ["ones"])
    steps = onnx.helper.make_node("DequantizeLinear", ["ones", scale], ["steps"])
    for back in (y, steps):
        back.attribute.extend(kept)
    one = onnx.numpy_helper.from_array(np.ones(feeds[x].shape, np.int8), "one")
    proto.graph.initializer.append(one)
    proto.graph.node.extend([y, ones, steps])
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("y_floats", "steps"))
    proto.opset_import[0].version = max(proto.opset_import[0].version, 21)
    model = load(proto)
    derived = gradient(model, "y_floats", x)
    if derived.rules != "straight-through":
        return "wrong", f"differentiated by the rules {derived.rules!r}"
    feeds = {**feeds, x: _nudged(proto, feeds, [x])[x].astype(feeds[x].dtype)}
    u = np.random.default_rng(0).standard_normal(feeds[x].shape).astype(feeds[x].dtype)
    found = run(derived, {**feeds, str(derived.cotangent): u})[derived.gradients[x]]
    here = run(model, feeds)
    missed = np.abs(here["y_floats"].astype(np.float64) - feeds[x])
    want = np.where(missed <= 0.501 * here["steps"].astype(np.float64), u, 0)
    np.testing.assert_allclose(found, want, rtol=1e-3)
    return "straight-through", ""


def with_tensors(case: TestCase) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The case's model and what to feed it; sequences and optionals are made of tensors inside the model."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    feeds: dict[str, Array] = {}
    given, expected = (case.data_sets or [((), ())])[0]
    inputs = list(proto.graph.input)
    made = []
    del proto.graph.input[:]
    for info, data in zip(inputs, given, strict=True):
        if info.type.HasField("tensor_type"):
            feeds[info.name] = _array(data)
            proto.graph.input.append(info)
            continue
        parts = [] if data is None else data if isinstance(data, list) else [data]
        names = [f"{info.name}_{place}" for place in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            feeds[name] = _array(part)
            kind = onnx.helper.np_dtype_to_tensor_dtype(feeds[name].dtype)
            proto.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, feeds[name].shape))
        made += list(_made_of(info, names))
    outputs = list(proto.graph.output)
    del proto.graph.output[:]
    taken = []
    for info, data in zip(outputs, expected, strict=True):
        if info.type.HasField("tensor_type"):
            proto.graph.output.append(info)
            continue
        source = info.name
        if info.type.HasField("optional_type"):
            source = f"{info.name}_held"
            taken.append(onnx.helper.make_node("OptionalGetElement", [info.name], [source]))
        for place, part in enumerate(data if isinstance(data, list) else [data]):
            name = source if not isinstance(data, list) else f"{info.name}_{place}"
            if isinstance(data, list):
                index = onnx.helper.make_node("Constant", [], [f"{name}_at"], value_int=place)
                taken += [index, onnx.helper.make_node("SequenceAt", [source, f"{name}_at"], [name])]
            kind = onnx.helper.np_dtype_to_tensor_dtype(_array(part).dtype)
            proto.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, _array(part).shape))
    nodes = [*made, *proto.graph.node, *taken]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    for node in proto.graph.node:
        if node.op_type == "Dropout" and not any(attribute.name == "seed" for attribute in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("seed", 0))
    return proto, feeds


def _made_of(info: onnx.ValueInfoProto, names: Sequence[str]) -> Iterator[onnx.NodeProto]:
    """Nodes that make a sequence or an optional of tensors."""
    optional = info.type.HasField("optional_type")
    inner = info.type.optional_type.elem_type if optional else info.type
    held = f"{info.name}_held" if optional else info.name
    if inner.HasField("sequence_type"):
        if names:
            yield onnx.helper.make_node("SequenceConstruct", names, [held])
        else:
            kind = inner.sequence_type.elem_type.tensor_type.elem_type
            yield onnx.helper.make_node("SequenceEmpty", [], [held], dtype=kind)
    elif names:
        held = names[0]
    if optional:
        empty = not names and not inner.HasField("sequence_type")
        yield onnx.helper.make_node(
            "Optional", [] if empty else [held], [info.name], **({"type": inner} if empty else {})
        )


def _array(data: Any) -> Array:
    return onnx.numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else np.asarray(data)


def _nudged(proto: onnx.ModelProto, feeds: Mapping[str, Array], sources: Sequence[str]) -> dict[str, Array]:
    """The inputs in float64, a little off where they were: no ties, no zeros, no ends of ranges."""
    inwards = any(node.op_type in INWARDS for node in proto.graph.node)
    rng = np.random.default_rng(0)
    nudged = dict(feeds)
    for name in sources:
        x, noise = feeds[name].astype(np.float64), rng.uniform(0.002, 0.02, feeds[name].shape)
        nudged[name] = x * (1 - 5 * noise) if inwards else x + noise
    return nudged


def _expect_constant(model: Model, target: str, source: str, feeds: Mapping[str, Array]) -> None:
    """An output that is declared constant in an input must not move with it."""
    if not np.issubdtype(feeds[source].dtype, np.floating) or _draws_numbers(model):
        return
    here = run(expose(model, target), feeds)[target]
    step = np.asarray(feeds[source] * 1e-3 + 1e-6, feeds[source].dtype)
    moved = run(expose(model, target), {**feeds, source: feeds[source] + step})[target]
    if here.shape == moved.shape and not np.array_equal(here, moved, equal_nan=True):
        changed = float(np.mean(here != moved))
        if changed > 0.5:
            raise AssertionError(f"{target} is declared constant in {source}, but {changed:.0%} of it moved")


def _is_tagged_constant(proto: onnx.ModelProto, source: str) -> bool:
    """Whether a case of one node reads `source` as an input that the standard tags non-differentiable."""
    [node] = proto.graph.node if len(proto.graph.node) == 1 else [onnx.NodeProto()]
    if node.domain or source not in node.input:
        return False
    schema = onnx.defs.get_schema(node.op_type, proto.opset_import[0].version)
    tag = onnx.defs.OpSchema.DifferentiationCategory.NonDifferentiable
    return bool(schema.inputs[list(node.input).index(source)].differentiation_category == tag)


def _draws_numbers(model: Model) -> bool:
    return any(node.op_type in RANDOM for node in model.ir_model.graph)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="only the cases whose name holds one of these")
    parser.add_argument("--sample", type=int, metavar="N", help="N cases, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--list", action="store_true", help="print every verdict, not the failures alone")
    arguments = parser.parse_args()
    cases = [c for c in suite() if not arguments.words or any(w in c.name for w in arguments.words)]
    if arguments.sample is not None:
        chosen = np.random.default_rng(arguments.seed).permutation(len(cases))[: arguments.sample]
        cases = [cases[place] for place in sorted(chosen)]
    verdicts = []
    for case in cases:
        verdicts.append(judge(case))
        if arguments.list or verdicts[-1].kind in FAILURES:
            print(f"{verdicts[-1].kind:16} {case.name}: {verdicts[-1].why}", flush=True)
    print(summary(verdicts))
    return int(any(verdict.kind in FAILURES for verdict in verdicts))


def summary(verdicts: Sequence[Verdict]) -> str:
    """The reasons for which cases are not differentiable, and the figures."""
    reasons = Counter(_reason(verdict) for verdict in verdicts if verdict.kind == "none")
    lines = [f"{count:6}  {reason}" for reason, count in reasons.most_common()]
    counts = Counter(verdict.kind for verdict in verdicts)
    differentiable = len(verdicts) - counts["none"]
    agree = differentiable - sum(counts[kind] for kind in FAILURES)
    lines.append(
        f"{agree} of {differentiable} differentiable cases agree ({counts['float64']} in float64, "
        f"{counts['float32']} in float32, {counts['straight-through']} straight-through), {counts['wrong']} "
        f"wrong, {counts['refused']} refused; {counts['none']} of {len(verdicts)} are not differentiable"
    )
    return "\n".join(lines)


def _reason(verdict: Verdict) -> str:
    """Why a case is not differentiable, the same for all cases of an operator."""
    if verdict.why.startswith("no "):
        return verdict.why
    blame = re.findall(r"(\w+) node", verdict.why)
    return f"constant: {', '.join(sorted(set(blame)))}" if blame else f"{verdict.operator}: {verdict.why}"


if __name__ == "__main__":
    sys.exit(main())
