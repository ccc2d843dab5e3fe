"""If, Scan and Loop: a nested graph is computed once more, and walked back over, in a nested graph."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.backward import Backward, is_float
from onnxviz.autodiff.rules.helpers import Cotangent, data
from onnxviz.autodiff.ruleset import ZERO, Answer, node_name, vjp
from onnxviz.errors import UnsupportedOperator
from onnxviz.graph.annotate import annotate_body
from onnxviz.graph.expose import sweep
from onnxviz.graph.flow import affected, captured, reads
from onnxviz.graph.ops import Operand, constant_of
from onnxviz.graph.replay import rerun

Answers: TypeAlias = Mapping[ir.Value, Answer]
Shaped: TypeAlias = tuple[ir.Value, ir.Value]
"""What an output has the shape of, and what it has the type of."""

_INDEX = ir.Value(type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
_FLAG = ir.Value(type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))


@vjp("If")
def _if(op: Backward, node: ir.Node, *gs: Cotangent) -> Answers:
    """An If on the same condition, whose branches return the cotangents of what either captures."""
    sources = {value for value in captured(node) if value in op.reached}
    branches = {}
    for name in ("then_branch", "else_branch"):
        inside = op.where(sources, ir.Graph([], [], nodes=[], name=name))
        outputs = rerun(inside, node.attributes[name].as_graph(), {})
        arriving = _sums(inside, zip(outputs, gs, strict=True))
        branches[name] = inside, inside.pull_back(inside.nodes, arriving, sources)
        op.stopped += inside.stopped
    moved = {v: g for _, answers in branches.values() for v, g in answers.items() if isinstance(g, ir.Value)}
    for inside, answers in branches.values():
        _close(inside, [_or_zeros(inside, answers[v], v, g) for v, g in moved.items()])
    graphs = {name: inside.graph for name, (inside, _) in branches.items()}
    like = list(moved.items())
    return _answers(op, node, like, _emit(op, "If", [data(node)], like, graphs))


@vjp("Scan")
def _scan(op: Backward, node: ir.Node, *gs: Cotangent) -> Answers:
    """A Scan in the other direction.

    Its states are the cotangents of the states and the sums of those of what is captured. It scans the
    states at each step (the same Scan, run once more, returns them), the inputs, and the cotangents of the
    scan outputs; its scan outputs are the cotangents of the scan inputs.
    """
    states = len(node.inputs) - node.attributes.get_int("num_scan_inputs", 0)
    body = _Body.of(node, states, lead=0)
    axes_in, ways_in = _of_scans(node, "input", states, len(body.initial))
    axes_out, ways_out = _of_scans(node, "output", states, len(body.outputs))
    annotate_body(node, op.opset_imports)

    def begin(inside: Backward) -> list[ir.Value]:
        return [inside.placeholder(x) for x in body.inputs]

    turn = _walk_back(op, body, gs, begin, lambda inside, _, y: inside.placeholder(y))
    moved = {j: g for j, g in enumerate(turn.answers) if j >= states and isinstance(g, ir.Value)}
    _close(turn.op, [*(link.after for link in turn.links), *moved.values()])

    scanned = [j for j, x in enumerate(turn.inputs) if x.uses()]
    if all(j < states for j in scanned):
        scanned.append(states)  # one at least must tell the number of steps
    arrived = [j for j in turn.arriving if j >= states]
    turn.op.graph.inputs.extend(link.before for link in turn.links)
    turn.op.graph.inputs.extend(turn.inputs[j] for j in scanned)
    turn.op.graph.inputs.extend(turn.arriving[j] for j in arrived)
    saved = _states_at_each_step(op, node, body, [j for j in scanned if j < states])
    scans = [*(saved.get(j, body.initial[j]) for j in scanned), *(gs[j] for j in arrived)]
    attributes = {
        "body": turn.op.graph,
        "num_scan_inputs": len(scans),
        "scan_input_axes": [*(axes_in[j] for j in scanned), *(axes_out[j] for j in arrived)],
        "scan_input_directions": [*(1 - ways_in[j] for j in scanned), *(1 - ways_out[j] for j in arrived)],
        "scan_output_axes": [axes_in[j] for j in moved] or None,
        "scan_output_directions": [1 - ways_in[j] for j in moved] or None,
    }
    like = [*turn.like, *((body.initial[j], g) for j, g in moved.items())]
    made = _emit(op, "Scan", [*_start(op, turn, gs, body.initial), *scans], like, attributes)
    return _answers(op, node, like, [*turn.ended(made), *made[len(turn.links) :]])


@vjp("Loop")
def _loop(op: Backward, node: ir.Node, *gs: Cotangent) -> Answers:
    """A Loop over the turns in reverse.

    It carries the cotangents of what is carried and the sums of those of what is captured. What was carried
    into each turn lies on a tape, one sequence for each value, which the same Loop fills when run once more;
    what is a sequence itself is computed anew, by as many turns.
    """
    (trips, going), graph = node.inputs[:2], node.attributes["body"].as_graph()
    _unwrap_optionals(node, graph)
    body = _Body.of(node, len(node.inputs) - 2, lead=1)
    annotate_body(node, op.opset_imports)
    tapes = [ir.Value(type=ir.SequenceType(ir.TensorType(_dtype(x)))) for x in body.inputs]
    last, number, on = (op.placeholder(like) for like in (_INDEX, _INDEX, _FLAG))

    def begin(inside: Backward) -> list[ir.Value]:
        index = inside.Sub(last, number)
        before = [inside.SequenceAt(tape, index) for tape in tapes]
        if any(_is_sequence(x) for x in body.inputs):
            again = {"body": graph.clone(allow_outer_scope_values=True)}
            anew = inside.emit("Loop", [index, *node.inputs[1:]], again, len(node.outputs))
            before = [
                y if _is_sequence(x) else taped
                for x, y, taped in zip(body.inputs, anew, before, strict=False)
            ]
        for x, value in zip(body.inputs, before, strict=True):
            value.type, value.shape = x.type, x.shape
        return [index, op.constant(np.array(True)), *before]

    def arrive(inside: Backward, g: ir.Value, y: ir.Value) -> ir.Value:
        row = inside.Gather(g, inside.Sub(last, number), axis=0)
        row.shape = y.shape
        return row

    turn = _walk_back(op, body, gs, begin, arrive)
    turn.op.graph.inputs.extend([number, on, *(link.before for link in turn.links)])
    _close(turn.op, [on, *(link.after for link in turn.links)])
    if not turn.links:
        return _answers(op, node, [], [])
    counted = trips is not None and _holds(going) and _holds(graph.outputs[0], graph.inputs[1])
    taped = [j for j, tape in enumerate(tapes) if tape.uses()]
    turns, ends = trips, list(node.outputs)
    if taped or not counted:
        filled, counter, ends = _fill_tapes(op, node, body, taped)
        ir.convenience.replace_all_uses_with([tapes[j] for j in taped], filled)
        turns = trips if counted else counter
    turns = op.Reshape(turns, op.ints())
    ir.convenience.replace_all_uses_with([last], [op.Sub(turns, 1)])
    inputs = [turns, None, *_start(op, turn, gs, ends)]
    made = _emit(op, "Loop", inputs, turn.like, {"body": turn.op.graph})
    # What a turn would stop comes through where there is none.
    known = constant_of(trips) if counted else None
    runs = known is not None and bool(np.all(known > 0))
    return _answers(op, node, turn.like, turn.ended(made) if runs else made)


def _unwrap_optionals(node: ir.Node, graph: ir.Graph) -> None:
    """Let a loop carry what an optional holds, in place, where it surely holds something."""
    for place, (x, y) in enumerate(zip(graph.inputs[2:], graph.outputs[1:], strict=False), start=2):
        initial = node.inputs[place]
        maker = initial.producer() if initial is not None else None
        full = maker is not None and maker.op_type == "Optional" and len(maker.inputs) > 0
        if maker is not None and full and isinstance(x.type, ir.OptionalType) and y.type == x.type.elem_type:
            node.replace_input_with(place, maker.inputs[0])
            x.type = x.type.elem_type


@dataclass
class _Body:
    """What a Scan or Loop carries from turn to turn, and the rest that it scans.

    `inputs[j]` holds `initial[j]` before the first turn, and `outputs[j]` before the next, for the first
    `states` places; behind them follow the scan inputs and the scan outputs.
    """

    node: ir.Node
    graph: ir.Graph
    initial: list[ir.Value]
    inputs: Sequence[ir.Value]
    outputs: Sequence[ir.Value]
    states: int
    captured: list[ir.Value]

    @classmethod
    def of(cls, node: ir.Node, states: int, lead: int) -> "_Body":
        """`lead` is 1 for a Loop, whose body has the number of the turn and the condition before the rest."""
        graph = node.attributes["body"].as_graph()
        initial = [value for value in node.inputs[2 * lead :] if value is not None]
        return cls(
            node,
            graph,
            initial,
            graph.inputs[2 * lead :],
            graph.outputs[lead:],
            states,
            list(dict.fromkeys(captured(node))),
        )


class _Link(NamedTuple):
    """A cotangent that is carried from turn to turn: of a state, or the sum of those of what is captured.

    `of` is the outer value whose cotangent it becomes, `place` says which state it belongs to (None: to
    none), `ends` that nothing of it passes a turn.
    """

    of: ir.Value
    place: int | None
    before: ir.Value
    after: ir.Value
    ends: bool = False


@dataclass
class _Turn:
    """One turn of a body, walked back over in a nested graph that has no inputs and outputs yet.

    `inputs` stand for those of the body, `answers` are their cotangents; `arriving` are those of the body's
    outputs, by place.
    """

    op: Backward
    inputs: Sequence[ir.Value]
    answers: Sequence[Answer]
    arriving: Mapping[int, ir.Value]
    links: Sequence[_Link]

    @property
    def like(self) -> list[Shaped]:
        """For each link what has its shape, and what has its type."""
        return [(link.of, link.after) for link in self.links]

    def ended(self, made: Sequence[ir.Value]) -> list[Answer]:
        """What came of each link after the last turn: ZERO where it ends in the first."""
        return [ZERO if link.ends else g for link, g in zip(self.links, made, strict=False)]


def _walk_back(
    op: Backward,
    body: _Body,
    gs: Sequence[Cotangent],
    begin: Callable[[Backward], list[ir.Value]],
    arrive: Callable[[Backward, ir.Value, ir.Value], ir.Value],
) -> _Turn:
    """Write one turn; `begin` says what stands for the body's inputs, `arrive` for a scan output's cotangent.

    Carried are the cotangents of those states of floats that lead to a source and that one which arrives
    reaches, in this turn or a later one.
    """
    reached = _reached(op, body)
    carried = [x in reached and is_float(x) for x in body.inputs[: body.states]]
    for x, is_carried in zip(body.inputs, carried, strict=False):
        if is_carried and isinstance(x.type, ir.OptionalType):
            raise UnsupportedOperator(
                f"{body.node.op_type} node {node_name(body.node)!r} carries the optional {x.name!r}, whose "
                "gradient may be absent; start it with what the optional holds"
            )
    active = {j for j, is_carried in enumerate(carried) if is_carried and gs[j] is not None}
    while True:
        inside = op.where(set(), ir.Graph([], [], nodes=[], name="body"))
        given = begin(inside)
        inputs = given[len(given) - len(body.inputs) :]
        stand_in = dict(zip(body.inputs, inputs, strict=True))
        inside.reached = {stand_in.get(value, value) for value in reached}
        before = len(inside.nodes)
        outputs = rerun(inside, body.graph, dict(zip(body.graph.inputs, given, strict=True)))
        nodes, outputs = inside.nodes[before:], outputs[len(outputs) - len(body.outputs) :]
        arriving = {j: inside.placeholder(outputs[j]) for j in sorted(active)}
        for j, (y, g) in enumerate(zip(outputs, gs, strict=True)):
            if j >= body.states and g is not None:
                arriving[j] = arrive(inside, g, y)
        cotangents = _sums(inside, ((outputs[j], g) for j, g in arriving.items()))
        found = inside.pull_back(nodes, cotangents, [*inputs, *body.captured])
        answers = [found.get(x, ZERO) for x in inputs]
        more = {j for j, is_carried in enumerate(carried) if is_carried and answers[j] is not ZERO} - active
        if not more:
            break
        _close(inside, [])
        active |= more
    op.stopped += inside.stopped
    links = []
    for j in sorted(active):
        after = _or_zeros(inside, answers[j], inputs[j], arriving[j])
        links.append(_Link(body.initial[j], j, arriving[j], after, ends=answers[j] is ZERO))
    for value in body.captured:
        answer = found.get(value, ZERO)
        if isinstance(answer, ir.Value):
            total = inside.placeholder(value, answer.type)
            links.append(_Link(value, None, total, inside.plus(total, answer)))
    return _Turn(inside, inputs, answers, arriving, links)


def _reached(op: Backward, body: _Body) -> set[ir.Value]:
    """What leads to a source, at the beginning of some turn."""
    reached = {value for value in body.captured if value in op.reached}
    reached |= {x for x, value in zip(body.inputs, body.initial, strict=True) if value in op.reached}
    states = list(zip(body.inputs, body.outputs, strict=False))[: body.states]
    while True:
        behind = affected(body.graph, reached)
        more = {x for x, y in states if y in behind} - reached
        if not more:
            return reached
        reached |= more


def _start(op: Backward, turn: _Turn, gs: Sequence[Cotangent], ends: Sequence[ir.Value]) -> list[ir.Value]:
    """What each link holds before the first turn back; `ends` are shaped like the states after the last."""
    return [
        _or_zeros(op, ZERO, link.of, link.before)
        if link.place is None
        else gs[link.place] or op.zeros_like(ends[link.place])
        for link in turn.links
    ]


def _states_at_each_step(
    op: Backward, node: ir.Node, body: _Body, places: Sequence[int]
) -> dict[int, ir.Value]:
    """The states of a Scan before each of its steps, from the same Scan run once more."""
    if not places:
        return {}
    inside = op.inside(ir.Graph([], [], nodes=[], name="body"))
    given = {x: inside.placeholder(x) for x in body.inputs}
    inside.graph.inputs.extend(given.values())
    outputs = rerun(inside, body.graph, dict(given))
    saved = [given[body.inputs[j]] for j in places]
    _close(inside, [*outputs[: body.states], *saved])
    kept = ("num_scan_inputs", "scan_input_axes", "scan_input_directions")
    attributes = {name: node.attributes[name] for name in kept if name in node.attributes}
    made = op.emit("Scan", node.inputs, {**attributes, "body": inside.graph}, body.states + len(saved))
    for value, like in zip(made, [*body.inputs[: body.states], *saved], strict=True):
        value.type = like.type
    for value, like in zip(made[body.states :], saved, strict=True):
        value.shape = None if like.shape is None else ir.Shape([None, *like.shape])
    return dict(zip(places, made[body.states :], strict=True))


def _fill_tapes(
    op: Backward, node: ir.Node, body: _Body, places: Sequence[int]
) -> tuple[list[ir.Value], ir.Value, list[ir.Value]]:
    """What a Loop carried into each turn, the number of turns, and what it carried out of the last."""
    inside = op.inside(ir.Graph([], [], nodes=[], name="body"))
    given = {x: inside.placeholder(x) for x in body.graph.inputs}
    number = inside.placeholder(_INDEX)
    items = [given[body.inputs[j]] for j in places]
    tapes = [inside.placeholder(x, _sequence_of(x)) for x in items]
    inside.graph.inputs.extend([*given.values(), number, *tapes])
    outputs = rerun(inside, body.graph, dict(given))[: 1 + body.states]
    longer = [inside.SequenceInsert(tape, x) for tape, x in zip(tapes, items, strict=True)]
    _close(inside, [*outputs, inside.Add(number, 1), *longer])
    empty = [op.emit("SequenceEmpty", [], {"dtype": int(_dtype(x))})[0] for x in items]
    for value, tape in zip(empty, tapes, strict=True):
        value.type = tape.type
    like = [
        *((x, x) for x in body.inputs[: body.states]),
        (number, number),
        *((tape, tape) for tape in tapes),
    ]
    made = _emit(op, "Loop", [*node.inputs, op.scalar(0), *empty], like, {"body": inside.graph})
    return made[body.states + 1 :], made[body.states], made[: body.states]


def _of_scans(node: ir.Node, side: str, states: int, count: int) -> tuple[list[int], list[int]]:
    """The axes and the directions of a Scan's inputs or outputs, by place; the states have zeros."""
    default = [0] * (count - states)
    axes, ways = (node.attributes.get_ints(f"scan_{side}_{what}", default) for what in ("axes", "directions"))
    return [0] * states + list(axes), [0] * states + list(ways)


