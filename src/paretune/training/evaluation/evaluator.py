"""Scores a run on the selection part while it trains, and when it has ended.

Classes, choices and numbers are scored by their predictions each time. Generating a translation
takes longer than a training step on it, so its loss selects during training, and texts are
generated once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from paretune import metrics
from paretune.analysis.outcomes import answers_are_constant
from paretune.data.example import Dataset, dependence_groups
from paretune.measuring.devices import read_free_bytes
from paretune.metrics import segment_metrics
from paretune.metrics.classification import NO_LABEL
from paretune.metrics.metric import ScoringModel
from paretune.models.load import load_headless_encoder
from paretune.objectives import ModelPredictions, Objective, TargetScale
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.objectives.language_modelling import TokenLosses
from paretune.preparation import TEST_PARTS, UNLABELLED, Parts, ProcessCache
from paretune.store.encoding import encode_predictions
from paretune.store.record import Predictions
from paretune.study import Generation, ModelSpec, Run
from paretune.training import Outcome
from paretune.training.checkpoint import RunProgress
from paretune.training.evaluation.predict import evaluate, generate
from paretune.training.forward.passes import Forward, StepBatch
from paretune.training.prepare import PreparedModel

ENCODER_COPIES = 3
"""A metric's encoder computes on a GPU that has so many times its weights free: itself, and room
for its hidden states.
"""


SegmentScorers = Mapping[str, Callable[[Sequence[str], Sequence[str]], list[float]]]
"""Functions by metric, from hypotheses and references to the score of each segment, 0 to 1."""


def prepare_metrics(
    generation: Generation, language: str | None, caches: ProcessCache, device: str = "cpu"
) -> SegmentScorers:
    """The optional metrics of one run.

    Raises:
        MissingDependencyError: NLTK, its data or WordNet is missing, or does not know the language.
        ModelError: the encoder of BERTScore cannot be found.
    """
    encoder = None
    if generation.bertscore_model is not None:
        source = caches.source(ModelSpec(name=generation.bertscore_model))

        def load() -> tuple[Any, Any]:
            """Load it on the device of the run; on the CPU where that is a GPU without room."""
            model, tokenizer = load_headless_encoder(source)
            weight_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
            is_gpu = device.startswith("cuda")
            fits = not is_gpu or read_free_bytes(device) >= ENCODER_COPIES * weight_bytes
            return model.to(device if fits else "cpu"), tokenizer

        encoder = ScoringModel(source.name, load)
    available = segment_metrics() if generation.metrics else {}
    return {name: available[name].prepare(language or "", encoder) for name in generation.metrics}


def score_segments(
    scorers: SegmentScorers, hypotheses: Sequence[object], references: Sequence[object]
) -> dict[str, list[float]]:
    """Score each segment by each metric."""
    texts = [*map(str, hypotheses)], [*map(str, references)]
    return {name: score_texts(*texts) for name, score_texts in scorers.items()}


def score(
    predictions: ModelPredictions, examples: Sequence[Example], dataset: Dataset
) -> dict[str, float]:
    """The scores of a part by name, ``primary`` and ``loss`` among them."""
    questions = dependence_groups(examples, clustered=False).get("question", ())
    return dataset.objective.score(predictions, examples, metrics.get(dataset.metric), questions)


def to_table(
    predictions: ModelPredictions, examples: Sequence[Example], dataset: Dataset
) -> Predictions:
    """The predictions of a part as the store keeps them."""
    groups = dependence_groups(examples, clustered=dataset.clustered)
    return Predictions(
        uid=tuple(example.uid for example in examples),
        label=tuple(dataset.objective.references(examples)),
        prediction=tuple(predictions.prediction),
        scores=tuple(map(tuple, predictions.scores)),
        **{name: tuple(numbers) for name, numbers in groups.items()},
        segment={name: tuple(scores) for name, scores in (predictions.segment or {}).items()},
    )


def answers_of(part: str) -> str:
    """The name under which the texts of all labels of a part are encoded."""
    return f"{part} answers"


@dataclass
class Evaluator(ABC):
    """Scores the present weights of a run.

    ``encoded``: its parts by name, and where the objective scores answers, those (`answers_of`).
    """

    objective: Objective
    parts: Parts
    prepared: PreparedModel
    forward: Forward
    encoded: Mapping[str, Encoded]

    @abstractmethod
    def score_selection(self) -> dict[str, float]:
        """``primary`` (the higher the better) and ``loss`` on the selection part."""

    @abstractmethod
    def predict(self, part: str) -> ModelPredictions:
        """Predictions for a part."""

    def predict_selection(self, progress: RunProgress) -> ModelPredictions:
        """Predictions for the selection part by the best weights, which the model holds again."""
        return self.predict("selection")

    def compute(self, part: str) -> Any:
        """Logits of a part, (examples, labels), or the :class:`TokenLosses` of its references."""
        return evaluate(self.forward, self.encoded[part], self.objective.collector)


def make_evaluator(
    run: Run,
    batch: StepBatch,
    parts: Parts,
    caches: ProcessCache,
    prepared: PreparedModel,
    forward: Forward,
    encoded: Mapping[str, Encoded],
) -> Evaluator:
    """The evaluator of a run; ``batch``: any of it.

    Raises:
        ParetuneError: a metric that the study asks for cannot be computed here.
    """
    dataset, objective = caches.dataset(run.task), batch.objective
    access = (objective, parts, prepared, forward, encoded)
    if not objective.generates:
        return PredictionEvaluator(*access, dataset, batch.loss_options.target_scale)
    generation = run.generation or Generation()
    if objective.predicts_labels:  # its texts are read, not compared
        generation = generation.model_copy(update={"metrics": (), "bertscore_model": None})
    scorers = prepare_metrics(generation, dataset.language, caches, forward.compute.device)
    return LossEvaluator(*access, generation, scorers)


@dataclass
class PredictionEvaluator(Evaluator):
    """Selects by the scores of predictions: labels, choices and numbers."""

    dataset: Dataset
    target_scale: TargetScale | None
    history: list[ModelPredictions] = field(default_factory=list)

    def score_selection(self) -> dict[str, float]:
        """The task's own metric, and the loss."""
        examples = self.parts.selection
        decided, _ = self.objective.decide({"selection": self.predict("selection")}, examples)
        self.history.append(decided["selection"])
        scores = score(self.history[-1], examples, self.dataset)
        return {key: scores[key] for key in ("primary", "loss")}

    def predict_selection(self, progress: RunProgress) -> ModelPredictions:
        """Take the evaluation after the best step, unless that was before a resume."""
        steps = [point["step"] for point in progress.curve]
        if not steps:
            return self.predict("selection")
        place = steps.index(progress.best_step) - (len(steps) - len(self.history))
        return self.history[place] if place >= 0 else self.predict("selection")

    def predict(self, part: str) -> ModelPredictions:
        """Predict from the model's outputs."""
        examples = self.parts.named(part)
        return self.objective.predict(self.compute(part), examples, self.target_scale)


