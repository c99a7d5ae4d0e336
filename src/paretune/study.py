"""What a user asks for, checked for shape only: no data is read, no model is opened, no torch.

A :class:`Study` is a file. A :class:`Run` is one task x model x method x learning rate x seed:
the unit of work and of truth. Both are frozen; a run's :meth:`Run.canonical_form` form, together
with the content of its data, the weights of its model and the epoch of its method's code, is its
identity (:func:`compute_run_id`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from paretune import amounts, spellings, study_file
from paretune.errors import StudyError
from paretune.overrides import apply_overrides
from paretune.paths import PATH_KEYS, PathResolver, is_path, restore_written_paths
from paretune.specs import (
    ANSWER_SET_METRICS,
    REGRESSION_METRICS,
    TRANSLATION_METRICS,
    Answer,
    Checks,
    FrozenModel,
    Label,
    MethodSpec,
    Metric,
    ModelSpec,
    TaskKind,
    TaskSpec,
)
from paretune.study_faults import build_study_error

__all__ = [
    "ANSWER_SET_METRICS",
    "NUM_FOLDS",
    "REGRESSION_METRICS",
    "TRANSLATION_METRICS",
    "Answer",
    "Checks",
    "Generation",
    "Label",
    "MethodSpec",
    "Metric",
    "ModelSpec",
    "Protocol",
    "Run",
    "Stage",
    "Study",
    "TaskKind",
    "TaskSpec",
    "Training",
    "compute_run_id",
    "derive_seed",
    "digest",
]

Stage = Literal["tune", "final", "cost"]
MAX_COUNTS = {"tasks": 100, "models": 100, "methods": 300, "seeds": 100, "runs": 20_000}
"""How many of each a study may have: more is a mistake, or several studies."""
DEFAULT_COST_SECONDS = 20.0
"""For timing the steps of one cost, where the study file does not say."""
NUM_FOLDS = 5
"""Train is always cut into this many stratified parts; part 0 is the selection part."""


def _parse_bytes(given: Any) -> Any:
    """Bytes of ``4GiB``, or of a bare number."""
    try:
        number = isinstance(given, int | float) and not isinstance(given, bool)
        return round(amounts.parse_size(given if number else str(given), "keep_weights"))
    except StudyError as error:
        raise ValueError(f"{error.what} {error.remedy}") from None


class Protocol(FrozenModel):
    """What makes the comparison fair; see docs/protocol.md.

    ``folds`` is how many of the five parts of train take a turn as selection part when rates are
    chosen (5 for a claim, 1 for a quick look). ``trials`` is the number of learning rates that
    every method may try. ``selection: test`` is the paper's way and is labelled so.
    ``cost_seconds`` is how long the steps of one cost measurement may be timed, and half of it its
    answers; a cost that is known well enough takes less.
    ``keep_weights`` (``4GiB``; a bare number is bytes) is what the trained weights of the study may
    take in its store; it changes no result, so it is no part of what a study is known by.
    """

    preset: Literal["fair", "paper"] = "fair"
    seeds: Annotated[tuple[int, ...], Field(max_length=MAX_COUNTS["seeds"])] = (1, 2, 3, 4, 5)
    tuning_seed: int = 0
    folds: int = Field(default=5, ge=1, le=NUM_FOLDS)
    trials: int = Field(default=3, ge=1, le=20)
    split_seed: int = 0
    as_run: bool = False
    cost_seconds: float = Field(default=DEFAULT_COST_SECONDS, gt=0)
    keep_weights: Annotated[int, BeforeValidator(_parse_bytes), Field(ge=0)] = 4 * 2**30

    @model_validator(mode="after")
    def _check_seeds(self) -> Protocol:
        if not self.seeds:
            raise ValueError("seeds: at least one is needed (five for a claim)")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} names a seed twice")
        if self.preset == "fair" and self.tuning_seed in self.seeds:
            raise ValueError(
                f"tuning_seed {self.tuning_seed} is also among seeds; "
                "final seeds must be fresh, or the chosen rate is flattered"
            )
        return self


class Training(FrozenModel):
    """How every run of the study trains. Lengths in tokens, schedule in optimiser steps.

    ``label_smoothing`` None is 0.1 in a translation and 0 in all else. ``interpolate``: shares
    of the way from the start to the best weights, which the selection part judges after training.
    """

    ALIASES = spellings.TRAINING_ALIASES

    batch_size: int = Field(default=16, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=10, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    eval_every: int | None = Field(default=None, ge=1)
    patience: int | None = Field(default=3, ge=1)
    max_length: int = Field(default=256, ge=8)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    dropout: float | None = Field(default=None, ge=0, lt=1)
    activation_checkpointing: bool = False
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    interpolate: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()

    @model_validator(mode="after")
    def _check_micro_batch(self) -> Training:
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise ValueError(
                f"micro_batch {self.micro_batch} is larger than batch_size {self.batch_size}"
            )
        return self


class Generation(FrozenModel):
    """How translations are made and what is scored beside BLEU, chrF and TER.

    ``num_beams`` and ``length_penalty`` None are the checkpoint's own. ``metrics`` that need more
    than paretune installs are computed only where they are named; ``bertscore_model`` goes with
    ``bertscore``.
    """

    ALIASES = spellings.GENERATION_ALIASES

    num_beams: int | None = Field(default=None, ge=1, le=64)
    length_penalty: float | None = None
    max_new_tokens: int = Field(default=256, ge=1)
    metrics: tuple[Literal["meteor", "bertscore"], ...] = ()
    bertscore_model: str | None = None

    @model_validator(mode="after")
    def _check_bertscore(self) -> Generation:
        if ("bertscore" in self.metrics) != (self.bertscore_model is not None):
            raise ValueError("metrics: [bertscore] and bertscore_model: MODEL go together")
        return self


def _as_entries(value: Any) -> Any:
    """``methods: [full, lora]`` and ``models: NAME`` are as good as the long form."""
    items = value if isinstance(value, list | tuple) else [value]
    return tuple({"name": item} if isinstance(item, str) else item for item in items)


def _limit_entries(what: str) -> BeforeValidator:
    """No more than a study can have, seen before each is looked at."""

    def check(value: Any) -> Any:
        if isinstance(value, list | tuple) and len(value) > MAX_COUNTS[what]:
            raise ValueError(
                f"{len(value)} {what} are more than one study may have ({MAX_COUNTS[what]}); "
                "split it into several studies"
            )
        return _as_entries(value)

    return BeforeValidator(check)


def _check_label(spec: Any) -> Any:
    """Names for tables become parts of paths: printable, short, in no other folder."""
    for what, name in (("label", spec.label), ("name", spec.key)):
        if what == "label" and name is not None and len(name) > 100:
            raise ValueError(f"its label has {len(name)} characters; 100 are the most")
        _check_path_part(what, name, "give it another label")
    return spec


def _check_task_name(task: TaskSpec) -> TaskSpec:
    """Languages are a part of a task's name."""
    if len(task.name) > 100:
        raise ValueError(f"its name has {len(task.name)} characters; 100 are the most")
    for what in ("language", "source_lang", "target_lang"):
        _check_path_part(what, getattr(task, what), "write it as sl or slv_Latn")
    return task


