"""Studies, claims, statuses and records of runs as the store has them. No torch.

A record is what an ended run leaves. ``result`` is the same bit for bit when the run is repeated on
the same machine; ``measured`` belongs to one machine and moment. Both are stored as JSON under the
keys of :class:`StoredResult` and :class:`Measurements`; a key that does not apply is absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from paretune.answers import Answer
from paretune.study import Run

State = Literal["todo", "running", "done", "failed"]


Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Claim:
    """The right to execute one run, for ``lease_seconds`` from its last renewal.

    Attributes:
        run: what to do, with a concrete precision.
        checkpoint: where its state is saved.
        report: called with ``step``, ``steps``, ``loss`` after every step, and at times with
            ``note``. Raises where the run must not go on: StaleClaimError ends this run only.
        attempt: counts the claims of the run; a writer with an older number is refused.
    """

    run: Run
    checkpoint: Path
    report: Report = lambda progress: None
    run_id: str = ""
    owner: str = ""
    attempt: int = 0
    lease_seconds: float = 0.0


@dataclass(frozen=True)
class RunStatus:
    """The status of one run, for progress.

    Attributes:
        run: the run as this study asks for it.
        state: ``todo``, ``running``, ``done`` or ``failed``.
        is_claimable: whether a claim would take it: todo or abandoned by its worker, and not kept
            waiting by a cost that is measured, or by what would disturb one.
        owner: process that holds it (:mod:`paretune.owner`).
        progress: last reported ``step``, ``steps``, ``loss``, ``note``.
        seconds: wall-clock seconds of the last attempt, where runs trained together its share once
            it is done; None before the first.
        outcome: the outcome of its :class:`~paretune.store.record.Record`; None before the end.
        score: primary score, on test where there is one, otherwise on the selection part.
        ended_at: seconds since 1970.
    """

    run_id: str
    run: Run
    state: State
    is_claimable: bool
    owner: str | None
    attempt: int
    progress: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    outcome: str | None = None
    score: float | None = None
    message: str | None = None
    ended_at: float | None = None

    @property
    def stage(self) -> str:
        """``tune``, ``final`` or ``cost``."""
        return self.run.stage

    @property
    def ended(self) -> bool:
        """Whether the run is done or failed."""
        return self.state in ("done", "failed")


@dataclass(frozen=True)
class StudyEntry:
    """A study that ran here.

    Attributes:
        text: kept beside it: the settings of its command line.
        created: in seconds since 1970.
        runs: how many, by state.
    """

    study_hash: str
    name: str
    text: str
    created: float
    runs: Mapping[str, int]


UNSCORED_RESULTS = ("diverged", "out_of_memory")
"""Outcomes that are results without a score: the method counts as the lowest possible."""
UNSCORED_OUTCOMES = (*UNSCORED_RESULTS, "error")
"""Outcomes without a score, those included that are independent of the method."""

PartScores = dict[str, Any]
"""Scores of one part by metric, with ``primary``, ``loss`` (or None) and ``n`` (examples).

