"""ONNX Runtime, honestly: which device, sessions that say what failed, batches, progress and diagnosis."""
