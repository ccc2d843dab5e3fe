"""The derivative of each operator, one file per family; importing this room registers them all."""

from onnxviz.autodiff.rules import (
    activation,
    convolution,
    elementwise,
    linear,
    movement,
    normalization,
    pooling,
    reduction,
    resize,
)

__all__ = [
    "activation",
    "convolution",
    "elementwise",
    "linear",
    "movement",
    "normalization",
    "pooling",
    "reduction",
    "resize",
]
