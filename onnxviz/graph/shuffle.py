"""The weights of some layers in random order."""

import zlib
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.graph.expose import prune
from onnxviz.graph.layers import Layer, weights_of
from onnxviz.graph.model import Model
from onnxviz.graph.ops import Ops, constant_of


def shuffled(model: Model, layers: Sequence[Layer], seed: int = 0) -> Model:
    """The model whose weights of these layers are in random order; all others are shared, and stay.

    A weight is shuffled in the same way whichever other layers are named, and once however many share it.
    """
    copy = model.ir_model.clone()
    values = ir.convenience.create_value_mapping(copy.graph, include_subgraphs=False)
    op = Ops(copy.graph, "shuffled")
    names = dict.fromkeys(str(weight.name) for layer in layers for weight in weights_of(model, layer))
    for name in names:
        numbers = constant_of(values[name])
        assert numbers is not None
        order = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(numbers.size)
        mixed = op.constant(numbers.ravel()[order].reshape(numbers.shape))
        # Not where the model answers with the weight itself: its outputs stay what they are called.
        for user, place in tuple(values[name].uses()):
            user.replace_input_with(place, mixed)
    prune(copy)
    return Model(copy, model.path)