def _check_path_part(what: str, name: str | None, remedy: str) -> None:
    if name is None:
        return
    if not name.isprintable():
        raise ValueError(f"its {what} holds a character that cannot be printed; remove it")
    if "/" in name or "\\" in name or name.strip(" .") != name or not name:
        raise ValueError(
            f'its {what} "{name}" holds a slash, or a dot or space at an end; folders are named '
            f"by it, so {remedy}"
        )


class Study(FrozenModel):
    """A file that asks for many runs under one protocol and budget."""

    study: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    tasks: Annotated[
        tuple[Annotated[TaskSpec, AfterValidator(_check_task_name)], ...],
        _limit_entries("tasks"),
        Field(min_length=1),
    ]
    models: Annotated[
        tuple[Annotated[ModelSpec, AfterValidator(_check_label)], ...],
        _limit_entries("models"),
        Field(min_length=1),
    ]
    methods: Annotated[
        tuple[Annotated[MethodSpec, AfterValidator(_check_label)], ...],
        _limit_entries("methods"),
        Field(min_length=1),
    ]
    protocol: Protocol = Protocol()
    training: Training = Training()
    generation: Generation = Generation()
    checks: Checks = Checks()
    _written: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _overrides: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _check_distinct(self) -> Study:
        for what, items in (("tasks", self.tasks), ("models", self.models)):
            for key in _find_repeated(item.key for item in items):
                raise ValueError(f"{what}: {key} is named twice; give one another name")
        for key in _find_repeated(method.key for method in self.methods):
            raise ValueError(f"methods: {key} is named twice; give each a label of its own")
        cells = len(self.tasks) * len(self.models) * len(self.methods)
        protocol = self.protocol
        runs = cells * (protocol.trials * protocol.folds + len(protocol.seeds) + 1)
        if runs > MAX_COUNTS["runs"]:
            raise ValueError(
                f"it asks for {runs} runs, more than one study may have ({MAX_COUNTS['runs']}); "
                "split it into several studies"
            )
        return self

    @classmethod
    def load(cls, path: Path | str, overrides: Iterable[str] = ()) -> Study:
        """Read a study file (YAML 1.2: ``1e-3`` is a number and ``no`` is a word).

        Paths inside the file are taken relative to the file.

        Args:
            path: of the file.
            overrides: settings in the place of the file's: ``training.epochs=3``.

        Raises:
            StudyError: unreadable, not YAML, or not of the form of a study; every fault is named
                with its line.
        """
        file = study_file.read_study_file(Path(path))
        return cls._from_file(file, tuple(overrides), Path(path).parent)

    @classmethod
    def parse(cls, raw: Mapping[str, Any], *, where: str = "study", base: Path = Path()) -> Study:
        """Build a study from plain values, naming every fault at once.

        Raises:
            StudyError: with one line for each fault.
        """
        return cls._from_file(study_file.StudyFile(dict(raw), where), (), base)

    @classmethod
    def _from_file(
        cls, file: study_file.StudyFile, overrides: tuple[str, ...], base: Path
    ) -> Study:
        values, places = apply_overrides(overrides, file.values)
        try:
            study = cls.model_validate(values)
        except ValidationError as error:
            raise build_study_error(error, cls, file, places) from None
        study = study._resolve_paths(base)
        study._overrides = overrides
        return study

    @property
    def overrides(self) -> tuple[str, ...]:
        """What the command line set in the place of the file's settings, as written there."""
        return self._overrides

    def _resolve_paths(self, base: Path) -> Study:
        anchor = PathResolver(base)
        tasks = tuple(anchor.task(task) for task in self.tasks)
        models = tuple(anchor.model(model) for model in self.models)
        anchored = self.model_copy(update={"tasks": tasks, "models": models})
        anchored._written = anchor.written_paths
        return anchored

    def relocate(self, run: Run) -> Run:
        """A stored run with its data and model where this study has them now."""
        task = next((t for t in self.tasks if t.key == run.task.key), run.task)
        model = next((m for m in self.models if m.key == run.model.key), run.model)
        update: dict[str, Any] = {}
        if now := {
            p: getattr(task, p) for p in PATH_KEYS if getattr(run.task, p) != getattr(task, p)
        }:
            update["task"] = run.task.model_copy(update=now)
        if model.name != run.model.name and is_path(model.name) and is_path(run.model.name):
            update["model"] = run.model.model_copy(update={"name": model.name})
        return run.model_copy(update=update) if update else run

    def canonical_form(self) -> dict[str, Any]:
        """Plain values, defaults included; equal studies have equal canonical forms.

        Paths stand in it as they were written, relative to the study file.
        """
        # What passes the audit, is kept afterwards, or bounds a measurement, changes no run: it
        # makes no other study.
        unknown: Any = {"checks": True, "protocol": {"keep_weights", "cost_seconds"}}
        plain = self.model_dump(mode="json", exclude=unknown)
        return restore_written_paths(_omit_defaults(plain), self._written)

    @property
    def study_hash(self) -> str:
        """Sixteen hexadecimal digits of the canonical form's sha256."""
        return digest(self.canonical_form())[:16]


