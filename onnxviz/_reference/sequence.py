"""Control flow, sequences and optionals."""

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_loop import Loop as OnnxLoop
from onnx.reference.ops.op_scan import Scan as OnnxScan

from onnxviz._reference.arrays import Array, Ints

Outer = dict[str, Any] | None


class Loop(OnnxLoop):
    """onnx's own joins the scan outputs along their first axis, and tells a sequence from none by its truth."""

    def _run(  # type: ignore[override]
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
            given = [np.array(number), np.array(True), *state]
            made = self._run_body({**(context or {}), **dict(zip(body.input_names, given, strict=True))})
            on, state = bool(made[0]), list(made[1 : 1 + count])
            for scan, item in zip(scans, made[1 + count :], strict=True):
                scan.append(item)
            number += 1
        return (*state, *(np.stack(scan) if scan else _empty(body, 1 + count + i) for i, scan in enumerate(scans)))


class Scan(OnnxScan):
    """onnx's own scans forwards and along the first axis only."""

    def __init__(self, onnx_node: Any, run_params: Any) -> None:
        OpRun.__init__(self, onnx_node, run_params)

    def _run(  # type: ignore[override]
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
            given = dict(zip(body.input_names, [*state, *items], strict=True))
            made = self._run_body({**(context or {}), **given})
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


class SequenceMap(OpRun):
    """onnx's own hides the outer values from its body, and takes two inputs at most."""

    def need_context(self) -> bool:
        """Its body may read any value computed so far."""
        return True

    def _run(
        self, sequence: list[Array], *more: Any, context: Outer = None, **_: Any
    ) -> tuple[list[Array], ...]:
        names = self.body.input_names
        made = []
        for place, item in enumerate(sequence):
            given = [item, *(x[place] if isinstance(x, list) else x for x in more)]
            made.append(self._run_body({**(context or {}), **dict(zip(names, given, strict=True))}))
        return tuple(list(column) for column in zip(*made, strict=True)) or tuple([] for _ in self.body.output_names)


class SequenceInsert(OpRun):
    """onnx's own takes the end for the front."""

    def _run(self, sequence: list[Array], item: Array, place: Array | None = None) -> tuple[list[Array]]:
        longer = list(sequence)
        longer.insert(len(longer) if place is None else int(place), item)
        return (longer,)


class SplitToSequence(OpRun):
    """onnx's own squeezes no negative axis rightly, and keeps views that later steps may change."""

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

    def _run(self, x: Any = None, type: Any = None) -> tuple[Any]:  # noqa: A002
        return (x,)


def _empty(body: Any, place: int) -> Array:
    """A scan output of a loop that makes no turn."""
    info = body.proto_.graph.output[place] if hasattr(body.proto_, "graph") else body.proto_.output[place]
    kind = info.type.tensor_type
    sizes = [dim.dim_value for dim in kind.shape.dim]
    import onnx
    return np.zeros([0, *sizes], onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))


OPERATORS: tuple[type[OpRun], ...] = (Loop, Scan, SequenceMap, SequenceInsert, SplitToSequence, Optional)