@dataclass
class LossEvaluator(Evaluator):
    """Selects by the loss; texts are generated once, also where the test part selects."""

    generation: Generation
    scorers: SegmentScorers
    generated: dict[str, ModelPredictions] = field(default_factory=dict)

    def score_selection(self) -> dict[str, float]:
        """The loss of a token, in nats."""
        loss = self.compute("selection").mean
        return {"primary": -loss, "loss": loss}

    def predict(self, part: str) -> ModelPredictions:
        """Predict by beam search; only reported parts have optional metrics and token losses."""
        if self.parts.selection == self.parts.test:
            part = "test"
        if part in self.generated:
            return self.generated[part]
        examples, objective = self.parts.named(part), self.objective
        texts = generate(
            self.prepared.loaded,
            self.prepared.context,
            self.forward.compute,
            self.encoded[part],
            self.generation,
            stop=objective.stop,
            virtual_tokens=self.prepared.injection.positions_before_text,
        )
        losses: TokenLosses = self.compute(part)
        predictions = replace(objective.predict(texts, examples, None), loss=losses.mean)
        if objective.answer_scores is not None:
            data = self.encoded[answers_of(part)]
            rows = evaluate(self.forward, data, objective.answer_scores.collector)
            scores = [[round(float(s), 4) for s in row] for row in rows]
            predictions = replace(predictions, scores=scores)
        elif part in TEST_PARTS:
            segment = score_segments(self.scorers, texts, objective.references(examples))
            # Four decimals: finer than any difference of two runs, and half the bytes.
            scores = [[round(-float(loss), 4) for loss in tokens] for tokens in losses.tokens]
            predictions = replace(predictions, scores=scores, segment=segment)
        return self.generated.setdefault(part, predictions)


