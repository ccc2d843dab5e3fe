"""ONNX's reference evaluator, in float64 and with its gaps filled: what `onnxviz.testing` stands on.

The operators here replace those that it gets wrong or refuses; the tests compare each with ONNX Runtime.
"""
