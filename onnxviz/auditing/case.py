"""`Case`: a file, its reference and the pictures; what is measured of them, step by step."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxviz.auditing.agreement import agreement, agreement_findings
from onnxviz.auditing.answers import classes_of
from onnxviz.auditing.auditor import at_once, auditor, decode, ready
from onnxviz.auditing.comparison import Compared, compared, layer_entries, lowest
from onnxviz.auditing.diagnosis import (
    causes,
    diagnose,
    first_break,
    input_scale_findings,
    range_findings,
    readers,
    scale_findings,
)
from onnxviz.auditing.drift import Reasons, drift_entry, drift_findings, explained
from onnxviz.auditing.findings import Finding, finding
from onnxviz.auditing.health import ENOUGH, Channels, channels, health_entries, health_findings
from onnxviz.auditing.job import CHUNK, STREAMS, File, Job
from onnxviz.auditing.matching import Match
from onnxviz.auditing.options import Options
from onnxviz.auditing.outputs import class_scores, paired
from onnxviz.auditing.presets import TRIED, Tried, entries, preset_findings, tried
from onnxviz.auditing.probing import PROBED, Look, look, matched
from onnxviz.auditing.sanity import faithfulness, gradient_check, randomisation, sanity_findings
from onnxviz.auditing.subject import Subject
from onnxviz.auditing.sums import Sums, merge, pack, unpack
from onnxviz.auditing.truth import true_classes
from onnxviz.errors import ImageError, OnnxvizError
from onnxviz.methods.engines import chunks_of, local, side_by_side
from onnxviz.methods.scores import Scores
from onnxviz.methods.target import TargetLike
from onnxviz.vision.labels import read_labels
from onnxviz.vision.read import Picture

Array: TypeAlias = npt.NDArray[Any]

_JUDGED = 4
"""Pictures whose maps are judged by insertion and deletion."""


class Clock:
    """How long each part took, in seconds."""

    def __init__(self) -> None:
        """Nothing was timed yet."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time inside to a part."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started


@dataclass(frozen=True)
class Measured:
    """What was measured: parts of the report by their key, findings, and the pictures to draw."""

    parts: Mapping[str, Any]
    findings: Sequence[Finding]
    reasons: Sequence[Reasons] = ()


@dataclass(frozen=True)
class Case:
    """A file, its reference or None, and pictures; `files` are the two as other processes read them."""

    audited: Subject
    reference: Subject | None
    files: tuple[File, File | None]
    images: tuple[Picture, ...]
    options: Options
    clock: Clock = field(default_factory=Clock)
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def labels(self) -> tuple[str, ...] | None:
        """What the classes are called."""
        own = read_labels(self.options.labels, self.audited.model.metadata)
        if own is None and self.reference is not None:
            return read_labels(None, self.reference.model.metadata)
        return own

    @cached_property
    def scores(self) -> tuple[Scores | None, Scores | None]:
        """Where each file holds its classes."""
        other = None if self.reference is None else class_scores(self.reference.model)
        return class_scores(self.audited.model, self.options.output), other

    @property
    def judge(self) -> Subject:
        """The file whose answers are explained: the reference, else the audited one."""
        return self.audited if self.reference is None else self.reference

    def arrays(self, numbers: Sequence[int]) -> list[tuple[int, Array, Array | None]]:
        """The pictures of these numbers that can be used, as each file takes them."""
        found = []
        for both in decode(self.images, numbers, self.audited, self.reference):
            if both.reason is None and both.audited.array is not None:
                other = None if both.reference is None else both.reference.array
                found.append((both.audited.number, both.audited.array, other))
        return found

    def some(self, count: int, but: Sequence[int] = ()) -> list[int]:
        """So many numbers of pictures, spread evenly over the set."""
        left = np.setdiff1d(np.arange(len(self.images)), list(but))
        return sorted(
            {
                int(left[place])
                for place in np.linspace(0, len(left) - 1, min(count, len(left))).round().astype(int)
            }
        )


