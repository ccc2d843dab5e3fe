"""Differentiate every case of the standard's own conformance suite and compare with finite differences.

    python3 scripts/conformance.py                     all of it: the figure to quote
    python3 scripts/conformance.py --sample 100        a seeded sample
    python3 scripts/conformance.py attention gru       the cases whose name holds one of these words

The cases are those of `onnx.backend.test.loader.load_model_tests(kind="node")`. The evaluator that serves as
the reference must first make what the suite expects. Then each output of floats is differentiated with
respect to each input of floats, along random directions, at inputs nudged off kinks. Integers that stand for
numbers come from floats and go as floats. Every case gets one verdict:

    float64            agrees with central differences in float64 (relative error 1e-6)
    float32            as float64, where the evaluator has no float64 for an operator (relative error 1e-2)
    straight-through   a quantiser lies between: agrees in float64 with differences of the model in which
                       rounding errors stay what they are
    none               not differentiable, with the reason; that it is constant was seen by differences
    wrong, refused     failures; the exit code is then 1

A case that agrees may have single inputs that are not differentiable: `--list` names them. Nothing is left
out.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx.defs

from onnxviz._reference.differences import TOLERANCE, compare
from onnxviz._reference.evaluator import in_double, run
from onnxviz._reference.suite import Case, suite
from onnxviz.autodiff.pullback import gradient
from onnxviz.errors import DisconnectedError, OnnxvizError
from onnxviz.graph.expose import expose
from onnxviz.graph.model import Model, load

FAILURES = ("wrong", "refused")
AGREEING = ("float64", "float32", "straight-through")
KINDS = (*AGREEING, "none", *FAILURES)

# Where the path from an input to an output may end, and why: reviewed by hand, and seen by differences.
REVIEWED = {
    "draws at random": ["Bernoulli"],
    "step function": ["Binarizer", "Ceil", "Floor", "Hardmax", "Round", "Sign", "TreeEnsemble"],
    "of what is a comparison": ["Cast"],
    "reads the type alone": ["CastLike"],
    "reads a shape or a place": [
        "ConstantOfShape",
        "Expand",
        "Gather",
        "OneHot",
        "Reshape",
        "Slice",
        "Where",
    ],
    "rounds to whole places": ["MelWeightMatrix", "Range", "Resize"],
    "its zero point is a whole number": ["DynamicQuantizeLinear"],
    "keeps all in inference": ["Dropout"],
    "this output does not depend on this input": [
        *("Adagrad", "Adam", "Attention", "BatchNormalization", "CausalConvWithState", "LinearAttention"),
        *("Loop", "Momentum", "Scan", "SoftmaxCrossEntropyLoss"),
    ],
}
CONSTANT = {operator: reason for reason, operators in REVIEWED.items() for operator in operators}
UNREAD = "the output does not depend on the input"


@dataclass(frozen=True)
class Verdict:
    """What became of a case, and why."""

    case: str
    operator: str
    kind: str
    why: str = ""


class Wrong(Exception):
    """The message says what is."""


def judge(case: Case) -> Verdict:
    """One case's verdict; whatever fails is one too."""
    try:
        with np.errstate(all="ignore"):  # the suite holds infinities on purpose
            kind, why = _judge(case)
    except OnnxvizError as err:
        kind, why = "refused", str(err)
    except Exception as err:  # the sweep goes on, whatever breaks
        kind, why = "wrong", str(err) if isinstance(err, Wrong) else f"{type(err).__name__}: {err}"
    return Verdict(case.name, case.operator, kind, " ".join(why.split()))


def _judge(case: Case) -> tuple[str, str]:
    if not case.sources:
        return "none", "no input of floats wider than 8 bits"
    if not case.targets:
        return "none", "no output of floats wider than 8 bits"
    model = load(case.model)
    _check_reference(case, model)
    kinds, reasons = list[str](), dict[str, list[str]]()
    for target in case.targets:
        differentiable = []
        for source in case.sources:
            why = _why_not(model, target, source, case.nudged)
            if why:
                reasons.setdefault(why, []).append(f"d {target} / d {source}")
            else:
                differentiable.append(source)
        if differentiable:
            kinds.append(_compared(model, target, differentiable, case.nudged))
    said = "; ".join(f"{why} ({', '.join(pairs)})" for why, pairs in reasons.items())
    return max(kinds, key=AGREEING.index, default="none"), said


def _check_reference(case: Case, model: Model) -> None:
    """The evaluator must make what the suite expects, but for what is drawn at random and half roundings."""
    if _draws(model):
        return
    for name, made in run(model, case.feeds).items():
        wanted = case.expected[name]
        if made.dtype.kind in "OUS":
            continue
        fine = 2 * float(np.finfo(made.dtype).eps) if made.dtype == np.float16 else 0.0
        close = np.allclose(
            made.astype(np.float64),
            wanted.astype(np.float64),
            rtol=max(case.relative, fine),
            atol=max(case.absolute, fine * float(np.abs(wanted).max(initial=0))),
            equal_nan=True,
        )
        if made.shape != wanted.shape or made.dtype != wanted.dtype or not close:
            raise Wrong(f"the reference makes another {name} than the suite expects")


