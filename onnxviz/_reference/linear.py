"""Matrix products and what else is linear algebra."""

from onnx.reference.op_run import OpRun

OPERATORS: tuple[type[OpRun], ...] = ()