def measure(case: Case) -> Measured:
    """Run the pictures through both files, and find what is wrong.

    Raises:
        ImageError: Not one of the pictures can be used.
        OnnxvizError: A file cannot be run.
    """
    clock, audited, reference = case.clock, case.audited, case.reference
    at_once(audited, reference, case.options.at_once)  # refuses files that fix different batches
    scores, reference_scores = case.scores
    with clock("first look"):
        first = _first(case)
        mine = look(audited, [x for _, x, _ in first], scores)
        theirs: Look | None = None
        matches: tuple[Match, ...] = ()
        if reference is not None:
            others = [y for _, _, y in first if y is not None]
            theirs = look(reference, others, reference_scores)
            matches = matched(mine, theirs, reference, others)
    outputs, differ = paired(mine.answers, {} if theirs is None else theirs.answers, scores, reference_scores)
    if reference is None:
        outputs, differ = replace(outputs, scores=scores), []
    count = None if scores is None else mine.answers[scores.output][0].size
    classes = true_classes(case.images, case.labels, count)
    job = Job(
        case.files[0], case.files[1], case.images, classes,
        tuple(match.pair for match in matches), outputs, case.options.at_once,
    )  # fmt: skip
    with clock("pictures"):
        sums = _reduced(case, job)
    known = channels(audited, sums, mine)
    health, inherited = health_findings(known, matches, sums, int(sums.number("sum:pictures")))
    with clock("preprocessing"):
        ways = _ways(case, scores, reference_scores, classes, list(sums.failed))
    first_layer = _first_layer(audited)
    presets = preset_findings(ways, first_layer)
    findings = [*health, *presets, *differ]
    parts: dict[str, Any] = {
        "pictures": _pictures(sums, classes),
        "preprocessing": _preprocessing(case, ways),
        "health": {"layers": health_entries(known, inherited)},
    }
    scales = [*scale_findings(audited.model, audited.stages), *input_scale_findings(known)]
    findings += scales
    if theirs is not None and reference is not None:
        layers = compared(matches, sums, mine.repeat, audited.model, reference.model)
        parts |= _comparison(case, layers, sums, mine, theirs, matches, job)
        findings += _differences(case, layers, known, health, presets, scales, sums, parts, first_layer)
    findings += range_findings(known, findings, alone=reference is None)
    with clock("explanations"):
        more = _explanations(case, matches, sums, job, parts, findings)
    parts["passes"] = _passes(case, sums)
    case.warnings.extend(_few(parts))
    return Measured(parts, causes(findings, audited.stages, known), more)


def _pictures(sums: Sums, classes: Sequence[int]) -> dict[str, Any]:
    failed = sums.failed
    return {
        "count": int(sums.number("sum:pictures")),
        "labelled": sum(each >= 0 for number, each in enumerate(classes) if number not in failed),
        "failed": [{"number": number, "name": name, "reason": why} for number, (name, why) in failed.items()],
    }


def _preprocessing(case: Case, ways: Sequence[Tried]) -> dict[str, Any]:
    reference = case.reference
    return {
        "in_use": case.audited.query.preprocess.to_dict(),
        "reference": None if reference is None else reference.query.preprocess.to_dict(),
        "pictures": len(ways[0].confidence) if ways else 0,
        "variants": entries(ways),
    }


def _few(parts: Mapping[str, Any]) -> list[str]:
    """What few pictures leave open: the least share that they do not rule out (Wilson 1927, 95%)."""
    count, answers = parts["pictures"]["count"], parts.get("agreement")
    if answers is None or answers["top1"] is None or count >= ENOUGH:
        return []
    share, z = answers["top1"], 1.96
    middle = share + z * z / (2 * count)
    spread = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    least = (middle - spread) / (1 + z * z / count)
    return [f"{count} pictures are few: a top-1 agreement of {share:.1%} may in truth be {least:.0%}"]


def _first(case: Case) -> list[tuple[int, Array, Array | None]]:
    """The pictures of the first look; where none of those can be used, the first that can."""
    found = case.arrays(case.some(PROBED))
    for chunk in chunks_of(len(case.images)):
        if found:
            return found
        found = case.arrays(list(chunk))[:PROBED]
    if not found:
        raise ImageError("not one of the pictures can be used")
    return found


