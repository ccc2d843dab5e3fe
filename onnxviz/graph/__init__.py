"""An ONNX file as something to read and rewrite: load, layers, expose, cut, save. Runs nothing."""