class Run(FrozenModel):
    """One task x model x method x learning rate x seed.

    ``stage`` is ``tune`` (a rate on trial: scored on the selection part, test labels unseen),
    ``final`` (a fresh seed at the chosen rate) or ``cost`` (measured alone in a fresh process).
    ``fold`` is the part of train that selects; 0 in the final stage. ``learning_rate`` is None
    for methods that do not train by gradient. ``generation`` is there in translations only.
    """

    stage: Stage
    task: TaskSpec
    model: ModelSpec
    method: MethodSpec
    learning_rate: float | None
    seed: int
    fold: int = Field(default=0, ge=0, lt=NUM_FOLDS)
    split_seed: int = 0
    selection: Literal["fold", "test"] = "fold"
    training: Training = Training()
    generation: Generation | None = None

    def canonical_form(self) -> dict[str, Any]:
        """Plain values that identify the run; names for display and places are left out."""
        form = self.model_dump(mode="json")
        form["method"] = {"name": self.method.name, "options": self.method.options}
        name = self.model.name
        form["model"] = {"name": Path(name).name if is_path(name) else name}
        form["task"].pop("licence", None)
        for place in PATH_KEYS:
            form["task"].pop(place, None)
        if self.model.source_prefix is not None:
            form["source_prefix"] = self.model.source_prefix
        return _omit_defaults(form)

    @property
    def cell(self) -> tuple[str, str, str]:
        """Task, model and method keys: the runs that are seen together."""
        return self.task.key, self.model.key, self.method.key


