"""Operators that sample pictures at computed places."""

from onnx.reference.op_run import OpRun

OPERATORS: tuple[type[OpRun], ...] = ()