def _reduced(case: Case, job: Job) -> Sums:
    """What all pictures did; parts that come in any order are put together in the pictures' own."""
    chunks = chunks_of(len(case.images), CHUNK)
    on_cpu = case.audited.deployed.device.kind == "cpu" and (os.cpu_count() or 1) > 1
    streams = STREAMS if on_cpu and len(chunks) > STREAMS else 1
    options = case.options
    if options.engine == "local":
        auditing = ready(job, case.audited, case.reference, streams)
        results = local(auditing, chunks) if streams == 1 else side_by_side(auditing, chunks, streams)
    else:
        from onnxviz.methods.cluster import Work, on_ray

        work = Work(job, auditor, pack, unpack)
        results = on_ray(work, chunks, case.audited.device, options.ray_address, options.workers)
    waiting: dict[int, Sums] = {}
    whole, done = Sums(), 0
    for chunk, sums in results:
        waiting[chunk.start] = sums
        for _, why in sums.failed.values():
            options.notify(f"passed over: {why}")
        while done < len(chunks) and chunks[done].start in waiting:
            whole = merge(whole, waiting.pop(chunks[done].start))
            done += 1
    if not whole.number("sum:pictures"):
        raise ImageError("not one of the pictures can be used")
    return whole


def _ways(
    case: Case,
    scores: Scores | None,
    reference_scores: Scores | None,
    classes: Sequence[int],
    failed: Sequence[int],
) -> list[Tried]:
    """The pictures fed in every way; none where the file has no classes or is fed no pictures."""
    if scores is None:
        return []
    numbers = [n for n in case.some(TRIED, failed) if not _is_floats(case.images[n])]
    if not numbers:
        return []
    chances = None
    if case.reference is not None and reference_scores is not None:
        arrays = case.arrays(numbers)
        chances = np.concatenate(
            [
                chance
                for _, _, y in arrays
                if y is not None
                for chance in [classes_of(_alone(case.reference, y, "preprocessing"), reference_scores)]
                if chance is not None
            ]
        )
    pictures = [case.images[number] for number in numbers]
    other = None if case.reference is None else case.reference.query.preprocess
    return tried(
        case.audited, scores, pictures, [classes[n] for n in numbers], chances, case.options.at_once, other
    )


def _alone(subject: Subject, array: Array, why: str) -> dict[str, Array]:
    """The answers to one picture; a fixed batch is filled with it."""
    found = subject.answers(np.stack([array] * (subject.query.where.batch or 1)), why)
    return {name: rows[:1] for name, rows in found.items()}


def _is_floats(picture: Picture) -> bool:
    return isinstance(picture, np.ndarray) and picture.dtype.kind == "f"


def _first_layer(audited: Subject) -> str | None:
    """The first layer with weights that the picture reaches."""
    reached = {audited.query.where.name}
    for stage in audited.stages:
        if reached.intersection(stage.inputs):
            if stage.layer.params:
                return stage.name
            reached.add(stage.tensor)
    return None


def _comparison(
    case: Case,
    layers: Sequence[Compared],
    sums: Sums,
    mine: Look,
    theirs: Look,
    matches: Sequence[Match],
    job: Job,
) -> dict[str, Any]:
    """Both files against each other, as the report holds it."""
    assert case.reference is not None
    ours = {match.audited.stage.name for match in matches}
    others = {match.reference.stage.name for match in matches}
    return {
        "agreement": agreement(sums, job.outputs, mine.repeat, case.labels),
        "layers": layer_entries(layers),
        "first_break": first_break(layers),
        "lowest": lowest(layers),
        "unmatched": {
            "audited": [p.stage.name for p in mine.probes if p.stage.name not in ours],
            "reference": [p.stage.name for p in theirs.probes if p.stage.name not in others],
        },
    }


