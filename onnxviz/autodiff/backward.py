"""The reverse walk: from the cotangents of what nodes make to the cotangents of what they read."""

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Self

import onnx_ir as ir

from onnxviz.autodiff.ruleset import ZERO, Answer, RuleSet, node_name
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.flow import affected, reads
from onnxviz.graph.ops import Ops


class Backward(Ops):
    """`Ops` that writes a backward graph; it knows the rules in force and which values lead to a source.

    `reached` are the sources and all that is computed from them, `live` what is so without a step function or
    a shape between: there an answer that is not written is an error.
    """

    def __init__(self, graph: ir.Graph, rules: RuleSet, sources: Collection[ir.Value]) -> None:
        """Write to `graph` by `rules`."""
        super().__init__(graph, prefix="gradient")
        self.rules, self.reached = rules, affected(graph, sources)
        self.live = affected(graph, sources, rules.is_constant)
        self.stopped: list[tuple[ir.Value, ir.Node]] = []
        self._elements: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}

    def under(self, rules: RuleSet) -> Self:
        """The same by other rules."""
        other = copy.copy(self)
        other.rules = rules
        return other

    def where(self, reached: set[ir.Value], graph: ir.Graph | None = None) -> Self:
        """The same where other values lead to a source, and written to a nested graph if one is given."""
        other = copy.copy(self) if graph is None else self.inside(graph)
        other.reached = other.live = reached
        other.stopped = []
        return other

    def pull_back(
        self, nodes: Sequence[ir.Node], cotangents: Mapping[ir.Value, ir.Value], sources: Iterable[ir.Value]
    ) -> dict[ir.Value, Answer]:
        """The cotangent of each of `sources` that leads to a source, from those of what `nodes` make.

        `nodes` are in the order in which they run; what lies between them and `sources` is not followed.
        ZERO answers for a source from which every path ends at a declared zero.

        Raises:
            UnsupportedOperator: A rule, or its answer for an input that leads to a source, is missing.
        """
        wanted = [value for value in dict.fromkeys(sources) if value in self.reached]
        known = dict(cotangents)
        inner = self.where(affected(nodes, wanted))
        live = [value for value in wanted if value in self.live]
        inner.live = affected(nodes, live, self.rules.is_constant)
        inner.walk(nodes, known)
        self.stopped += inner.stopped
        return {value: known.get(value, ZERO) for value in wanted}

    def walk(self, nodes: Sequence[ir.Node], cotangents: dict[ir.Value, ir.Value]) -> None:
        """Add to `cotangents`, in place, those of all that `nodes` read and that leads to a source."""
        forward = [node for node in nodes if any(value in self.reached for value in reads(node))]
        for node in reversed(forward):
            arriving = [cotangents.get(output) for output in node.outputs]
            if all(cotangent is None for cotangent in arriving):
                continue
            before = len(self.stopped)
            answers = list(self._answers(node, arriving))
            # Where a path ends inside a node, the node inside is to blame.
            inside = [inner for _, inner in self.stopped[before:]]
            del self.stopped[before:]
            for value, answer in answers:
                if value not in self.reached:
                    continue
                if callable(answer):
                    answer = answer()
                if answer is None and value in self.live:
                    raise UnsupportedOperator(
                        f"the {self.rules.name!r} rule for {node.op_type} (node {node_name(node)!r}) has no "
                        f"gradient for its input {value.name!r}, which leads to what is asked for"
                    )
                if answer is ZERO or answer is None:
                    self.stopped += [(value, blamed) for blamed in inside or [node]]
                    continue
                if value in cotangents:
                    answer = self.plus(cotangents[value], answer)
                # A cotangent is shaped like its primal: no shape of the backward graph need be inferred.
                answer.shape = value.shape
                if answer.type is None or _is_computed(value):
                    answer.type = value.type
                cotangents[value] = answer

    def plus(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The sum of two cotangents: of two sequences, element by element."""
        if not isinstance(a.type, ir.SequenceType):
            return self.Add(a, b)
        if b in self._elements:
            place, g = self._elements[b]
            return self._replaced(a, place, self.Add(self.SequenceAt(a, place), g))
        elements = [self.element(a), self.element(b)]
        return self.SequenceMap(a, b, body=self.nested(elements, lambda op, x, y: [op.Add(x, y)]))

    def at(self, sequence: ir.Value, place: ir.Value, g: ir.Value) -> ir.Value:
        """The cotangent of a sequence of which the element at a place, from the front, has the cotangent `g`.

        `plus` adds that one alone to another cotangent, so that a loop over a sequence takes linear time.
        """
        answer = self._replaced(self.zeros_like(sequence), place, g)
        self._elements[answer] = place, g
        return answer

    def _replaced(self, sequence: ir.Value, place: ir.Value, element: ir.Value) -> ir.Value:
        return self.SequenceInsert(self.SequenceErase(sequence, place), element, place)

    def zeros_like(self, value: ir.Value) -> ir.Value:
        """Zeros of a value's type and shape; of an optional, of what it holds."""
        if isinstance(value.type, ir.OptionalType):
            held = self.OptionalGetElement(value)
            held.type, held.shape = value.type.elem_type, value.shape
            return self.zeros_like(held)
        if not isinstance(value.type, ir.SequenceType):
            return super().zeros_like(value)
        body = self.nested([self.element(value)], lambda op, x: [op.zeros_like(x)])
        return self.SequenceMap(value, body=body)

    def _answers(
        self, node: ir.Node, arriving: Sequence[ir.Value | None]
    ) -> Iterable[tuple[ir.Value, Answer]]:
        answers = self.rules.find(node)(self, node, *arriving)
        if isinstance(answers, Mapping):
            return answers.items()
        pairs = zip(node.inputs, answers, strict=True)
        return [(value, answer) for value, answer in pairs if value is not None]


def is_float(value: ir.Value) -> bool:
    """Whether a value holds floats (bfloat16 and the smaller ones are floats too)."""
    return value.dtype is not None and value.dtype.is_floating_point()


def _is_computed(value: ir.Value) -> bool:
    """Whether a value holds floats to compute with; the smallest stand for others, as integers do."""
    if not is_float(value) or isinstance(value.type, ir.OptionalType):
        return False
    return value.dtype is not None and value.dtype.bitwidth >= 16
