"""Raise a model's opset with onnx's own converter, and mend what that one gets wrong."""

from collections.abc import Sequence
from typing import Any

import onnx
import onnx.defs
import onnx.version_converter
import onnx_ir as ir

from onnxviz.errors import ModelError
from onnxviz.graph.ops import constant_of
from onnxviz.graph.weights import bodies

# ONNX Runtime's optimiser writes these into files of any opset; the converter lets other domains be.
_AHEAD, _AHEAD_DOMAIN = ("LayerNormalization", "SimplifiedLayerNormalization"), "onnxviz.ahead"


def default_opset(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operator set that a model imports (0 when it imports none)."""
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)


def raise_opset(proto: onnx.ModelProto, floor: int) -> onnx.ModelProto:
    """`proto` itself where its opset is at least `floor`, else the same model in that opset.

    `proto` may change; a Resize of an opset before 11 still wants `name_resize_modes`.

    Raises:
        ModelError: An operator was never ONNX's, or is no more, or is another by now.
    """
    old = default_opset(proto)
    if old >= floor:
        return proto
    for body in reversed(list(bodies(proto))):  # the innermost first, for what changes is copied
        for node in body.node:
            if node.domain == "" and node.op_type in _AHEAD:
                node.domain = _AHEAD_DOMAIN
            if node.domain == "" and not onnx.defs.has(node.op_type):
                raise ModelError(
                    f"{node.op_type} (node {node.name!r}) is no operator of ONNX, so the model's opset {old} "
                    f"cannot be raised to {floor}; export the model with standard operators"
                )
            if node.op_type == "Scan" and node.domain == "" and old < 9:
                _scan_each_of_batch(node)
        if old < 13:
            _flatten_hardmax(body)
    proto.opset_import.add(domain=_AHEAD_DOMAIN, version=1)
    if old < 9:
        proto = onnx.version_converter.convert_version(proto, 9)
        _show(proto, ("Scan",))
    raised = onnx.version_converter.convert_version(proto, floor)
    _show(raised, _AHEAD)
    imports = [entry for entry in raised.opset_import if entry.domain != _AHEAD_DOMAIN]
    del raised.opset_import[:]
    raised.opset_import.extend(imports)
    return raised


def name_resize_modes(model: ir.Model) -> None:
    """Say, in place, what Resize and Upsample did before opset 11; the converter leaves the new defaults."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type == "Resize" and node.domain == "":
            scales = constant_of(node.inputs[2])
            shrinks = scales is not None and bool((scales <= 1).all() and (scales < 1).any())
            node.attributes["coordinate_transformation_mode"] = ir.AttrString(
                "coordinate_transformation_mode", "asymmetric"
            )
            node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "ceil" if shrinks else "floor")


def _show(proto: onnx.ModelProto, op_types: Sequence[str]) -> None:
    """Make operators standard again, in place, that were hidden from the converter."""
    for body in bodies(proto):
        for node in body.node:
            if node.domain == _AHEAD_DOMAIN and node.op_type in op_types:
                node.domain = ""


def _scan_each_of_batch(node: onnx.NodeProto) -> None:
    """Write, in place, a Scan of the first form, over a batch of sequences, as a later Scan of Scans.

    They are hidden from the converter, which would take the first axis from all that a Scan reads.

    Raises:
        ModelError: The sequences of the batch may differ in length.
    """
    if node.input[0]:
        raise ModelError(
            f"Scan (node {node.name or node.output[0]!r}) scans sequences of several lengths "
            f"({node.input[0]!r}) in the model's opset 8, which later opsets do not; "
            "export the model again with opset 9 or later"
        )
    said = {attribute.name: attribute for attribute in node.attribute}
    step, states = said["body"].g, len(node.input) - 1 - said["num_scan_inputs"].i
    stem = f"{next(filter(None, node.output))}/sequence"
    sequences = onnx.GraphProto(name=stem)
    for outer, inner in ((sequences.input, step.input), (sequences.output, step.output)):
        outer.extend(inner)
        for place, value in enumerate(outer):
            value.name = f"{stem}/{value.name}"
            if place >= states and value.type.tensor_type.HasField("shape"):
                sizes = value.type.tensor_type.shape
                sizes.CopyFrom(onnx.TensorShapeProto(dim=[onnx.TensorShapeProto.Dimension(), *sizes.dim]))
    if "directions" in said:
        said["directions"].name = "scan_input_directions"
    inputs, outputs = ([value.name for value in values] for values in (sequences.input, sequences.output))
    sequences.node.add(
        op_type="Scan", domain=_AHEAD_DOMAIN, input=inputs, output=outputs, attribute=said.values()
    )
    over: dict[str, Any] = {"body": sequences, "num_scan_inputs": len(inputs)}
    batch = onnx.helper.make_node(
        "Scan", node.input[1:], node.output, node.name, domain=_AHEAD_DOMAIN, **over
    )
    node.CopyFrom(batch)


def _flatten_hardmax(body: onnx.GraphProto | onnx.FunctionProto) -> None:
    """Write, in place, each Hardmax as one of the matrix that it saw before opset 13."""
    nodes = []
    for node in body.node:
        if node.op_type != "Hardmax" or node.domain:
            nodes.append(node)
            continue
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        x, y = node.input[0], node.output[0]
        nodes += [
            onnx.helper.make_node("Shape", [x], [f"{y}/shape"]),
            onnx.helper.make_node("Flatten", [x], [f"{y}/flat"], axis=axis),
            onnx.helper.make_node("Hardmax", [f"{y}/flat"], [f"{y}/hard"], node.name, axis=1),
            onnx.helper.make_node("Reshape", [f"{y}/hard", f"{y}/shape"], [y]),
        ]
    if len(nodes) > len(body.node):
        mended = type(body)(node=nodes)
        del body.node[:]
        body.node.extend(mended.node)
