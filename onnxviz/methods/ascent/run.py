"""A run over all pictures asked for, batch after batch and octave after octave; it can be resumed."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import zoom

from onnxviz.errors import DisconnectedError, SelectorError, UnsupportedOperator
from onnxviz.methods.ascent.loop import Ascent, Climb, Report
from onnxviz.methods.ascent.objective import Objective, is_coupled, shape_of_tree
from onnxviz.methods.ascent.plan import Plan, mean_colour, problem_of
from onnxviz.methods.ascent.transforms import Array, Size
from onnxviz.methods.target import probabilities_of
from onnxviz.runtime.progress import track
from onnxviz.vision.labels import name_of

_QUERIES = 16


@dataclass(frozen=True)
class Batch:
    """Pictures made together: the numbers of their wishes, and what all that is drawn depends on."""

    numbers: tuple[int, ...]
    seed: tuple[int, int]


@dataclass(frozen=True)
class Made:
    """What became of a batch of n pictures.

    Attributes:
        numbers: Of the wishes.
        pictures: float32 [n, C, H, W].
        values: The objective before each step, [steps, n].
        watched: What the start and the pictures bring about; see `watch_graph`.
        transparency: [n, C, H, W], or None.
    """

    numbers: tuple[int, ...]
    pictures: Array
    values: Array
    watched: tuple[Mapping[str, Array], Mapping[str, Array]]
    transparency: Array | None


class Run:
    """Climbs, and remembers how far it has come."""

    def __init__(self, plan: Plan, rest: Mapping[str, Array] | None) -> None:
        """Begin, or go on from the rest of an earlier run.

        Raises:
            SelectorError: The rest is of another run, or an objective cannot be raised.
            UnsupportedOperator, DisconnectedError: The model cannot be differentiated, and must be.
        """
        self.plan = plan
        self.warnings = list(plan.warnings)
        self.reports: dict[int, list[Mapping[str, Any]]] = {}
        self.route = plan.route
        self._ascents: dict[tuple[Objective, int], Ascent] = {}
        self._bases = _bases(plan)
        self._choose_route()
        self._batches = _batches(plan, self._rows)
        self._done: list[Made] = []
        self._under_way: tuple[int, Climb, list[Array]] | None = None
        if rest:
            self._recall(rest)
        self._started = time.perf_counter()

    def climb(self) -> None:
        """Take every step that is left."""
        for _ in track(self._steps(), "climbing", self.steps_in_all - self.steps_done):
            pass

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._started

    @property
    def device(self) -> str:
        """Where it runs."""
        return next(iter(self._ascents.values())).device

    @property
    def queries(self) -> int | None:
        """How often the model is asked for each step of each picture, where its gradient is estimated."""
        return self.plan.sampler.queries if self.route == "numeric" else None

    @property
    def steps_in_all(self) -> int:
        """Steps of all batches."""
        return len(self._batches) * self._whole

    @property
    def steps_done(self) -> int:
        """Steps taken."""
        under_way = 0
        if self._under_way is not None:
            octave, climb, _ = self._under_way
            under_way = octave * self.plan.recipe.steps + climb.step
        return len(self._done) * self._whole + under_way

    @property
    def finished(self) -> bool:
        """Whether all batches are done."""
        return len(self._done) == len(self._batches)

    def made(self) -> list[Made]:
        """What has been made: of the batch under way, what it has come to."""
        if self._under_way is None:
            return self._done
        batch, (octave, climb, past) = self._batches[len(self._done)], self._under_way
        return [*self._done, self._result(batch, octave, climb, past)]

    def rest(self) -> dict[str, Array]:
        """What a later run needs to go on from here."""
        held: dict[str, Array] = {"fingerprint": np.array(self.plan.fingerprint)}
        for number, made in enumerate(self._done):
            parts = {"pictures": made.pictures, "values": made.values}
            parts |= {f"before/{name}": array for name, array in made.watched[0].items()}
            parts |= {f"after/{name}": array for name, array in made.watched[1].items()}
            if made.transparency is not None:
                parts["transparency"] = made.transparency
            held |= {f"done/{number}/{name}": array for name, array in parts.items()}
        if self._under_way is not None:
            octave, climb, past = self._under_way
            held |= {"octave": np.array(octave), "past": np.array(past, np.float32)}
            held |= {f"climb/{name}": array for name, array in climb.arrays().items()}
        return held

    def _recall(self, rest: Mapping[str, Array]) -> None:
        if str(rest.get("fingerprint", "")) != self.plan.fingerprint:
            raise SelectorError(
                "the run to go on with was made with another model or settings; give the same, or begin anew"
            )
        for number, batch in enumerate(self._batches):
            parts = _under(rest, f"done/{number}/")
            if not parts:
                break
            watched = (_under(parts, "before/"), _under(parts, "after/"))
            self._done.append(
                Made(batch.numbers, parts["pictures"], parts["values"], watched, parts.get("transparency"))
            )
        if "octave" in rest:
            climb = Climb.of(_under(rest, "climb/"))
            self._under_way = (int(rest["octave"]), climb, list(rest["past"]))

    @property
    def _whole(self) -> int:
        return self.plan.recipe.steps * self.plan.recipe.octaves

    def _steps(self) -> Iterator[None]:
        for batch in self._batches[len(self._done) :]:
            yield from self._climbed(batch)

    def _climbed(self, batch: Batch) -> Iterator[None]:
        count = self.plan.recipe.steps
        octave, climb, past = self._under_way or (0, self._ascent(batch, 0).begin(self._seeds(batch)), [])
        while True:
            ascent, origin = (
                self._ascent(batch, octave),
                self._ascent(batch, octave).begin(self._seeds(batch)),
            )
            steps = ascent.climb(climb, origin.theta, self._objectives(batch), batch.seed, count)
            for now, report in steps:
                climb = now
                self._under_way = (octave, climb, past)
                self._note(batch, octave, report)
                yield
            if octave + 1 == self.plan.recipe.octaves:
                break
            past = [*past, *climb.values]
            climb = self._larger(batch, octave, climb)
            octave += 1
            self._under_way = (octave, climb, past)
        self._done.append(self._result(batch, octave, climb, past))
        self._under_way = None

    def _larger(self, batch: Batch, octave: int, climb: Climb) -> Climb:
        """The start of the next octave: its share of the photograph, and what was drawn into it so far."""
        detail = self._ascent(batch, octave).pictures(climb) - self._bases[octave]
        base = self._bases[octave + 1]
        larger = np.stack([_zoomed(one, self.plan.octaves[octave + 1]) for one in detail])
        return self._ascent(batch, octave + 1).begin(self._seeds(batch), base + larger)

    def _result(self, batch: Batch, octave: int, climb: Climb, past: Sequence[Array]) -> Made:
        count, ascent = len(batch.numbers), self._ascent(batch, octave)
        pictures = ascent.pictures(climb)
        start = ascent.pictures(ascent.begin(self._seeds(batch)))
        watched = tuple(
            {name: array[:count] for name, array in ascent.watch(one).items()} for one in (start, pictures)
        )
        if ascent.problem.size != self.plan.size:
            pictures = np.stack([_zoomed(one, self.plan.size) for one in pictures])
        clear = ascent.transparency(climb)
        return Made(
            batch.numbers,
            pictures[:count],
            np.array([*past, *climb.values], np.float32).reshape(-1, len(pictures))[:, :count],
            (watched[0], watched[1]),
            None if clear is None else clear[:count],
        )

    def _note(self, batch: Batch, octave: int, report: Report) -> None:
        """Keep what is known of a step, where it was asked for."""
        if not self.plan.report:
            return
        for row, number in enumerate(batch.numbers):
            entry: dict[str, Any] = {
                "octave": octave,
                "iteration": report.step,
                "loss": float(report.value[row]),
            }
            if report.gradient_min is not None and report.gradient_max is not None:
                low, high = float(report.gradient_min[row]), float(report.gradient_max[row])
                entry |= {"gradient_min": low, "gradient_max": high}
            if report.rate is not None:
                entry["step_size"] = float(report.rate[row])
            if report.scores is not None and not self.plan.recipe.crops:
                entry |= self._predicted(report.scores.reshape(self._rows, -1)[row])
            self.reports.setdefault(number, []).append(entry)

    def _predicted(self, scores: Array) -> dict[str, Any]:
        assert self.plan.scores is not None
        if self.plan.scores.class_axis is None or self.plan.scores.has_places:
            return {}
        chances = probabilities_of(scores, self.plan.scores)
        best = int(np.argmax(chances))
        return {"class": best, "label": name_of(best, self.plan.labels), "score": float(chances[best])}

    def _objectives(self, batch: Batch) -> list[Objective]:
        return [self.plan.wishes[number].objective for number in self._filled(batch)]

    def _seeds(self, batch: Batch) -> list[tuple[int, ...]]:
        return [(self.plan.seed, self.plan.wishes[number].copy) for number in self._filled(batch)]

    def _filled(self, batch: Batch) -> list[int]:
        """The number of the wish in each row of a batch; rows that are left over repeat the last."""
        return [*batch.numbers, *[batch.numbers[-1]] * (self._rows - len(batch.numbers))]

    def _ascent(self, batch: Batch, octave: int) -> Ascent:
        return self._ready(self.plan.wishes[batch.numbers[0]].objective, octave)

    def _ready(self, objective: Objective, octave: int) -> Ascent:
        """The ascent of one tree of objectives in one octave, made when first asked for."""
        plan, key = self.plan, (shape_of_tree(objective), octave)
        if key not in self._ascents:
            numeric = self.route == "numeric"
            queries = min(_QUERIES, plan.sampler.queries) if plan.where.batch is None else plan.where.batch
            self._ascents[key] = Ascent(
                problem_of(plan, objective, plan.octaves[octave], self._rows),
                plan.facts,
                mean_colour(plan.preprocess, plan.where.channels or 3),
                self._bases[octave],
                plan.device,
                plan.others,
                plan.sampler if numeric else None,
                queries,
                plan.report,
                octave * plan.recipe.steps,
            )
        return self._ascents[key]

    @property
    def _rows(self) -> int:
        """How many pictures are made at once."""
        if any(is_coupled(wish.objective) for wish in self.plan.wishes):
            return 1 + max(wish.copy for wish in self.plan.wishes)
        return 1 if self.route == "numeric" else self.plan.batch

    def _choose_route(self) -> None:
        """Differentiate, or ask for values alone where that is not possible."""
        plan = self.plan
        if any(is_coupled(wish.objective) for wish in plan.wishes):
            if plan.route == "numeric":
                raise SelectorError(
                    "diversity and alignment need the gradient of the graph; leave --gradient numeric out"
                )
            if plan.where.batch not in (None, self._rows):
                raise SelectorError(
                    f"diversity and alignment compare {self._rows} copies in one batch, and the file fixes "
                    f"its batch at {plan.where.batch}; export it with an open batch, or give as many --copies"
                )
        if plan.route == "numeric":
            self._warn_of_cost("")
            return
        self.route = "graph"
        try:
            for objective in {shape_of_tree(wish.objective): wish.objective for wish in plan.wishes}.values():
                self._ready(objective, 0).prepare()
        except (UnsupportedOperator, DisconnectedError) as err:
            if plan.route == "graph":
                raise
            self.route = "numeric"
            self._ascents.clear()
            self._warn_of_cost(f"{err}; ")

    def _warn_of_cost(self, why: str) -> None:
        sampler = self.plan.sampler
        self.warnings.append(
            f"{why}the gradient is estimated from values ({sampler.kind}): {sampler.queries} runs of the "
            "model for each step of each picture, and the noisier the more pixels there are"
        )


def _batches(plan: Plan, rows: int) -> list[Batch]:
    """Wishes of one tree that are made together: copies that are compared, else as many as fit a batch."""
    groups: dict[Any, list[int]] = {}
    for number, wish in enumerate(plan.wishes):
        coupled = is_coupled(wish.objective)
        key = (shape_of_tree(wish.objective), wish.name if coupled else "", 0 if coupled else wish.copy)
        groups.setdefault(key, []).append(number)
    return [
        Batch(tuple(numbers[start : start + rows]), (plan.seed, key[2]))
        for key, numbers in groups.items()
        for start in range(0, len(numbers), rows)
    ]


def _bases(plan: Plan) -> list[Array]:
    """What the picture of each octave begins around, the smallest first; each made of the next larger."""
    bases = [plan.around]
    for size in plan.octaves[-2::-1]:
        bases.append(_zoomed(bases[-1], size))
    return bases[::-1]


def _zoomed(picture: Array, size: Size) -> Array:
    """A picture [C, H, W] at another size, between the centres of the outermost pixels, as SciPy's zoom."""
    height, width = picture.shape[1:]
    if (height, width) == size:
        return picture
    return np.asarray(zoom(picture, (1, size[0] / height, size[1] / width), order=1))


def _under(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
