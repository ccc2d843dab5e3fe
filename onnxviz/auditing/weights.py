"""The numbers in the weights: what is broken, clipped, or there twice."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from onnxviz.auditing.stages import Stage
from onnxviz.graph.families import family
from onnxviz.graph.layers import weights_of
from onnxviz.graph.model import Model
from onnxviz.graph.ops import constant_of
from onnxviz.graph.quantisation import dequantised, scale_of

Array: TypeAlias = npt.NDArray[Any]

# Standard deviations beyond which a weight is an outlier: of all, and of the middle half, which outliers do
# not widen and long tails do not either.
_FAR, _FAR_FROM_MIDDLE = 12.0, 20.0

_MOVING = ("Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
# Where a layer holds the weights that it multiplies by, and the bias.
_PLACES = {"QLinearConv": (3, 8), "QLinearMatMul": (3, None), "QGemm": (3, 6)}


@dataclass(frozen=True)
class WeightHealth:
    """What the weights of a layer are like; counts of numbers, and shares of all."""

    count: int
    zero: float
    nan: int
    infinite: int
    denormal: int
    outliers: int
    clipped: float | None
    lowest: float | None
    highest: float | None


@dataclass(frozen=True)
class Filters:
    """The weights of a Conv, Gemm or MatMul, a row for each channel that it makes.

    Attributes:
        weights: float64 [O, K], dequantised.
        bias: float64 [O], zeros where there is none; None where it cannot be told.
        group: Of a convolution, how many groups; filters of different groups read different channels.
    """

    weights: Array
    bias: Array | None
    group: int = 1

    @property
    def zero(self) -> Array:
        """bool [O]: whether a filter is zero, so that its channel answers to nothing."""
        return np.asarray(~self.weights.any(axis=1))

    def doubles(self) -> dict[int, int]:
        """Each filter that is the same as an earlier one that reads the same channels; zero ones are none."""
        if self.weights.shape[1] < 2:
            return {}
        seen: dict[tuple[int, bytes], int] = {}
        found: dict[int, int] = {}
        per_group = max(1, len(self.weights) // self.group)
        bias = np.zeros(len(self.weights)) if self.bias is None else self.bias
        for number, (row, offset) in enumerate(zip(self.weights, bias, strict=True)):
            if not row.any() or not np.isfinite(row).all():
                continue
            key = (number // per_group, np.append(row, offset).tobytes())
            if key in seen:
                found[number] = seen[key]
            else:
                seen[key] = number
        return found


def weight_health(model: Model, stage: Stage) -> WeightHealth | None:
    """What the weights of a stage's layers are like; None where it has none."""
    arrays: list[Array] = []
    at_bound, quantised = 0, 0
    for value in _all_weights(model, stage):
        numbers = constant_of(value)
        if numbers is None or not numbers.size:
            continue
        if numbers.dtype.kind in "iu" and numbers.dtype.itemsize == 1:
            ends = np.iinfo(numbers.dtype)
            # Where integers are symmetric -128 is never written, so that -127 is the bound.
            there = int(((numbers == ends.max) | (numbers <= ends.min + (ends.min < 0))).sum())
            # The largest of each channel defines its scale, and stands there rightly.
            at_bound += max(0, there - (numbers.shape[0] if numbers.ndim > 1 else numbers.size))
            quantised += numbers.size
        arrays.append(numbers.astype(np.float64).ravel())
    if not arrays:
        return None
    whole = [array for array in arrays if np.isfinite(array).any()]
    flat = np.concatenate(arrays)
    finite = flat[np.isfinite(flat)]
    tiny = (finite != 0) & (np.abs(finite) < np.finfo(np.float32).tiny)
    return WeightHealth(
        count=flat.size,
        zero=float((flat == 0).mean()),
        nan=int(np.isnan(flat).sum()),
        infinite=int(np.isinf(flat).sum()),
        denormal=int(tiny.sum()),
        outliers=sum(map(_outliers, whole)),
        clipped=at_bound / quantised if quantised else None,
        lowest=float(finite.min()) if finite.size else None,
        highest=float(finite.max()) if finite.size else None,
    )


