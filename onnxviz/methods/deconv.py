"""What in a picture excited the channels of a layer (Zeiler & Fergus 2014, arXiv:1311.2901)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.errors import ImageError, SelectorError
from onnxviz.graph.expose import expose
from onnxviz.graph.families import family
from onnxviz.graph.feature_maps import as_maps
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import ModelLike
from onnxviz.graph.quantisation import as_floats
from onnxviz.graph.selectors import select_one
from onnxviz.methods.channels import choose_channels
from onnxviz.methods.fields import share_seen
from onnxviz.methods.projection import Projections, Unit, project
from onnxviz.methods.query import Query, ask
from onnxviz.methods.units import strongest_places
from onnxviz.vision.preprocess import Preprocess
from onnxviz.vision.read import Images

_NEAR = 0.5


def deconv(
    model: ModelLike,
    image: Images,
    layer: str | int | None = None,
    channels: str = "strongest:9",
    rules: str = "deconvnet",
    *,
    preprocess: Preprocess | Mapping[str, object] | str | None = None,
    device: str = "auto",
    batch: int | None = None,
    inputs: Mapping[str, npt.NDArray[Any]] | None = None,
    size: tuple[int, int] | None = None,
) -> Projections:
    """Project the strongest unit of each of some channels of a layer down to the pixels of a picture.

    Args:
        model: A model, path or proto.
        image: One picture: a path, PIL image, uint8 [H,W,C] array, or float array shaped like the input.
        layer: A selector; None: the last convolution whose units see at most half the picture's height and
            width (of none: the first convolution with places).
        channels: "0,3,8-15", "all", or "strongest:k": the k channels with the largest activation anywhere.
        rules: "deconvnet", "guided-backprop" or "gradient": what a ReLU does on the way down.
        preprocess: A preset, TOML file, mapping or `Preprocess`; None: the model's metadata, else a guess.
        device: "auto", "cpu", "cuda" or "cuda:N".
        batch: Units per run; None: chosen.
        inputs: The model's other inputs, by name.
        size: Another (height, width) than the model was exported for, where its graph allows it.

    Raises:
        OnnxvizError: Of the kind that fits: the model, the selector, the picture, or the device.
    """
    query = ask(model, image, preprocess, inputs, size)
    if len(query) != 1:
        raise ImageError(f"deconv takes one picture, not {len(query)}; call it for each")
    chosen = default_layer(query) if layer is None else select_one(query.model, layer)
    maps = _maps(query, chosen, device)
    # By activation, not by magnitude: what is not above 0 excites nothing.
    wanted = choose_channels(channels, np.maximum(maps, 0), chosen.name)
    _, places = strongest_places(maps[0, wanted])
    units = [
        Unit(0, channel, (int(row), int(column)))
        for channel, (row, column) in zip(wanted, places, strict=True)
    ]
    found = project(query, chosen, units, rules, device=device, batch=batch)
    why = "given" if layer is not None else "the last convolution whose units see at most half the picture"
    described = [{**entry, "why": why} for entry in found.manifest["layer"]]
    return replace(found, manifest={**found.manifest, "layer": described, "channels": channels})


def default_layer(query: Query) -> Layer:
    """The last convolution whose units see at most half the picture's height and width; of none, the first.

    Raises:
        SelectorError: The model has no convolution with places.
    """
    convolutions = [layer for layer in query.model.layers if family(layer.op) == "Conv" and layer.is_spatial]
    if not convolutions:
        raise SelectorError("this model has no convolution with places; name a layer (--layer)")
    near = [layer for layer in convolutions if share_seen(query, layer) <= _NEAR]
    return near[-1] if near else convolutions[0]


def _maps(query: Query, layer: Layer, device: str) -> npt.NDArray[Any]:
    """A layer's feature maps [1, C, h, w] for the picture, in floats."""
    session = query.session(expose(query.model, layer.tensor), device)
    answer = query.run(session, 0, 1)[layer.tensor]
    return as_maps(as_floats(query.model.tensor(layer.tensor), answer), layer)
