"""Control flow, sequences and optionals."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array, Ints

Outer = dict[str, Any] | None


class _HasBody(OpRun):
    """What runs a nested graph, which may read any value computed so far."""

    body: ReferenceEvaluator

    def need_context(self) -> bool:
        """Whether it wants the outer values."""
        return True

    def turn(self, context: Outer, given: Sequence[Any]) -> list[Any]:
        """The outputs of the body."""
        run: Callable[[dict[str, Any]], list[Any]] = getattr(self, "_run_body")  # noqa: B009
        return run({**(context or {}), **dict(zip(self.body.input_names, given, strict=True))})


class Loop(_HasBody):
    """onnx's own joins the scan outputs along an axis of theirs."""

    def _run(
        self,
        trips: Array | None,
        going: Array | None,
        *carried: Any,
        context: Outer = None,
        **_: Any,
    ) -> tuple[Any, ...]:
        body, count = self.body, len(carried)
        scans: list[list[Array]] = [[] for _ in body.output_names[1 + count :]]
        number, on = 0, going is None or bool(going)
        state = list(carried)
        while on and (trips is None or number < int(np.reshape(trips, ()))):
            made = self.turn(context, [np.array(number), np.array(True), *state])
            on, state = bool(made[0]), list(made[1 : 1 + count])
            for scan, item in zip(scans, made[1 + count :], strict=True):
                scan.append(item)
            number += 1
        return (
            *state,
            *(np.stack(scan) if scan else _empty(body, 1 + count + i) for i, scan in enumerate(scans)),
        )


class Scan(_HasBody):
    """onnx's own scans forwards and along the first axis only."""

    def _run(
        self,
        *args: Array,
        context: Outer = None,
        num_scan_inputs: int = 0,
        scan_input_axes: Ints = None,
        scan_input_directions: Ints = None,
        scan_output_axes: Ints = None,
        scan_output_directions: Ints = None,
        **_: Any,
    ) -> tuple[Array, ...]:
        body, count = self.body, len(args) - num_scan_inputs
        state, scanned = list(args[:count]), args[count:]
        outputs = len(body.output_names) - count
        axes_in, axes_out = scan_input_axes or [0] * num_scan_inputs, scan_output_axes or [0] * outputs
        ways_in = scan_input_directions or [0] * num_scan_inputs
        ways_out = scan_output_directions or [0] * outputs
        rows = [np.moveaxis(x, axis, 0) for x, axis in zip(scanned, axes_in, strict=True)]
        scans: list[list[Array]] = [[] for _ in range(outputs)]
        for step in range(len(rows[0])):
            items = [row[-1 - step if way else step] for row, way in zip(rows, ways_in, strict=True)]
            made = self.turn(context, [*state, *items])
            state = list(made[:count])
            for scan, item in zip(scans, made[count:], strict=True):
                scan.append(item)
        return (
            *state,
            *(
                np.stack(scan[::-1] if way else scan, axis)
                for scan, axis, way in zip(scans, axes_out, ways_out, strict=True)
            ),
        )


class SequenceMap(_HasBody):
    """onnx's own hides the outer values from its body, and takes two inputs at most."""

    def _run(
        self, sequence: list[Array], *more: Any, context: Outer = None, **_: Any
    ) -> tuple[list[Array], ...]:
        rows = [
            self.turn(context, [item, *(x[place] if isinstance(x, list) else x for x in more)])
            for place, item in enumerate(sequence)
        ]
        return tuple([row[j] for row in rows] for j in range(len(self.body.output_names)))


class SequenceInsert(OpRun):
    """onnx's own takes the end for the front."""

    def _run(self, sequence: list[Array], item: Array, place: Array | None = None) -> tuple[list[Array]]:
        longer = list(sequence)
        longer.insert(len(longer) if place is None else int(place), item)
        return (longer,)


class SplitToSequence(OpRun):
    """onnx's own takes no negative axis."""

    def _run(
        self, x: Array, split: Array | None = None, axis: int = 0, keepdims: int = 1
    ) -> tuple[list[Array]]:
        size = x.shape[axis]
        if split is None:
            pieces = [x.take([i] if keepdims else i, axis) for i in range(size)]
        else:
            step = np.arange(int(split), size, int(split)) if split.ndim == 0 else np.cumsum(split)[:-1]
            pieces = np.split(x, step, axis)
        return (pieces,)


class Optional(OpRun):
    """onnx's own wraps what it holds."""

    def _run(self, x: Any = None, **_: Any) -> tuple[Any]:
        return (x,)


def _empty(body: Any, place: int) -> Array:
    """A scan output of a loop that makes no turn."""
    info = body.proto_.graph.output[place] if hasattr(body.proto_, "graph") else body.proto_.output[place]
    kind = info.type.tensor_type
    sizes = [dim.dim_value for dim in kind.shape.dim]
    return np.zeros([0, *sizes], onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))


OPERATORS: tuple[type[OpRun], ...] = (Loop, Scan, SequenceMap, SequenceInsert, SplitToSequence, Optional)