Classification: ``accuracy``, ``macro_f1``, ``weighted_f1``; answer sets also ``f1a``, ``em``,
``questions``; regression: ``r2``, ``pearson``, ``spearman``, ``rmse``, ``mae``; translation:
``bleu``, ``chrf``, ``ter`` and the metrics that the study names.
"""


class StoredForgetting(TypedDict):
    """Token losses of a language model on the study's text, before and after training.

    Each block of the text has nats summed over its scored tokens, ``before`` training (without the
    method) and ``after`` it, and the number of these ``tokens``.
    """

    before: list[float]
    after: list[float]
    tokens: list[int]


class StoredResult(TypedDict, total=False):
    """The reproducible part of a record.

    Attributes:
        outcome: ``ok``, ``collapsed``, ``diverged`` or ``out_of_memory``.
        best_step: step of the best weights; -1: none.
        scores: of ``selection`` and, in the final stage, ``test``.
        curve: of each evaluation on the selection part during training ``step``, ``epoch``,
            ``loss`` (the mean training loss since the last) and ``selection`` (scores).
        trained_bytes: bytes of the trained tensors.
        artifact: what a command made, as it named it; its tar is in ``weights`` where it lay in the
            command's folder.
        word_tables: of a cost, where only the ``trained_rows`` of the ``rows`` of its tables of
            words have gradients and moments; ``spared_bytes``: what all of them take more.
        target: ``mean`` and standard ``deviation`` of a regression's targets in train.
        thresholds: how probable each label must be to be predicted, 0 to 1.
        forgetting: of a final run of a language model, where the study asks for it.
        predictions: sha256 of the blob of per-example predictions.
        weights: sha256 of the blob of trained weights.
    """

    outcome: str
    steps: int
    best_step: int
    scores: dict[str, PartScores]
    signatures: dict[str, str]
    curve: list[dict[str, Any]]
    trained_parameters: int
    method_parameters: int
    head_parameters: int
    trained_bytes: int
    artifact: str
    word_tables: dict[str, int]
    micro_batch: int
    truncated: dict[str, int]
    target: dict[str, float]
    thresholds: list[float]
    forgetting: StoredForgetting
    notes: list[str]
    predictions: str
    weights: str


class StepSeconds(TypedDict):
    """Seconds of a step: median, quartiles and number of steps timed.

    ``timed_out``: time was up before the quartiles were close.
    """

    median: float
    q1: float
    q3: float
    n: int
    timed_out: NotRequired[bool]


class Contradiction(TypedDict):
    """Steps of the study that contradict a measurement by the ``ratio`` of its step to theirs."""

    own_step_seconds: float
    runs: int
    ratio: float


class Measurements(TypedDict, total=False):
    """The measured part of a record. Cost runs: see :mod:`paretune.measuring`.

    Attributes:
        wall_seconds: of ``load``, ``train`` and ``evaluation``.
        fleet: number of runs that trained together at the end; seconds are this run's share.
        environment: machine, and versions of the packages that a result depends on.
        work: fields of :class:`ComputeCost`, computed beforehand.
        phases: peaks of ``load``, ``train`` and ``evaluation``.
        inference: ``unmerged_seconds_per_example`` in evaluation, without merging: the median; and
            ``unmerged``, its quartiles as :class:`StepSeconds`.
        measured_again: the slower of two measurements, where the first was contradicted.
        contradicted: what in the study contradicts this measurement.
        traceback: of a run that stopped with an error.
    """

    wall_seconds: dict[str, float]
    fleet: int
    kept_activations: bool
    environment: dict[str, Any]
    work: dict[str, Any]
    phases: dict[str, dict[str, int]]
    peak_counter: str
    components: dict[str, int]
    step_seconds: StepSeconds | None
    inference: dict[str, Any]
    not_measured: dict[str, str]
    trained_parameters: int
    batch_size: int
    micro_batch: int
    length: int
    batch_tokens: int
    mean_batch_tokens: float
    examples_per_second: float
    tokens_per_second: float
    saved_bytes: int
    device: str
    device_name: str
    threads: int
    precision: str
    measured_again: dict[str, float]
    contradicted: Contradiction
    traceback: str


@dataclass(frozen=True)
class Predictions:
    """Per-example predictions of one part, in the order of the data.

    Attributes:
        uid: (examples,)
        label: (examples,): index, number (regression) or reference (translation).
        prediction: (examples,): values of the same kind.
        scores: (examples, labels): logits, or log-probabilities of baselines; of a regression the
            one output before it is scaled to the label's unit; a translation's test part has
            (examples, reference tokens), ragged: log-likelihood of each token of the reference
            given those before it, in nats; otherwise (examples, 0).
        cluster: (examples,) or empty: examples of one cluster depend on one another.
        question: (examples,) or empty: examples of one question are answers to it. A cluster holds
            whole questions.
        segment: scores by segment (``meteor``, ``bertscore``), each (examples,).
    """

    uid: tuple[str, ...]
    label: tuple[Answer, ...]
    prediction: tuple[Answer, ...]
    scores: tuple[tuple[float, ...], ...]
    cluster: tuple[int, ...] = ()
    question: tuple[int, ...] = ()
    segment: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One ended run. ``predictions`` maps ``selection`` and ``test`` to per-example predictions."""

    run_id: str
    run: Run
    state: str
    fail_kind: str | None
    message: str | None
    result: StoredResult = field(default_factory=StoredResult)
    measured: Measurements = field(default_factory=Measurements)
    predictions: Mapping[str, Predictions] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """``ok``, ``collapsed``, ``diverged``, ``out_of_memory``, or ``error``."""
        if self.state == "failed":
            return self.fail_kind or "error"
        return self.result.get("outcome", "ok")

    @property
    def lacks_predictions(self) -> bool:
        """Whether predictions were stored; asked of a record that was loaded with them."""
        return "predictions" in self.result and not self.predictions

    @property
    def is_lost(self) -> bool:
        """Whether it diverged or did not fit in memory: a result without a score."""
        return self.outcome in UNSCORED_RESULTS

    @property
    def selection_score(self) -> tuple[float, float] | None:
        """Primary score on the selection part, then minus its loss, for comparing runs."""
        scores = self.result.get("scores", {}).get("selection")
        if scores is None:
            return None
        loss = scores.get("loss")
        return float(scores["primary"]), -math.inf if loss is None else -float(loss)

    @property
    def steps(self) -> int | None:
        """Optimiser steps taken."""
        return self.result.get("steps")

    @property
    def trained_parameters(self) -> int | None:
        """The number of trained parameters of the method and the head."""
        return self.result.get("trained_parameters")

    @property
    def trained_weights(self) -> bool:
        """Whether it trained what can be exported: of a command, what it has named."""
        if self.run.method.is_command:
            return "artifact" in self.result
        return self.run.learning_rate is not None

    @property
    def train_seconds(self) -> float | None:
        """Wall-clock seconds of training."""
        return self.measured.get("wall_seconds", {}).get("train")

    @property
    def peak_bytes(self) -> int | None:
        """Peak memory of training, or of evaluation where nothing is trained, of a cost run."""
        phases = self.measured.get("phases", {})
        trains = self.run.learning_rate is not None or "train" in phases
        return phases.get("train" if trains else "evaluation", {}).get("peak_bytes")

    @property
    def median_step_seconds(self) -> float | None:
        """Median seconds of a training step, of a cost run."""
        step_seconds = self.measured.get("step_seconds")
        return None if step_seconds is None else step_seconds["median"]

    @property
    def step_in_doubt(self) -> bool:
        """Whether the study's own steps contradict the measured one, or it did not settle."""
        steps = self.measured.get("step_seconds")
        timed_out = steps is not None and steps.get("timed_out", False)
        return bool(timed_out or self.measured.get("contradicted"))


@dataclass(frozen=True)
class ComputeCost:
    """Operations and bytes of a run, derived and not measured.

    Attributes:
        held_bytes: weights, gradients, optimiser states and copies of the best weights.
        saved_bytes: bytes that a forward pass saves for its backward pass, by a rule of thumb.
        moved_bytes: bytes that a step reads and writes between its products; 0 in records of 0.2.
        best_bytes: the part of ``held_bytes`` for the best weights; -1 in older records.
    """

    operations: float
    held_bytes: int
    saved_bytes: int
    moved_bytes: int = 0
    best_bytes: int = -1

    @classmethod
    def from_record(cls, record: Record) -> ComputeCost | None:
        """The cost in a record; a run that trained no model has none."""
        work: Any = record.measured.get("work")
        return cls(**work) if isinstance(work, Mapping) else None

    def best_bytes_of(self, record: Record) -> int:
        """``best_bytes``; of an older record, all that it trained, unless it ran on a GPU."""
        if self.best_bytes >= 0:
            return self.best_bytes
        device = record.measured.get("environment", {}).get("device", "")
        return 0 if device.startswith("cuda") else 4 * (record.trained_parameters or 0)