def broken_channels(model: Model, stage: Stage) -> dict[int, str]:
    """The channels of a stage whose weights hold NaN or an infinity, and which of the two."""
    found = filters(model, stage)
    if found is None:
        return {}
    rows = found.weights if found.bias is None else np.column_stack([found.weights, found.bias])
    return {
        int(channel): "nan" if np.isnan(rows[channel]).any() else "infinite"
        for channel in np.nonzero(~np.isfinite(rows).all(axis=1))[0]
    }


def filters(model: Model, stage: Stage) -> Filters | None:
    """The filters of a stage's first layer, as its node computes with them; None where it has none."""
    node = model.tensor(stage.layer.tensor).producer()
    if node is None or family(node.op_type) not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    place, offset = _PLACES.get(node.op_type, (1, 2))
    weights = known(node.inputs[place]) if place < len(node.inputs) else None
    if weights is None or weights.ndim < 2:
        return None
    group = node.attributes.get_int("group", 1)
    rows = _rows(weights, node, group)
    given = node.inputs[offset] if offset is not None and offset < len(node.inputs) else None
    bias = np.zeros(len(rows)) if given is None else known(given)
    return Filters(rows, bias if bias is not None and bias.shape == (len(rows),) else None, group)


def known(value: ir.Value | None) -> Array | None:
    """What a value holds if it depends on weights alone, in float64, dequantised; None if it does not."""
    if value is None:
        return None
    numbers = constant_of(value)
    if numbers is not None:
        return _as_weights(value, numbers)
    node = value.producer()
    if node is None or node.op_type not in (*_MOVING, "DequantizeLinear"):
        return None
    first = node.inputs[0]
    if node.op_type == "DequantizeLinear" and first is not None:
        raw, scale = constant_of(first), constant_of(node.inputs[1])
        zero = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
        if raw is None or scale is None:
            return None
        zero = np.zeros_like(scale) if zero is None else zero
        return dequantised(raw, scale, zero, node.attributes.get_int("axis", 1)).astype(np.float64)
    before = known(first)
    rest = {str(v.name): constant_of(v) for v in node.inputs[1:] if v is not None}
    if first is None or before is None or any(one is None for one in rest.values()):
        return None
    if node.op_type in ("Cast", "Identity"):
        return before
    (moved,) = ReferenceEvaluator(ir.to_proto(node)).run(None, {str(first.name): before, **rest})
    return np.asarray(moved)


def _as_weights(value: ir.Value, numbers: Array) -> Array:
    """Weights as floats; a quantised operator names their scale, one for each row where there are several."""
    scale = scale_of(value) if numbers.dtype.kind in "iu" else None
    exact = numbers.astype(np.float64) if scale is None else dequantised(numbers, *scale, axis=0)
    return exact.astype(np.float64)


def _rows(weights: Array, node: ir.Node, group: int) -> Array:
    """Weights with a row for each channel made."""
    kind = family(node.op_type)
    if kind == "ConvTranspose":  # [I, O/group, ...]
        parts = weights.reshape(group, -1, *weights.shape[1:])
        return np.moveaxis(parts, 2, 1).reshape(group * weights.shape[1], -1)
    if kind == "MatMul" or (kind == "Gemm" and not node.attributes.get_int("transB", 0)):
        return np.moveaxis(weights, -1, 0).reshape(weights.shape[-1], -1)
    return weights.reshape(len(weights), -1)


def _all_weights(model: Model, stage: Stage) -> list[ir.Value]:
    found: Mapping[ir.Value, None] = dict.fromkeys(
        weight for layer in stage.members if layer.params for weight in weights_of(model, layer)
    )
    return list(found)


def _outliers(numbers: Array) -> int:
    finite = numbers[np.isfinite(numbers)]
    low, middle, high = np.percentile(finite, [25, 50, 75])
    limit = max(_FAR * float(finite.std()), _FAR_FROM_MIDDLE * float(high - low) / 1.349)
    return int((np.abs(finite - middle) > limit).sum()) if limit else 0
