"""Which pictures excite the channels of a layer most, and where in them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxviz.errors import ImageError, SelectorError, did_you_mean
from onnxviz.graph.layers import Layer
from onnxviz.graph.model import ModelLike, load
from onnxviz.methods.channels import choose_channels, numbered_channels
from onnxviz.methods.engines import ENGINES, Engine, local
from onnxviz.methods.fields import fields_of
from onnxviz.methods.manifest import manifest
from onnxviz.methods.top.job import BATCH, Job, portable
from onnxviz.methods.top.ledger import Ledger
from onnxviz.methods.top.statistics import Statistics, statistics
from onnxviz.methods.top.summary import Summary, pack, unpack
from onnxviz.methods.top.watcher import Watcher, watch
from onnxviz.methods.units import Unit, probe
from onnxviz.vision.preprocess import Preprocess
from onnxviz.vision.read import Images
from onnxviz.vision.sources import list_set

Results = Iterator[tuple[range, Summary]]


@dataclass(frozen=True)
class TopImages:
    """The pictures that excite some channels of a layer most, and how the layer's channels spread.

    Attributes:
        channels: int64 [n], the channels.
        paths: For each channel the names of its k pictures, the strongest first; "" where there are fewer.
        values: float32 [n,k], the activations; -inf where there are fewer pictures.
        numbers: int64 [n,k], the pictures' numbers in the set; -1 where there are fewer.
        positions: int64 [n,k,2], where in the channel's map: row and column.
        boxes: int64 [n,k,4], what of the picture is seen from there: left, top, right, bottom in pixels of
            the model's input, all of one size, so that some reach outside the picture.
        statistics: Of every channel of the layer over the whole set.
        layer: The layer.
        job: What was asked.
        manifest: Where all this came from: see docs/manifest.md.
    """

    channels: npt.NDArray[np.int64]
    paths: tuple[tuple[str, ...], ...]
    values: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]
    statistics: Statistics
    layer: Layer
    job: Job = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)

    def units(self, row: int) -> list[Unit]:
        """The units of a row: the channel's strongest one in each of its pictures."""
        return [
            Unit(int(number), int(self.channels[row]), (int(place[0]), int(place[1])))
            for number, place in zip(self.numbers[row], self.positions[row], strict=True)
            if number >= 0
        ]

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the sheet (PNG), top.json, top.npz, statistics.json and manifest.json into a folder.

        Raises:
            OutputError: The folder cannot be written, or holds files and `overwrite` is false.
        """
        from onnxviz.methods.save_top import save_top

        return save_top(self, folder, overwrite=overwrite)


def top_images(
    model: ModelLike,
    images: Images,
    layer: str | int,
    channels: str = "strongest:16",
    k: int = 9,
    *,
    engine: Engine = "local",
    preprocess: Preprocess | Mapping[str, object] | str | None = None,
    device: str = "auto",
    batch: int | None = None,
    inputs: Mapping[str, npt.NDArray[Any]] | None = None,
    size: tuple[int, int] | None = None,
    progress: str | Path | None = None,
    ray_address: str | None = None,
    workers: int | None = None,
    notify: Callable[[str], object] = lambda _message: None,
) -> TopImages:
    """Find the k pictures that excite each of some channels of a layer most, one place in each picture.

    A larger activation comes first, of equal ones that of the earlier picture, in a picture the first place
    row by row. The answer is the same, to the last bit, whichever engine finds it and however often the
    search was cut off and taken up again.

    Args:
        model: A model, path or proto.
        images: Any number, as few are in memory at a time: a folder with all below it, a pattern, a list
            file, a tar archive (see `onnxviz.vision.sources.list_set`), or a list of paths or pictures.
        layer: A selector; of several layers the last.
        channels: "0,3,8-15", "all", or "strongest:k": those with the largest activation anywhere.
        k: Pictures for each channel.
        engine: "local", or "ray": on the workers of a Ray cluster (needs `onnxviz[ray]`).
        preprocess: A preset, TOML file, mapping or `Preprocess`; None: the model's metadata, else a guess.
        device: "auto", "cpu", "cuda" or "cuda:N".
        batch: Pictures per run; None: chosen.
        inputs: The model's other inputs, by name; the same for all pictures.
        size: Another (height, width) than the model was exported for, where its graph allows it.
        progress: A file that keeps what is done: the same search goes on from there, however it was cut off.
            It stays when the search ends; delete it once the answer is safe.
        ray_address: Of a running Ray cluster; None: one on this machine.
        workers: Models that run at once with Ray; None: one for each GPU, or for every two CPUs.
        notify: Called with a message for each picture that is passed over as it cannot be used, and where an
            earlier search is taken up.

    Raises:
        ImageError: Not one of the pictures can be used.
        DependencyError: Ray is asked for and not installed.
        OnnxvizError: Of the kind that fits: the model, the selector, or the device.
    """
    if engine not in ENGINES:
        raise SelectorError(
            f"no engine {engine!r}{did_you_mean(engine, ENGINES)}; choose {', '.join(ENGINES)}"
        )
    if k < 1:
        raise SelectorError(f"at least 1 picture is found for a channel, but {k} were asked for")
    started = time.perf_counter()
    job = Job(
        model=portable(load(model)),
        images=tuple(list_set(images)),
        layer=layer,
        k=k,
        preprocess=preprocess,
        inputs=dict(inputs or {}),
        size=size,
        device=device,
        batch=batch or BATCH,
    )
    watcher = watch(job)
    if not channels.strip().lower().startswith("strongest"):
        numbered_channels(channels, watcher.sizes[0], job.watched.name)
    ledger = Ledger(job, watcher.sizes[0], None if progress is None else Path(progress))
    if ledger.resumed:
        notify(f"going on after {ledger.resumed} of {len(job.images)} pictures")
    loaded = time.perf_counter()
    results = (
        local(watcher, ledger.left) if engine == "local" else _ray(job, ledger.left, ray_address, workers)
    )
    try:
        for chunk, summary in results:
            ledger.enter(chunk, summary)
            for _, reason in summary.failed.values():
                notify(f"passed over: {reason}")
    finally:
        ledger.write()
    if not ledger.summary.pictures:
        ledger.forget()
        raise ImageError("not one of the pictures can be read")
    return _found(watcher, ledger, channels, {"load": loaded - started, "run": time.perf_counter() - loaded})


def _ray(job: Job, chunks: Sequence[range], address: str | None, workers: int | None) -> Results:
    from onnxviz.methods.cluster import Work, on_ray

    # A copy of the job, without the model that this process has loaded.
    return on_ray(Work(replace(job), watch, pack, unpack), chunks, job.device, address, workers)


def _found(watcher: Watcher, ledger: Ledger, channels: str, seconds: Mapping[str, float]) -> TopImages:
    job, summary = watcher.job, ledger.summary
    layer, columns = job.watched, watcher.sizes[2]
    # By activation, not by magnitude: what is not above 0 excites nothing.
    strongest = np.maximum(summary.values[None, :, :1], 0)
    chosen = np.array(choose_channels(channels, strongest, layer.name), np.int64)
    numbers, cells = summary.numbers[chosen], summary.cells[chosen]
    positions = np.stack(np.divmod(cells, columns), axis=-1)
    positions[numbers < 0] = -1
    known = numbers >= 0
    units = [
        Unit(int(number), int(channel), (int(row), int(column)))
        for number, channel, (row, column) in zip(
            numbers[known], chosen[np.nonzero(known)[0]], positions[known], strict=True
        )
    ]
    boxes = np.zeros((*numbers.shape, 4), np.int64)
    boxes[known] = _boxes(watcher, units)
    spread = statistics(summary)
    failed = summary.failed
    return TopImages(
        channels=chosen,
        paths=tuple(tuple(summary.names.get(int(number), "") for number in row) for row in numbers),
        values=summary.values[chosen],
        numbers=numbers,
        positions=positions,
        boxes=boxes,
        statistics=spread,
        layer=layer,
        job=job,
        manifest=manifest(
            job.query.model,
            device=str(watcher.session.device),
            preprocess=job.query.preprocess.to_dict(),
            pictures={
                "count": summary.pictures,
                "failed": [
                    {"number": number, "name": name, "reason": reason}
                    for number, (name, reason) in failed.items()
                ],
            },
            method="top",
            layer=[{"name": layer.name, "op": layer.op, "shape": [*watcher.sizes]}],
            channels=channels,
            k=job.k,
            resumed_after=ledger.resumed,
            seconds={name: round(taken, 3) for name, taken in seconds.items()},
            warnings=_warnings(job, spread, failed),
        ),
    )


def _boxes(watcher: Watcher, units: Sequence[Unit]) -> npt.NDArray[np.int64]:
    """What each unit sees of its picture: int64 [n, 4]."""
    job, (_, height, width) = watcher.job, watcher.sizes
    asked, field = probe(job.query, job.watched, job.device), job.watched.receptive_field
    if field is None or None in (*field.size, *field.stride):
        return fields_of(asked, [replace(unit, picture=0) for unit in units]).boxes
    # Rows tell top and bottom, columns left and right: the diagonal tells all of a layer's boxes.
    diagonal = [Unit(0, 0, (min(i, height - 1), min(i, width - 1))) for i in range(max(height, width))]
    found = fields_of(asked, diagonal).boxes
    rows, columns = np.array([unit.position for unit in units]).T
    return np.stack([found[columns, 0], found[rows, 1], found[columns, 2], found[rows, 3]], axis=1)


def _warnings(job: Job, spread: Statistics, failed: Mapping[int, object]) -> list[str]:
    warnings = []
    source, broken = job.query.preprocess.source, int(spread.broken.sum())
    if source.startswith("guess"):
        warnings.append(f"preprocessing: {source}")
    if failed:
        warnings.append(f"{len(failed)} of {len(job.images)} pictures cannot be used and were passed over")
    if broken:
        values = spread.places * len(spread)
        warnings.append(f"layer {job.watched.name!r}: {broken} of {values} values are NaN or infinite")
    return warnings
