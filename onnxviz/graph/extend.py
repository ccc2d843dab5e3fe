"""Extend a model: nodes written behind its own, whose values become its outputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from onnxviz.graph.expose import prune
from onnxviz.graph.model import Model
from onnxviz.graph.normalise import with_shapes
from onnxviz.graph.ops import Ops

Write = Callable[[Ops, Mapping[str, ir.Value]], Mapping[str, ir.Value]]


def extend(
    model: Model, prefix: str, write: Write, keep: Sequence[str] = (), cotangent: str | None = None
) -> Model:
    """The model with other outputs: those that `write` computes from its tensors, and the tensors in `keep`.

    Args:
        model: Any model; a gradient model stays one, less the gradients that are not kept.
        prefix: What the names of the new nodes begin with.
        write: Called with `Ops` and the model's tensors by name; returns the new outputs by name.
        keep: Tensors to output too, before the new ones.
        cotangent: The input that takes the cotangent, where the model does not say so itself.
    """
    copy = model.ir_model.clone()
    values = ir.convenience.create_value_mapping(copy.graph, include_subgraphs=False)
    op = Ops(copy.graph, prefix)
    kept = [values[name] for name in keep]
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(kept)
    for name, value in write(op, values).items():
        answer = op.Identity(value)
        answer.name = name
        answer.type = value.type
        copy.graph.outputs.append(answer)
    copy.graph.sort()
    prune(copy)
    own = model.derivative
    left = {of: name for of, name in own.gradients.items() if name in keep}
    replace(own, gradients=left, cotangent=cotangent or own.cotangent).mark(copy)
    return Model(with_shapes(copy), model.path)
