"""How a run is judged: while it trains, on the selection part, and when it has ended.

Classes, choices and numbers are judged by their answers each time. A translation takes longer to
make than to learn from, so while it trains its loss judges, and the answers are made once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from paretune.data.example import Dataset
from paretune.objectives import Predictions
from paretune.objectives.encoding import Encoded
from paretune.study import Generation, Run
from paretune.training.answering import from_scores, from_texts, references, score
from paretune.training.caches import Parts, ProcessCache
from paretune.training.evaluation.optional_metrics import OptionalMetrics
from paretune.training.run_config import RunConfig
from paretune.training.run_state import TrainingResult


class Evaluator(Protocol):
    """Judges the weights as they are when it is asked."""

    def select(self) -> dict[str, float]:
        """``primary`` (the higher the better) and ``loss`` on the selection part."""

    def of_best(self, trained: TrainingResult) -> Predictions:
        """Answers to the selection part by the best weights, which the model holds again."""

    def answers(self, part: str) -> Predictions:
        """Answers to a part."""


def make_evaluator(
    run: Run,
    dataset: Dataset,
    parts: Parts,
    encoded: Mapping[str, Encoded],
    plan: RunConfig,
    bench: ProcessCache,
    evaluate: Callable[[Encoded], Any],
    translate: Callable[[Encoded, Generation], list[str]],
) -> Evaluator:
    """The judge for a kind of task.

    Args:
        run: that is judged.
        dataset: of its task.
        parts: of the dataset.
        encoded: the parts that are judged, by name.
        plan: what the run trains with.
        bench: caches of this process.
        evaluate: what the weights as they are make of a part: logits, (examples, labels), or of a
            translation the loss of a token in nats.
        translate: a part's translations by the weights as they are.

    Raises:
        ParetuneError: a metric that the study asks for cannot be computed here.
    """
    if dataset.kind != "translation":
        return PredictionEvaluator(dataset, parts, encoded, plan, evaluate)
    settings = run.generation or Generation()
    beside = OptionalMetrics(settings, dataset.languages[1], bench)
    return LossEvaluator(parts, encoded, evaluate, lambda data: translate(data, settings), beside)


@dataclass
class PredictionEvaluator:
    """Of classes, choices and numbers."""

    dataset: Dataset
    parts: Parts
    encoded: Mapping[str, Encoded]
    plan: RunConfig
    logits: Callable[[Encoded], Any]
    given: list[Predictions] = field(default_factory=list)

    def select(self) -> dict[str, float]:
        """The task's own metric, and the loss."""
        self.given.append(self.answers("selection"))
        found = score(self.given[-1], self.parts.selection, self.dataset)
        return {key: found[key] for key in ("primary", "loss")}

    def of_best(self, trained: TrainingResult) -> Predictions:
        """Those that were given then, unless that was before a resume."""
        steps = [point["step"] for point in trained.progress.curve]
        if not steps:
            return self.answers("selection")
        if trained.between.share != 1.0:
            return self.answers("selection")
        given = len(self.given) - len(trained.between.tried)
        place = steps.index(trained.progress.best_step) - (len(steps) - given)
        return self.given[place] if place >= 0 else self.answers("selection")

    def answers(self, part: str) -> Predictions:
        """From the model's outputs."""
        examples = getattr(self.parts, part)
        return from_scores(self.logits(self.encoded[part]), examples, self.plan.scale)


@dataclass(frozen=True)
class LossEvaluator:
    """Of translations. Where the test part selects, as in the paper, it is translated once."""

    parts: Parts
    encoded: Mapping[str, Encoded]
    loss: Callable[[Encoded], float]
    translate: Callable[[Encoded], list[str]]
    beside: OptionalMetrics
    made: dict[str, Predictions] = field(default_factory=dict)

    def select(self) -> dict[str, float]:
        """The loss of a token, in nats."""
        loss = self.loss(self.encoded["selection"])
        return {"primary": -loss, "loss": loss}

    def of_best(self, trained: TrainingResult) -> Predictions:
        """Made now: none were made while it trained."""
        return self.answers("selection")

    def answers(self, part: str) -> Predictions:
        """By beam search; what is scored beside BLEU only on the part that is reported."""
        if self.parts.selection == self.parts.test:
            part = "test"
        if part not in self.made:
            self.made[part] = self._generate(part)
        return self.made[part]

    def _generate(self, part: str) -> Predictions:
        examples, data = getattr(self.parts, part), self.encoded[part]
        texts = self.translate(data)
        segment = self.beside.segments(texts, references(examples)) if part == "test" else {}
        return from_texts(texts, self.loss(data), segment)
