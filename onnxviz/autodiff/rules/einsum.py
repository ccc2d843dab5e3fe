"""Einsum: the gradient of a sum of products is a sum of products."""

from collections.abc import Sequence
from string import ascii_letters

import onnx_ir as ir

from onnxviz.autodiff.rules.helpers import Answers, same_size, unbroadcast
from onnxviz.autodiff.ruleset import vjp
from onnxviz.graph.ops import Ops, rank_of


@vjp("Einsum")
def _einsum(op: Ops, node: ir.Node, g: ir.Value) -> Answers:
    """dx_i = the sum of g times the other operands over every letter that x_i lacks."""
    xs = [x for x in node.inputs if x is not None]
    terms, result = _terms(node.attributes.get_string("equation"), [rank_of(x) for x in xs])
    answers = []
    for i, (x, term) in enumerate(zip(xs, terms, strict=True)):
        others = [result, *terms[:i], *terms[i + 1 :]]
        known = "".join(letter for letter in dict.fromkeys(term) if letter in "".join(others))
        dx = op.Einsum(g, *xs[:i], *xs[i + 1 :], equation=f"{','.join(others)}->{known}")
        answers.append(_sum_stretched(op, _spread(op, dx, known, term, x), i, xs, terms))
    return answers


def _terms(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, with letters for the axes behind an ellipsis too."""
    operands, arrow, result = equation.replace(" ", "").partition("->")
    free = [letter for letter in ascii_letters if letter not in equation]
    terms, widest = [], ""
    for term, rank in zip(operands.split(","), ranks, strict=True):
        hidden = "".join(free[: rank - len(term.replace("...", ""))][::-1]) if "..." in term else ""
        widest = max(widest, hidden, key=len)
        terms.append(term.replace("...", hidden))
    if not arrow:
        named = operands.replace(",", "").replace(".", "")
        result = "..." + "".join(sorted(letter for letter in set(named) if named.count(letter) == 1))
    return terms, result.replace("...", widest)


def _spread(op: Ops, dx: ir.Value, known: str, term: str, x: ir.Value) -> ir.Value:
    """`dx`, whose axes are `known`, laid out as `term`: on the diagonal where x names an axis twice.

    What x alone sums away has the same gradient everywhere.
    """
    if known == term:
        return dx
    first = {letter: term.index(letter) for letter in term}
    missing = [axis for axis, letter in enumerate(term) if letter not in known or axis != first[letter]]
    dx = op.Unsqueeze(dx, op.ints(*missing))
    if any(letter not in known for letter in term):
        dx = op.Expand(dx, op.shape(x))
    assert x.dtype is not None
    for axis, letter in enumerate(term):
        if axis != first[letter]:
            places = [_places(op, x, place) for place in (first[letter], axis)]
            dx = op.Mul(dx, op.Cast(op.Equal(*places), to=int(x.dtype)))
    return dx


def _places(op: Ops, x: ir.Value, axis: int) -> ir.Value:
    """0, 1, 2 ... along one axis of x."""
    size = op.Squeeze(op.shape(x, axis, axis + 1), op.ints(0))
    along = op.Range(op.scalar(0), size, op.scalar(1))
    return op.Reshape(along, op.ints(-1, *[1] * (rank_of(x) - 1 - axis)))


def _sum_stretched(op: Ops, dx: ir.Value, i: int, xs: Sequence[ir.Value], terms: Sequence[str]) -> ir.Value:
    """Undo the broadcast of operand i along the axes where it has size 1 and another operand has not."""
    sizes: dict[str, list[object]] = {}
    for x, term in zip(xs, terms, strict=True):
        assert x.shape is not None
        for letter, size in zip(term, x.shape, strict=True):
            sizes.setdefault(letter, []).append(size)
    dx.shape = ir.Shape([_together(sizes[letter]) for letter in terms[i]])
    return unbroadcast(op, dx, xs[i], dx)


def _together(sizes: Sequence[object]) -> ir.SymbolicDim | int | None:
    """The size that these become by broadcasting; None where it is not known."""
    wide = [size for size in sizes if size != 1] or [1]
    size = next((size for size in wide if isinstance(size, int)), wide[0])
    certain = isinstance(size, int) or all(same_size(size, other) for other in wide)
    return size if certain else None  # type: ignore[return-value]
