"""What each layer responds to: its feature maps for given pictures."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.graph.expose import expose
from onnxviz.graph.feature_maps import as_maps
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import ModelLike, shape_of
from onnxviz.graph.quantisation import as_floats
from onnxviz.graph.selectors import select
from onnxviz.methods.manifest import manifest
from onnxviz.methods.query import Query, ask
from onnxviz.runtime.batching import batches
from onnxviz.runtime.progress import track
from onnxviz.vision.images import Pictures
from onnxviz.vision.preprocess import Preprocess
from onnxviz.vision.read import Images

_CHUNK = 16
# Beyond these the rewrite did not merely round otherwise (measured: 5e-6 in float32, 2e-3 in float16).
_ROUNDING = {"float16": 2e-2, "bfloat16": 1e-1}


@dataclass(frozen=True)
class Observation:
    """The activations of some layers for N pictures.

    `arrays` maps a layer's name to its output, [N, ...] as the model lays it out, floats (what is quantised
    is dequantised). `drift` is how far the model's own outputs moved by exposing the layers: the largest
    difference over the largest value.
    """

    layers: tuple[Layer, ...]
    arrays: Mapping[str, npt.NDArray[Any]]
    pictures: Pictures
    drift: float
    warnings: tuple[str, ...]
    manifest: Mapping[str, Any]

    def maps(self, layer: Layer) -> npt.NDArray[Any]:
        """A layer's feature maps, [N, C, h, w]: see `as_maps`."""
        return as_maps(self.arrays[layer.name], layer)


def activations(
    model: ModelLike,
    images: Images,
    layers: str | int | Sequence[str | int] = "Conv",
    *,
    preprocess: Preprocess | Mapping[str, object] | str | None = None,
    device: str = "auto",
    batch: int | None = None,
    inputs: Mapping[str, npt.NDArray[Any]] | None = None,
    size: tuple[int, int] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """The outputs of layers for pictures, by layer name, each [N, ...] in the layer's own layout.

    Args:
        model: A model, path or proto.
        images: A path, folder, list, PIL image, uint8 [H,W,C] array, or float array shaped like the input.
        layers: Selectors (see `onnxviz.graph.selectors.select`).
        preprocess: A preset, TOML file, mapping or `Preprocess`; None: the model's metadata, else a guess.
        device: "auto", "cpu", "cuda" or "cuda:N".
        batch: Pictures per run; None: chosen.
        inputs: The model's other inputs, by name.
        size: Another (height, width) than the model was exported for, where its graph allows it.

    Raises:
        OnnxvizError: Of the kind that fits: the model, the selector, a picture, or the device.
    """
    return dict(
        observe(
            model,
            images,
            layers,
            preprocess=preprocess,
            device=device,
            batch=batch,
            inputs=inputs,
            size=size,
        ).arrays
    )


def observe(
    model: ModelLike,
    images: Images,
    layers: str | int | Sequence[str | int] = "Conv",
    *,
    preprocess: Preprocess | Mapping[str, object] | str | None = None,
    device: str = "auto",
    batch: int | None = None,
    inputs: Mapping[str, npt.NDArray[Any]] | None = None,
    size: tuple[int, int] | None = None,
) -> Observation:
    """As `activations`, with the layers, the pictures, and how far the outputs moved by being watched."""
    started = time.perf_counter()
    query = ask(model, images, preprocess, inputs, size)
    chosen = select(query.model, layers)
    own = [value.name for value in query.model.outputs]
    tensors = [layer.tensor for layer in chosen]
    session = query.session(expose(query.model, [*own, *tensors]), device)
    original = query.session(query.model, device)
    loaded = time.perf_counter()
    found: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in tensors}
    drift = 0.0
    at_once = 1 if _has_unbatched(query, [*own, *tensors]) else batch or _CHUNK
    for start, stop in track(list(batches(len(query), at_once)), "activations"):
        answers = query.run(session, start, stop, batch=batch)
        drift = max(drift, _moved(query.run(original, start, stop, batch=batch), answers))
        for name in tensors:
            rows = answers[name]
            # What has no batch axis in front comes from one picture alone.
            found[name].append(rows if rows.shape[:1] == (stop - start,) else rows[None])
    arrays = {
        layer.name: as_floats(query.model.tensor(layer.tensor), np.concatenate(found[layer.tensor]))
        for layer in chosen
    }
    warnings = _warnings(query, arrays, drift)
    return Observation(
        layers=chosen,
        arrays=arrays,
        pictures=query.pictures,
        drift=drift,
        warnings=tuple(warnings),
        manifest=manifest(
            query.model,
            device=str(session.device),
            preprocess=query.preprocess.to_dict(),
            pictures=list(query.pictures.names),
            layer=[layer.name for layer in chosen],
            output_drift=drift,
            seconds={
                "load": round(loaded - started, 3),
                "run": round(time.perf_counter() - loaded, 3),
            },
            warnings=warnings,
        ),
    )


def _has_unbatched(query: Query, tensors: Sequence[str]) -> bool:
    """Whether one of the tensors has another first axis than the batch."""
    shapes = [shape_of(query.model.tensor(name)) for name in tensors]
    fronts = [shape[0] if shape else 0 for shape in shapes if shape is not None]
    return any(isinstance(front, int) and front not in (query.where.batch, 1) for front in fronts)


def _moved(before: Mapping[str, npt.NDArray[Any]], after: Mapping[str, npt.NDArray[Any]]) -> float:
    worst = 0.0
    for name, array in before.items():
        old, new = array.astype(np.float64), after[name].astype(np.float64)
        scale = np.abs(old[np.isfinite(old)]).max(initial=0.0)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            moved = np.abs(np.nan_to_num(new - old)).max(initial=0.0)
        worst = max(worst, float(moved / scale) if scale else float(moved))
    return worst


def _warnings(query: Query, arrays: Mapping[str, npt.NDArray[Any]], drift: float) -> list[str]:
    warnings = []
    if query.preprocess.source.startswith("guess"):
        warnings.append(f"preprocessing: {query.preprocess.source}")
    if drift > _ROUNDING.get(query.where.dtype, 1e-3):
        warnings.append(
            f"exposing the layers moved the model's own outputs by {drift:.1e} of their largest value"
        )
    for name, array in arrays.items():
        broken = array.size - int(np.isfinite(array.astype(np.float64)).sum())
        if broken:
            warnings.append(f"layer {name!r}: {broken} of {array.size} values are NaN or infinite")
    return warnings
