"""The ascent itself: one session, step after step, with parameters and state left on the device."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnxviz.methods.ascent.forward import Forward, forward, render_graph, watch_graph
from onnxviz.methods.ascent.numeric import Sampler
from onnxviz.methods.ascent.objective import Objective, kept
from onnxviz.methods.ascent.problem import (
    BEST,
    BEST_VALUE,
    NEXT,
    PICTURE,
    RATE,
    SCORES,
    SLOPE_HIGH,
    SLOPE_LOW,
    THETA,
    TRANSPARENCY,
    VALUE,
    Problem,
)
from onnxviz.methods.ascent.step import step_graph, update_graph
from onnxviz.methods.ascent.transforms import Array, crop_resize
from onnxviz.methods.ascent.update import coefficients, smoothing
from onnxviz.methods.ascent.written import Facts, feeds
from onnxviz.runtime.batching import batches
from onnxviz.runtime.session import Session

# What the random numbers are for; they come last but one, as SeedSequence does not tell trailing zeros apart.
_START, _DRAWS, _MOVES = 1, 2, 3
_PER_PICTURE = ("vector_", "place_", "keep_")


@dataclass(frozen=True)
class Report:
    """What is known of one step, for each picture of the batch."""

    step: int
    value: Array
    gradient_min: Array | None = None
    gradient_max: Array | None = None
    rate: Array | None = None
    scores: Array | None = None


@dataclass
class Climb:
    """A batch under way: what a later run needs to go on exactly from here."""

    step: int
    theta: Any
    state: dict[str, Any]
    values: list[Array] = field(default_factory=list)

    def arrays(self) -> dict[str, Array]:
        """Everything as arrays, by name."""
        held = {THETA: self.theta, **self.state}
        return {
            "step": np.array(self.step),
            "values": np.array(self.values, np.float32),
            **{name: _array(value) for name, value in held.items()},
        }

    @staticmethod
    def of(arrays: Mapping[str, Array]) -> "Climb":
        """The climb that `arrays` held."""
        state = {name: arrays[name] for name in arrays if name not in ("step", "values", THETA)}
        return Climb(int(arrays["step"]), arrays[THETA], state, list(arrays["values"]))


class Ascent:
    """A problem made ready on a device: any number of batches climb through the same sessions."""

    def __init__(
        self,
        problem: Problem,
        facts: Facts,
        middle: Array,
        around: Array,
        device: str,
        others: Mapping[str, Array],
        sampler: Sampler | None = None,
        queries: int = 1,
        report: bool = False,
        past: int = 0,
    ) -> None:
        """Build the graphs and compile them.

        Args:
            problem: What is raised.
            facts: What the objectives' numbers are checked against.
            middle: The mean colour, [C], 0 to 255.
            around: What a picture begins around, [C, H, W].
            device: Where to run.
            others: The network's other inputs.
            sampler: How to estimate the gradient from values alone, of a batch of one; None: by the graph.
            queries: How many copies of the picture are asked about at once, with a sampler.
            report: Whether each step also tells the scores and the gradient's range.
            past: How many steps were taken before, in other octaves; what is drawn depends on it.
        """
        self.problem, self.facts, self.report = problem, facts, report
        self.sampler, self.queries, self.past = sampler, queries, past
        self.around = around
        self._middle = np.asarray(middle, np.float32).reshape(1, -1, 1, 1)
        self._others, self._device = dict(others), device
        rows = problem.batch if sampler is None else queries
        self._seen_with = self._for_rows(rows * max(1, problem.recipe.crops))
        self.forward: Forward = forward(problem if sampler is None else replace(problem, batch=queries))
        self._sessions: dict[str, Session] = {}

    @property
    def device(self) -> str:
        """Where it runs."""
        return str(self._render.device)

    def prepare(self) -> None:
        """Make ready what the steps need, or say why it cannot be.

        Raises:
            UnsupportedOperator, DisconnectedError: The network cannot be differentiated.
        """
        if self.sampler is None:
            self._stepper(self.problem.recipe.steps)

    def begin(self, seeds: Sequence[tuple[int, ...]], theta: Array | None = None) -> Climb:
        """The start of a batch: one seed a picture; or parameters [B, ...] of your own."""
        if theta is None:
            start = self.problem.parameters.start
            theta = np.stack([start(np.random.default_rng([*seed, _START]), self.around) for seed in seeds])
        state: dict[str, Any] = {
            name: np.zeros(shape, np.float32) for name, shape in self.problem.state.items()
        }
        if BEST_VALUE in state:
            state[BEST_VALUE] -= np.inf
        return Climb(0, np.asarray(theta, np.float32), state)

    def climb(
        self,
        now: Climb,
        origin: Array,
        objectives: Sequence[Objective],
        seed: tuple[int, ...],
        steps: int,
    ) -> Iterator[tuple[Climb, Report]]:
        """Step from here until `steps` are done; yields the climb after each step, and what is known of it.

        What is to be kept is measured at `origin`, the parameters at the start.
        """
        given = self._fed(objectives)
        given |= self._kept(origin, objectives, seed)
        while now.step < steps:
            drawn = self._drawn(seed, now.step)
            if self.sampler is None:
                theta, state, report = self._by_graph(now, {**given, **drawn})
            else:
                theta, state, report = self._by_sampling(now, {**given, **drawn}, seed)
            now = Climb(now.step + 1, theta, state, [*now.values, report.value])
            yield now, report

    def pictures(self, at: Climb) -> Array:
        """The pictures of a climb, float32 [B, C, H, W] of 0 to 255: its last, or its best."""
        best = self.problem.recipe.keep == "best" and at.step > 0
        theta = at.state[BEST] if best else at.theta
        return np.asarray(self._render.run({THETA: theta})[PICTURE])

    def transparency(self, at: Climb) -> Array | None:
        """How much each pixel mattered, [B, C, H, W]: its gradients' magnitudes summed; MaCo only."""
        return _array(at.state[TRANSPARENCY]) if TRANSPARENCY in at.state else None

    def watch(self, pictures: Array) -> dict[str, Array]:
        """What pictures [B, C, H, W] bring about, untransformed; see `watch_graph`."""
        session = self._session("watch", lambda: watch_graph(self.problem))
        name = next(value.name for value in session.inputs if value.name.endswith(f"/{PICTURE}"))
        needed = {value.name for value in session.inputs}
        others = {key: array for key, array in self._for_rows(len(pictures)).items() if key in needed}
        return session.run({name: pictures.astype(np.float32), **others})

    @property
    def _render(self) -> Session:
        return self._session("render", lambda: render_graph(self.problem))

    def _session(self, name: str, build: Callable[[], Any]) -> Session:
        if name not in self._sessions:
            self._sessions[name] = Session(build(), self._device)
        return self._sessions[name]

    def _stepper(self, step: int) -> Session:
        rules = "redirected-relu" if step < self.problem.recipe.redirect else "auto"
        return self._session(rules, lambda: step_graph(self.problem, self.forward, rules, self.report))

    def _fed(self, objectives: Sequence[Objective]) -> dict[str, Array]:
        """The numbers of the objectives, one row for each picture that the network sees."""
        times = max(1, self.problem.recipe.crops)
        return {name: np.repeat(rows, times, axis=0) for name, rows in feeds(objectives, self.facts).items()}

    def _kept(self, theta: Array, objectives: Sequence[Objective], seed: tuple[int, ...]) -> dict[str, Array]:
        """What the objectives that are to be kept are worth at the start."""
        found = {}
        for number, _ in enumerate(kept(self.problem.objective)):
            inner = [kept(objective)[number].of for objective in objectives]
            problem = replace(self.problem, objective=kept(self.problem.objective)[number].of)
            made = forward(problem)
            session = Session(made.model, self._device)
            given = {**feeds(inner, self.facts), **self._drawn(seed, 0), THETA: theta}
            answer = session.run(self._named(session, made, given), [made[VALUE]])[made[VALUE]]
            found[f"keep_{number}"] = np.asarray(answer, np.float32)
        return found

    def _drawn(self, seed: tuple[int, ...], step: int) -> dict[str, Array]:
        """What is drawn for a step: it depends on the seed and the step alone, not on the batch."""
        problem, rng = self.problem, np.random.default_rng([*seed, _DRAWS, self.past + step])
        if problem.recipe.crops:
            return _crops(problem, rng, step)
        drawn, size = dict[str, Array](), problem.size
        for stage in problem.stages:
            more, size = stage.draw(rng, size)
            drawn |= more
        return drawn

    def _by_graph(self, now: Climb, given: Mapping[str, Array]) -> tuple[Any, dict[str, Any], Report]:
        session = self._stepper(now.step)
        feeds_now = {**given, **self._settings(now.step), THETA: now.theta, **now.state}
        outputs = [value.name for value in session.outputs]
        stay = [name for name in outputs if name.endswith(NEXT)]
        answers = session.run(self._named(session, self.forward, feeds_now), outputs, on_device=stay)
        state = {name: answers[f"{name}{NEXT}"] for name in now.state if f"{name}{NEXT}" in answers}
        report = Report(
            now.step,
            answers[VALUE],
            answers.get(SLOPE_LOW),
            answers.get(SLOPE_HIGH),
            answers.get(RATE),
            answers.get(SCORES),
        )
        return answers[f"{THETA}{NEXT}"], state, report

    def _by_sampling(
        self, now: Climb, given: Mapping[str, Array], seed: tuple[int, ...]
    ) -> tuple[Any, dict[str, Any], Report]:
        assert self.sampler is not None
        theta = _array(now.theta)
        slope = self.sampler.slope(
            lambda copies: self._values(copies, given),
            theta[0],
            np.random.default_rng([*seed, _MOVES, now.step]),
        )[None]
        here = self._values(theta, given)
        mover = self._session("update", lambda: update_graph(self.problem))
        known = {value.name for value in mover.inputs}
        fed = {THETA: theta, "slope": slope, VALUE: here.astype(np.float32), **now.state}
        fed |= self._settings(now.step)
        answers = mover.run({name: array for name, array in fed.items() if name in known})
        state = {name: answers[f"{name}{NEXT}"] for name in now.state}
        axes = tuple(range(1, slope.ndim))
        report = Report(now.step, here.astype(np.float32), slope.min(axis=axes), slope.max(axis=axes))
        return answers[f"{THETA}{NEXT}"], state, report

    def _values(self, thetas: Array, given: Mapping[str, Array]) -> Array:
        """What copies [n, ...] of one picture's parameters are worth, [n]: as many at once as fit a run."""
        session, made, at_once = (
            self._session("forward", lambda: self.forward.model),
            self.forward,
            self.queries,
        )
        repeated = {
            name: np.repeat(rows, at_once, axis=0) if name.startswith(_PER_PICTURE) else rows
            for name, rows in given.items()
        }
        found = []
        for start, stop in batches(len(thetas), at_once):
            piece = np.resize(thetas[start:stop], (at_once, *thetas.shape[1:]))
            fed = self._named(session, made, {**repeated, THETA: piece})
            found.append(session.run(fed, [made[VALUE]])[made[VALUE]][: stop - start])
        return np.asarray(np.concatenate(found), np.float64)

    def _settings(self, step: int) -> dict[str, Array]:
        recipe = self.problem.recipe
        now = coefficients(recipe, step)
        return {
            "coefficients": np.array([now.a, now.b, now.c], np.float32),
            "middle": self._middle,
            **smoothing(recipe, self.problem.size, step),
        }

    def _named(self, session: Session, made: Forward, given: Mapping[str, Any]) -> dict[str, Any]:
        """What a session is fed, by its own names; what it does not take is left out."""
        prefix = made[THETA].removesuffix(THETA)
        known = {value.name for value in session.inputs}
        named = {f"{prefix}{name}": array for name, array in given.items()}
        return {name: array for name, array in {**named, **self._seen_with}.items() if name in known}

    def _for_rows(self, rows: int) -> dict[str, Array]:
        """The network's other inputs, one row for each picture where they share the pictures' batch axis."""
        first = {value.name: value.shape[0] for value in self.problem.model.inputs if value.shape}
        batch = first.get(self.problem.where.name)
        return {
            name: np.repeat(array, rows, axis=0)
            if isinstance(batch, str) and first.get(name) == batch and array.shape[:1] == (1,)
            else array
            for name, array in self._others.items()
        }


