"""The reduction on a Ray cluster: chunks go out by Ray Data, and their summaries come back."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from onnxviz.errors import DeviceError
from onnxviz.extras import required
from onnxviz.methods.engines import Reducer, local

Job = TypeVar("Job")
Summary = TypeVar("Summary")


@dataclass(frozen=True)
class Work(Generic[Job, Summary]):
    """What a worker needs to know, to be sent to it.

    Attributes:
        job: The question; each worker needs to find its model and its pictures under the same paths.
        ready: Makes the models of a job ready; a function of a module, as are the others.
        pack: A summary as bytes.
        unpack: The summary that `pack` made bytes of.
    """

    job: Job
    ready: Callable[[Job], Reducer[Any, Summary]]
    pack: Callable[[Summary], bytes]
    unpack: Callable[[bytes], Summary]


class Worker:
    """One model in one process, which reduces the chunks that it is given."""

    def __init__(self, work: Work[Any, Any]) -> None:
        """Make the model ready."""
        self.work, self.reducer = work, work.ready(work.job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The packed summary of each chunk [start, stop)."""
        chunks = [range(*ends) for ends in zip(batch["start"].tolist(), batch["stop"].tolist(), strict=True)]
        packed = np.empty(len(chunks), object)
        packed[:] = [self.work.pack(summary) for _, summary in local(self.reducer, chunks)]
        return {**batch, "summary": packed}


def on_ray(
    work: Work[Any, Summary],
    chunks: Sequence[range],
    device: str,
    address: str | None = None,
    workers: int | None = None,
) -> Iterator[tuple[range, Summary]]:
    """Reduce chunks on the workers of a Ray cluster, one model each; they come back in any order.

    Args:
        work: The question, without a model that this process has loaded.
        chunks: What is to be done.
        device: What the models run on.
        address: Of a running cluster; None: the one that this process is connected to, else one of its own.
        workers: How many models; None: one for each GPU, or for every two CPUs where there is none.

    Raises:
        DependencyError: Ray is not installed.
        DeviceError: There is no cluster at that address, or a worker failed.
    """
    with _connected(address) as ray:
        gpus = int(ray.cluster_resources().get("GPU", 0)) if device != "cpu" else 0
        cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        count = min(workers or gpus or max(1, cpus // 2), max(1, len(chunks)))
        rows = [{"start": chunk.start, "stop": chunk.stop} for chunk in chunks]
        # As many blocks as chunks: a worker that is done takes the next one.
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        summaries = data.map_batches(
            Worker,
            fn_constructor_args=(work,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=None if gpus else max(1, cpus // count),
            num_gpus=1 if gpus else None,
        )
        try:
            for row in summaries.iter_rows():
                yield range(row["start"], row["stop"]), work.unpack(row["summary"])
        except ray.exceptions.RayError as err:
            raise DeviceError(f"Ray: a worker failed: {_last_line(err)}") from err


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected; a cluster that was started or joined for this is left again."""
    ray = required("ray", "ray")
    required("ray.data", "ray")
    mine = not ray.is_initialized()
    if mine:
        # It would say what it is doing, on the terminal that has our progress.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as err:
            raise DeviceError(f"Ray: no cluster at {address!r}: {_last_line(err)}") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, shown = False, context.enable_progress_bars
    try:
        yield ray
    finally:
        context.enable_progress_bars = shown
        if mine:
            ray.shutdown()


def _last_line(err: BaseException) -> str:
    """What went wrong, without the frames of the process that it went wrong in."""
    lines = [line for line in str(err).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(err).__name__