def _differences(
    case: Case,
    layers: Sequence[Compared],
    known: Mapping[str, Channels],
    health: Sequence[Finding],
    presets: Sequence[Finding],
    scales: Sequence[Finding],
    sums: Sums,
    parts: Mapping[str, Any],
    first_layer: str | None,
) -> list[Finding]:
    """What is wrong between the two files, each fault once and at its own layer."""
    assert case.reference is not None
    precision = next(
        (kind for kind in ("quantised", "half") if any(e.precision == kind for e in layers)), "float"
    )
    weighted = [each.match for each in layers if known[each.stage.name].filters is not None]
    last = weighted[-1] if weighted else None
    answers = agreement_findings(sums, parts["agreement"], precision, last, case.labels)
    permuted = any(one.code == "classes-permuted" for one in answers)
    excused = [one.layer for one in (*presets, *scales) if one.layer is not None]
    excused += readers(case.audited.stages, {one.layer for one in scales})
    if permuted and last is not None:
        excused.append(last.audited.stage.name)
    if first_layer is not None and presets and any(one.severity == "error" for one in presets):
        excused.append(first_layer)
    found = diagnose(layers, known, health, case.reference.model, excused)
    causes = [one for one in (*found, *health, *presets, *scales) if one.severity == "error" or one in health]
    if causes:
        # The answers differ for a reason that has been told.
        answers = [one for one in answers if one.code != "outputs-diverge"]
    unmatched = [
        finding("unmatched-layer", name, None, None, "no layer of the reference is this one")
        for name in parts["unmatched"]["audited"]
        if known[name].filters is not None
    ]
    return [*found, *answers, *unmatched]


def _explanations(
    case: Case,
    matches: Sequence[Match],
    sums: Sums,
    job: Job,
    parts: dict[str, Any],
    findings: list[Finding],
) -> list[Reasons]:
    """Explanations of some pictures: how they differ between the files, and whether they can be trusted."""
    options = case.options
    numbers = case.some(options.explain, list(sums.failed)) if options.explain else []
    if not numbers:
        return []
    reasons: list[Reasons] = []
    try:
        targets = _targets(case, numbers)
        pictures = {number: case.images[number] for number in numbers}
        if case.reference is not None and job.pairs:
            drift = explained(
                case.audited,
                case.reference,
                matches,
                pictures,
                targets,
                options.method,
                options.seed,
                case.labels,
            )
            parts["drift"], reasons = drift_entry(drift)
            findings += drift_findings(parts["drift"])
        some = [case.images[number] for number in numbers[:_JUDGED]]
        aims = [targets[number] for number in numbers[:_JUDGED]]
        parts["faithfulness"] = faithfulness(case.audited, some, aims, options.method, options.seed)
        parts["sanity"] = {
            "randomisation": randomisation(case.audited, some[0], aims[0], options.method, options.seed),
            "gradient": gradient_check(case.audited, some[0], aims[0], options.seed),
        }
    except OnnxvizError as err:
        case.warnings.append(f"explanations were left out: {err}")
    findings += sanity_findings(
        case.audited.model,
        case.audited.query.where.dtype,
        parts.get("faithfulness"),
        parts.get("sanity") or {},
    )
    return reasons


def _targets(case: Case, numbers: Sequence[int]) -> dict[int, TargetLike]:
    """What is explained of each picture: the class that the reference gives it; else the whole output."""
    scores = case.scores[0 if case.reference is None else 1]
    if scores is None or case.scores[0] is None:
        return dict.fromkeys(numbers, "up")
    found: dict[int, TargetLike] = {}
    for number, x, y in case.arrays(numbers):
        chances = classes_of(_alone(case.judge, x if y is None else y, "explanations"), scores)
        assert chances is not None
        found[number] = int(chances[0].argmax())
    return found


def _passes(case: Case, sums: Sums) -> dict[str, Any]:
    """How often the files were run."""
    told: dict[str, Any] = {}
    explanations = 0
    for who, subject in (("audited", case.audited), ("reference", case.reference)):
        counts: dict[str, int] = {}
        for name in sums.arrays:
            prefix = f"sum:passes:{who}:"
            if name.startswith(prefix):
                counts[name.removeprefix(prefix)] = int(sums.number(name))
        for why, count in ({} if subject is None else subject.passes).items():
            counts[why] = counts.get(why, 0) + count
        explanations += counts.pop("explanations", 0)
        told[who] = {**counts, "total": sum(counts.values())} if counts else {}
    return {**told, "explanations": explanations}
