"""See what an exported ONNX model sees, on the runtime that ships it."""
