"""What a run left: plain values, no torch.

``result`` is what must come out the same bit for bit when the run is repeated (scores, curve,
predictions); ``measured`` is what belongs to this machine and moment (seconds, bytes).

``result`` keys: ``outcome`` (``ok``, ``collapsed``, ``diverged``, ``out_of_memory``), ``steps``,
``best_step``, ``scores`` (``selection`` and, in the final stage, ``test``: each ``accuracy``,
``macro_f1``, ``weighted_f1``, or for a regression ``r2``, ``pearson``, ``spearman``, ``rmse``,
``mae``, for an answer set also ``f1a``, ``em``, ``questions``, for a translation ``bleu``,
``chrf``, ``ter`` and what ``generation.metrics`` names; ``primary``, ``loss``, ``n``),
``signatures`` (of a translation: sacreBLEU's, by metric),
``curve`` (list of ``step``,
``epoch``, ``loss``, ``selection``), ``trained_parameters``, ``method_parameters``,
``head_parameters``, ``micro_batch``, ``truncated`` (``train``, ``selection``, ``test``: examples
cut), ``interpolated`` (where ``training.interpolate`` asked: the ``share`` that was taken, and
``tried``: each ``share`` with its selection scores), ``target`` (of a regression: ``mean`` and
``deviation`` of the numbers in train), ``notes``, ``predictions`` and ``weights`` (sha256 of
blobs, or absent).

``measured`` keys of tune and final runs: ``wall_seconds`` (``load``, ``train``, ``evaluation``),
``environment``, ``fleet`` (how many runs it trained with at its end; its seconds are its part of
theirs, by tokens). Of cost runs: see :mod:`paretune.measuring`. Of both ``work``, known before:
what the run was to do and hold (:class:`paretune.analysis.resources.forecast.ComputeCost`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paretune.study import Answer, Run

UNSCORED_RESULTS = ("diverged", "out_of_memory")
"""Outcomes that are results and leave no score: the method counts as the lowest there is."""
UNSCORED_OUTCOMES = (*UNSCORED_RESULTS, "error")
"""With what stopped for another reason, which says nothing of the method."""


@dataclass(frozen=True)
class Predictions:
    """Per-example answers of one part, in the order of the data.

    Shapes: ``uid``, ``label``, ``prediction`` are (examples,), ``scores`` is (examples, labels):
    logits, or log-probabilities for baselines. Of a regression, labels and predictions are floats,
    and the one score is the model's output before it is brought to the label's unit.
    ``cluster`` and ``question`` (examples,) number what belongs together, and are empty where
    nothing does: examples of one cluster depend on one another, those of one question are answers
    to it. A cluster holds whole questions.
    Of a translation, labels are references, predictions are translations, there are no scores
    (examples, 0), and ``segment`` holds by name what was scored segment by segment (``meteor``,
    ``bertscore``), each (examples,).
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
    """One ended run. ``predictions`` maps ``selection`` and ``test`` to answers."""

    run_id: str
    run: Run
    state: str
    fail_kind: str | None
    message: str | None
    result: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    predictions: Mapping[str, Predictions] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """``ok``, ``collapsed``, ``diverged``, ``out_of_memory``, or ``error``."""
        if self.state == "failed":
            return self.fail_kind or "error"
        return str(self.result.get("outcome", "ok"))