def score_answers(
    outcome: Outcome,
    run: Run,
    predict: Callable[[Sequence[Example]], ModelPredictions],
    parts: Parts,
    caches: ProcessCache,
    *,
    decides: bool = True,
) -> None:
    """Write scores of what answers without a model of a run (:func:`write_scores`)."""
    dataset, predictions = caches.dataset(run.task), dict[str, ModelPredictions]()
    for part in parts.reported:
        examples = parts.named(part)
        answers = predict(examples)
        if part == UNLABELLED and not answers.scores[0]:
            continue  # nothing can be corrected by labels alone
        if dataset.objective.generates:
            scorers = prepare_metrics(run.generation or Generation(), dataset.language, caches)
            references = dataset.objective.references(examples)
            segment = score_segments(scorers, answers.prediction, references)
            answers = replace(answers, segment=segment)
        predictions[part] = answers
    write_scores(outcome, run, predictions, parts, dataset, diverged=False, decides=decides)


def write_scores(
    outcome: Outcome,
    run: Run,
    predictions: Mapping[str, ModelPredictions],
    parts: Parts,
    dataset: Dataset,
    *,
    diverged: bool,
    decides: bool = True,
) -> None:
    """Write scores, predictions by example, and the outcome's name: ok, collapsed or diverged.

    Args:
        decides: whether the selection part decides predictions; otherwise they stand as they are.
    """
    if decides:
        predictions, thresholds = dataset.objective.decide(predictions, parts.selection)
        if thresholds:
            outcome.result["thresholds"] = [*thresholds]
    outcome.result["scores"] = {
        part: score(answers, parts.named(part), dataset)
        for part, answers in predictions.items()
        if part != UNLABELLED
    }
    if signatures := dataset.objective.signatures():
        outcome.result["signatures"] = signatures
    tables = {
        part: to_table(answers, parts.named(part), dataset) for part, answers in predictions.items()
    }
    if (table := tables.get(UNLABELLED)) is not None:
        # Four digits of a probability are enough, and half the bytes.
        scores = tuple(tuple(float(f"{s:.4g}") for s in row) for row in table.scores)
        nothing = (NO_LABEL,) * len(table.uid)
        tables[UNLABELLED] = replace(table, label=nothing, scores=scores)
    # As the analysis judges stored answers (paretune.analysis.cell).
    judged = [table for part, table in tables.items() if part in ("selection", "test")]
    if "test" in tables and not run.outer:
        judged = [tables["test"]]
    collapsed = bool(judged) and answers_are_constant(
        [answer for table in judged for answer in table.prediction],
        [answer for table in judged for answer in table.label],
    )
    outcome.result["outcome"] = "diverged" if diverged else "collapsed" if collapsed else "ok"
    if tables:
        outcome.blobs["predictions"] = encode_predictions(tables)
