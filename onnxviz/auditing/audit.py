"""`audit`: is the file that ships healthy, and is it still the model that was trained?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from onnxviz.auditing.baseline import compare, load_baseline
from onnxviz.auditing.case import Case, Clock, measure
from onnxviz.auditing.diagnosis import scale_findings
from onnxviz.auditing.drift import Reasons
from onnxviz.auditing.findings import Finding, counts, finding, in_order
from onnxviz.auditing.gates import Gate, judge, parse_gates
from onnxviz.auditing.health import health_entries, health_findings, static_channels
from onnxviz.auditing.identity import RawFile, identity
from onnxviz.auditing.job import File
from onnxviz.auditing.options import How, Options
from onnxviz.auditing.policy import Policy, load_policy, weighed
from onnxviz.auditing.stages import stages
from onnxviz.auditing.structure import fallback_findings, structure, structure_findings
from onnxviz.auditing.subject import Subject, subject
from onnxviz.auditing.verdict import verdict
from onnxviz.errors import ModelError, SelectorError, did_you_mean
from onnxviz.graph.model import Model, ModelLike, load
from onnxviz.methods.attribution.table import find_method
from onnxviz.methods.engines import ENGINES, Engine
from onnxviz.methods.manifest import plain
from onnxviz.methods.top.job import portable
from onnxviz.runtime.devices import resolve
from onnxviz.vision.preprocess import METADATA_KEY
from onnxviz.vision.read import Images
from onnxviz.vision.sources import list_set

Array: TypeAlias = npt.NDArray[Any]

SCHEMA = "onnxviz-audit/1"


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        document: What audit.json holds; its schema is `onnxviz/auditing/audit.schema.json`.
        reasons: The pictures whose explanations differ most, the worst first.
    """

    document: Mapping[str, Any]
    reasons: tuple[Reasons, ...] = field(default=(), repr=False)

    @property
    def gates_hold(self) -> bool:
        """Whether no gate failed."""
        return all(gate["holds"] for gate in self.document["gates"] if gate["severity"] == "error")

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write audit.json, junit.xml, report.html, its pictures and manifest.json into a folder.

        Raises:
            OutputError: The folder cannot be written, or holds files and `overwrite` is false.
        """
        from onnxviz.auditing.save import save_audit

        return save_audit(self, folder, overwrite)


def audit(
    model: ModelLike,
    images: Images | None = None,
    reference: "ModelLike | None" = None,
    *,
    preprocess: How = None,
    reference_preprocess: How = None,
    labels: str | Path | None = None,
    output: str | None = None,
    explain: int = 8,
    method: str = "grad-cam",
    seed: int = 0,
    fail_on: Sequence[str] = (),
    policy: str | Path | None = None,
    baseline: str | Path | None = None,
    engine: Engine = "local",
    ray_address: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    batch: int | None = None,
    inputs: Mapping[str, Array] | None = None,
    size: tuple[int, int] | None = None,
    notify: Callable[[str], object] = lambda _message: None,
) -> dict[str, Any]:
    """Audit a file: its identity, structure and health, and its agreement with a reference.

    Args:
        model: A model, path or proto.
        images: Any number of pictures, as few are in memory at a time (see
            `onnxviz.vision.sources.list_set`); folders named after classes tell what is right. None: only
            what the file alone tells.
        reference: Another export, precision or quantisation of the same model.
        preprocess: A preset, TOML file, mapping or `Preprocess`; None: the model's metadata, else a guess.
        reference_preprocess: Of the reference; None: its metadata, else as the model's.
        labels: A file of class names; None: the models' metadata.
        output: Which output holds the classes; None: the first that looks like scores.
        explain: On how many pictures explanations are compared and checked; 0: none.
        method: How they are explained.
        seed: For all that samples.
        fail_on: Gates such as "agreement.top1<0.98": see docs/audit.md.
        policy: A TOML file of gates and severities.
        baseline: An earlier audit.json to compare with.
        engine: "local", or "ray": on the workers of a Ray cluster (needs `onnxviz[ray]`).
        ray_address: Of a running Ray cluster; None: one on this machine.
        workers: Models that run at once with Ray; None: one for each GPU, or for every two CPUs.
        device: "auto", "cpu", "cuda" or "cuda:N".
        batch: Pictures per run; None: chosen.
        inputs: The models' other inputs, by name; the same for all pictures.
        size: Another (height, width) than the models were exported for, where their graphs allow it.
        notify: Called with a message for each picture that is passed over.

    Returns:
        What audit.json holds: see docs/audit.md.

    Raises:
        PolicyError: A gate, the policy or the baseline cannot be read.
        ImageError: Not one of the pictures can be used.
        OnnxvizError: Of the kind that fits: the reference, the selector, or the device.
    """
    options = Options(
        preprocess=preprocess,
        reference_preprocess=reference_preprocess,
        labels=labels,
        output=output,
        explain=explain,
        method=method,
        seed=seed,
        fail_on=fail_on,
        policy=policy,
        baseline=baseline,
        engine=engine,
        ray_address=ray_address,
        workers=workers,
        device=device,
        batch=batch,
        inputs=inputs,
        size=size,
        notify=notify,
    )
    return dict(run_audit(model, images, reference, options).document)


def run_audit(
    model: ModelLike,
    images: Images | None = None,
    reference: "ModelLike | None" = None,
    options: Options = Options(),  # noqa: B008 - frozen
) -> Audit:
    """As `audit`, with the pictures that go into the report."""
    _refuse_misuse(images, reference, options)
    asked = Asked.of(options)
    clock, device = Clock(), options.device
    resolve(device)
    raw = RawFile.of(model)
    findings = structure_findings(raw)
    document = _blank(identity(raw, None, device), structure(raw, None), options.settings())
    try:
        with clock("load"):
            loaded = load(model)
            document["identity"] = identity(raw, loaded, device)
            document["structure"] = structure(raw, device)
    except ModelError as err:
        findings.append(finding("not-loadable", None, None, None, str(err)))
        return _finished(document, findings, asked, clock)
    findings += fallback_findings(document["structure"])
    if images is None:
        return _finished(document, [*findings, *_still(loaded, document)], asked, clock)
    pictures = tuple(list_set(images))
    audited, file = _ready(loaded, options.preprocess, options)
    other, other_file = None, None
    if reference is not None:
        with clock("load"):
            theirs = load(reference)
            other, other_file = _ready(theirs, _reference_way(theirs, options, audited), options)
            document["reference"] = identity(RawFile.of(reference), theirs, device)
    case = Case(audited, other, (file, other_file), pictures, options, clock)
    found = measure(case)
    document |= found.parts
    document["warnings"] += [*_guesses(audited, other), *case.warnings]
    return _finished(document, [*findings, *found.findings], asked, clock, found.reasons)


def _refuse_misuse(images: Images | None, reference: "ModelLike | None", options: Options) -> None:
    engine = options.engine
    if engine not in ENGINES:
        raise SelectorError(
            f"no engine {engine!r}{did_you_mean(engine, ENGINES)}; choose {', '.join(ENGINES)}"
        )
    if reference is not None and images is None:
        raise SelectorError("a reference is compared on pictures; give some (--images FOLDER)")
    find_method(options.method)


def _ready(model: Model, how: How, options: Options) -> tuple[Subject, File]:
    """A file made ready, and as another process reads it; it is given those inputs that it has."""
    names = {value.name for value in model.inputs}
    given = {name: array for name, array in (options.inputs or {}).items() if name in names}
    made = subject(model, how, given, options.size, options.device)
    return made, File(portable(model), made.query.preprocess, given, options.size, options.device)


@dataclass(frozen=True)
class Asked:
    """What the report is judged by."""

    policy: Policy
    gates: Sequence[Gate]
    baseline: str | Path | None
    earlier: Mapping[str, Any] | None

    @classmethod
    def of(cls, options: Options) -> "Asked":
        """What the options say.

        Raises:
            PolicyError: A gate, the policy or the baseline cannot be read.
        """
        policy = Policy() if options.policy is None else load_policy(options.policy)
        gates = parse_gates([*policy.fail_on, *options.fail_on], policy.warn_on)
        path = options.baseline
        return cls(policy, gates, path, None if path is None else load_baseline(path))


def _finished(
    document: dict[str, Any],
    findings: Sequence[Finding],
    asked: Asked,
    clock: Clock,
    reasons: Sequence[Reasons] = (),
) -> Audit:
    """The report with its findings counted, its gates judged, and its verdict."""
    ordered = in_order(weighed(findings, asked.policy))
    document["findings"] = [one.to_dict() for one in ordered]
    document["counts"] = counts(ordered)
    document["seconds"] = {part: round(taken, 3) for part, taken in clock.seconds.items()}
    told: dict[str, Any] = plain(document)
    if asked.earlier is not None and asked.baseline is not None:
        told["baseline"] = compare(told, asked.earlier, asked.baseline)
    told["gates"] = judge(asked.gates, told)
    told["verdict"], told["reasons"] = verdict(ordered, told["gates"])
    return Audit(told, tuple(reasons))


def _blank(own: Mapping[str, Any], built: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A report of which nothing is measured yet."""
    return {
        "schema": SCHEMA,
        "verdict": "pass",
        "reasons": [],
        "gates": [],
        "counts": {},
        "findings": [],
        "identity": own,
        "reference": None,
        "structure": built,
        "pictures": None,
        "preprocessing": None,
        "health": None,
        "agreement": None,
        "layers": [],
        "first_break": None,
        "lowest": [],
        "unmatched": {"audited": [], "reference": []},
        "drift": None,
        "faithfulness": None,
        "sanity": None,
        "baseline": None,
        "passes": {"audited": {}, "reference": {}, "explanations": 0},
        "seconds": {},
        "settings": settings,
        "warnings": [],
    }


def _still(model: Model, document: dict[str, Any]) -> list[Finding]:
    """What the file alone tells: its weights and its scales."""
    own = stages(model)
    known = static_channels(model, own)
    findings, inherited = health_findings(known)
    document["health"] = {"layers": health_entries(known, inherited)}
    return [*findings, *scale_findings(model, own)]


def _reference_way(theirs: Model, options: Options, audited: Subject) -> How:
    """How the reference is fed: as said, as its file says, else as the audited file."""
    if options.reference_preprocess is not None:
        return options.reference_preprocess
    return None if METADATA_KEY in theirs.metadata else audited.query.preprocess


def _guesses(*subjects: Subject | None) -> list[str]:
    told = [one.query.preprocess.source for one in subjects if one is not None]
    return [f"preprocessing: {source}" for source in dict.fromkeys(told) if source.startswith("guess")]
