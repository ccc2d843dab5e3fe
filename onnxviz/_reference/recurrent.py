"""Recurrent layers."""

from onnx.reference.op_run import OpRun

OPERATORS: tuple[type[OpRun], ...] = ()