def _why_not(model: Model, target: str, source: str, feeds: Mapping[str, np.ndarray]) -> str:
    """Why an output is not differentiable with respect to an input; empty where it is."""
    try:
        gradient(model, target, source)
    except DisconnectedError as err:
        _check_constant(model, target, source, feeds)
        blamed = sorted(set(re.findall(r"(\w+) node", str(err))))
        unknown = [operator for operator in blamed if operator not in CONSTANT]
        if unknown:
            raise Wrong(f"{', '.join(unknown)}: not among the reviewed operators of derivative zero") from err
        return ", ".join(f"{operator}: {CONSTANT[operator]}" for operator in blamed) or UNREAD
    except OnnxvizError:
        tagged = _tagged(model, source)
        if not tagged:
            raise
        return f"the standard tags {tagged} not differentiable"
    return ""


def _compared(model: Model, target: str, sources: Sequence[str], feeds: Mapping[str, np.ndarray]) -> str:
    """The kind of agreement of the gradients of an output.

    Raises:
        Wrong: They do not agree.
    """
    found = compare(model, target, sources, feeds, "auto", seed=0, step=1e-6, tolerance=None)
    worst = max(found.slopes, key=lambda slope: (np.isnan(slope.error), slope.error))
    if not worst.error <= TOLERANCE[found.in_double]:
        raise Wrong(f"d {target} / d {worst.name}: {worst.exact:.6g}, not {worst.numeric:.6g}")
    if not found.in_double:
        return "float32"
    return "straight-through" if found.rules == "straight-through" else "float64"


def _check_constant(model: Model, target: str, source: str, feeds: Mapping[str, np.ndarray]) -> None:
    """An output that is declared constant in an input must not move with it."""
    if _draws(model):
        return
    double = expose(in_double(model), target)
    step = 1e-6 * np.random.default_rng(0).standard_normal(feeds[source].shape)
    here, moved = (run(double, {**feeds, source: at})[target] for at in (feeds[source], feeds[source] + step))
    if here.shape == moved.shape and not np.array_equal(here, moved, equal_nan=True):
        raise Wrong(
            f"{target} is declared constant in {source}, but {np.mean(here != moved):.0%} of it moved"
        )


def _tagged(model: Model, source: str) -> str:
    """The input of an operator that `source` is, if the standard tags it as not differentiable."""
    for node, place in model.tensor(source).uses():
        schema = onnx.defs.get_schema(node.op_type, model.opset, node.domain)
        formal = schema.inputs[min(place, len(schema.inputs) - 1)]
        if formal.differentiation_category != onnx.defs.OpSchema.DifferentiationCategory.NonDifferentiable:
            return ""
    return f"{node.op_type}'s {formal.name}"


def _draws(model: Model) -> bool:
    return any(
        node.op_type == "Bernoulli" or node.op_type.startswith("Random") for node in model.ir_model.graph
    )


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
        cases = sample(cases, arguments.sample, arguments.seed)
    verdicts = []
    for case in cases:
        verdicts.append(judge(case))
        if arguments.list or verdicts[-1].kind in FAILURES:
            print(f"{verdicts[-1].kind:16} {case.name} {verdicts[-1].why}".rstrip(), flush=True)
    print(*table(verdicts), *reasons(verdicts), count(verdicts), sep="\n")
    return int(any(verdict.kind in FAILURES for verdict in verdicts))


def sample(cases: Sequence[Case], size: int, seed: int) -> list[Case]:
    """Some cases, drawn at random, in their order."""
    chosen = np.random.default_rng(seed).permutation(len(cases))[:size]
    return [cases[place] for place in sorted(chosen)]


def table(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """How many cases of each operator got which verdict."""
    yield " ".join(["operator".ljust(28), *KINDS])
    for operator in sorted({verdict.operator for verdict in verdicts}):
        counts = Counter(verdict.kind for verdict in verdicts if verdict.operator == operator)
        yield " ".join([operator.ljust(28), *(str(counts[kind] or "").rjust(len(kind)) for kind in KINDS)])


def reasons(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """The reasons for which cases are not differentiable, and how many have each."""
    counts = Counter(v.why.partition(" (")[0] for v in verdicts if v.kind == "none")
    for reason, number in counts.most_common():
        yield f"{number:6}  not differentiable: {reason}"


def count(verdicts: Sequence[Verdict]) -> str:
    """The figures in one line."""
    counts = Counter(verdict.kind for verdict in verdicts)
    agree = sum(counts[kind] for kind in AGREEING)
    return (
        f"{agree} of {len(verdicts) - counts['none']} differentiable cases agree "
        f"({', '.join(f'{counts[kind]} {kind}' for kind in AGREEING)}); "
        f"{counts['wrong']} wrong, {counts['refused']} refused; "
        f"{counts['none']} of {len(verdicts)} are not differentiable"
    )


if __name__ == "__main__":
    sys.exit(main())