def compute_run_id(run: Run, *, data_hash: str, weights_hash: str, code_epoch: int) -> str:
    """Identity of a run: 20 hexadecimal digits over everything that can change its result."""
    return digest(
        {
            "run": {**run.canonical_form(), "model": None},
            "data": data_hash,
            "weights": weights_hash,
            "code_epoch": code_epoch,
        }
    )[:20]


OMITTED_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "training": {"activation_checkpointing": False, "label_smoothing": None, "interpolate": []},
    "task": {
        "features": None,
        "train_target": None,
        "test_target": None,
        "source_lang": None,
        "target_lang": None,
        "question": None,
        "split": "published",
    },
    "model": {"source_prefix": None},
}
"""Settings that came after the first stores, with the values by which those stores trained."""


def _omit_defaults(form: dict[str, Any]) -> dict[str, Any]:
    """A canonical form in which later settings show only where they differ from what was before.

    So a new version of paretune finds the runs that an older one did.
    """

    def cut(section: dict[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in section.items() if k not in later or v != later[k]}

    kept: dict[str, Any] = {
        k: cut(form[k], later) for k, later in OMITTED_DEFAULTS.items() if k in form
    }
    if "tasks" in form:  # a study's form
        kept["tasks"] = [cut(task, OMITTED_DEFAULTS["task"]) for task in form["tasks"]]
        kept["models"] = [cut(model, OMITTED_DEFAULTS["model"]) for model in form["models"]]
    whole = {**form, **kept}
    if whole.get("generation") in (None, Generation().model_dump(mode="json")):
        whole.pop("generation", None)
    return whole


def digest(value: Any) -> str:
    """Sha256 of plain values in canonical JSON (sorted keys, no spaces, UTF-8)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed of 63 bits for one purpose (``init``, ``order``, ``dropout``) of a run's seed.

    Private generators are seeded with this, so that what one purpose draws never moves another.
    """
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def _find_repeated(keys: Iterable[str]) -> list[str]:
    """The keys that stand there twice."""
    return [key for key, count in Counter(keys).items() if count > 1]