def _holds(condition: ir.Value | None, before: ir.Value | None = None) -> bool:
    """Whether a condition is true at every turn, if it is `before` the first."""
    while condition is not None and condition is not before:
        known, node = constant_of(condition), condition.producer()
        if known is not None:
            return bool(known.all())
        if node is None or node.op_type not in ("Identity", "Cast"):
            return False
        condition = node.inputs[0]
    return True


def _is_sequence(value: ir.Value) -> bool:
    return isinstance(value.type, ir.SequenceType)


def _dtype(value: ir.Value) -> ir.DataType:
    assert value.dtype is not None
    return value.dtype


def _sequence_of(value: ir.Value) -> ir.SequenceType:
    return ir.SequenceType(ir.TensorType(_dtype(value)))


def _sums(op: Backward, pairs: Iterable[tuple[ir.Value, Answer]]) -> dict[ir.Value, ir.Value]:
    """The sum of the cotangents of each value, which may be returned or captured more than once."""
    sums: dict[ir.Value, ir.Value] = {}
    for value, g in pairs:
        if isinstance(g, ir.Value):
            sums[value] = op.plus(sums[value], g) if value in sums else g
    return sums


def _answers(op: Backward, node: ir.Node, like: Sequence[Shaped], made: Sequence[Answer]) -> Answers:
    """The answers for all that a node reads: `made`, and ZERO for the rest."""
    sums = _sums(op, zip((value for value, _ in like), made, strict=True))
    return {**dict.fromkeys(reads(node), ZERO), **sums}


def _or_zeros(op: Backward, answer: Answer, value: ir.Value, like: ir.Value) -> ir.Value:
    """A cotangent of `value`; zeros of the type of `like` for none."""
    if isinstance(answer, ir.Value):
        return answer
    return op.zeros_like(value) if is_float(value) else op.full(op.shape(value), 0, _dtype(like))


def _close(op: Backward, outputs: Sequence[ir.Value]) -> None:
    """End a nested graph that returns `outputs`, and drop what they do not need."""
    op.graph.outputs.extend(op.returned(outputs))
    sweep(op.graph)


def _emit(
    op: Backward,
    op_type: str,
    inputs: Sequence[Operand],
    like: Sequence[Shaped],
    attributes: Mapping[str, Any],
) -> list[ir.Value]:
    """Write a node whose outputs have the shapes and the types of `like`; none where it has no outputs."""
    if not like:
        return []
    made = op.emit(op_type, inputs, attributes, len(like))
    for value, (shaped, typed) in zip(made, like, strict=True):
        value.shape, value.type = shaped.shape, typed.type
    return list(made)
