"""Operators of the domain com.microsoft, which onnx's evaluator does not know."""

from onnx.reference.op_run import OpRun

OPERATORS: tuple[type[OpRun], ...] = ()