def _crops(problem: Problem, rng: np.random.Generator, step: int) -> dict[str, Array]:
    """Square crops whose sides shrink from a half to a twentieth of the picture, and noise."""
    assert problem.fixed is not None
    count, recipe = problem.recipe.crops, problem.recipe
    side = np.linspace(0.5, 0.05, recipe.steps)[step]
    x, y = (0.5 + 0.15 * rng.standard_normal(count) for _ in range(2))
    sides = np.clip(side + 0.05 * rng.standard_normal(count), 0.05, 1.0)
    matrices = []
    # The source's first pair of a box is called x and counts rows.
    for centre, old, new in zip((x, y), problem.size, problem.fixed, strict=True):
        bounds = zip(centre - sides / 2, centre + sides / 2, strict=True)
        matrices.append(np.stack([crop_resize(old, new, *bound) for bound in bounds]))
    shape = (count, problem.channels, *problem.fixed)
    level = 0.08 * 127.5
    noise = level * rng.standard_normal(shape, np.float32)
    noise += level * (rng.random(shape, np.float32) - 0.5)
    return {
        "crops_down": matrices[0].astype(np.float32),
        "crops_across": matrices[1].transpose(0, 2, 1).astype(np.float32),
        "noise": noise.astype(np.float32),
    }


def _array(value: Any) -> Array:
    return value if isinstance(value, np.ndarray) else np.asarray(value.numpy())
