"""The contract of an objective, which defines a kind of task, from texts to scores.

An objective is a frozen value. It says how examples become token ids and batches, what training
minimises, how model outputs become predictions and these become scores, and which baselines and
metrics go with it. It names baselines, metrics and readers, and does not import them. Properties
follow from head, reader and metrics. Nothing here needs torch until a loss is computed.

One step of training and one evaluation use it like this::

    data = objective.encoder("train")(examples, tokenizer, max_length, prefix)
    loss = objective.loss(outputs, data, indices, options)        # summed, divided by the weight
    collector = objective.collector(data); collector.add(indices, outputs)
    predictions = objective.predict(collector.result(), examples, options.target_scale)
    scores = objective.score(predictions, examples, metric)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from paretune import metrics
from paretune.answers import Answer, Readout
from paretune.metrics import Metric
from paretune.metrics.classification import LABEL, NO_LABEL
from paretune.metrics.row_scores import SCORE
from paretune.objectives.class_weights import ClassWeights, weight_classes
from paretune.objectives.encoding import Encoded, encode_texts
from paretune.objectives.example import Example

if TYPE_CHECKING:
    from torch import Tensor


UNCUT_TOKENS = 1 << 30
"""More tokens than any text has."""
LOSS_SETTINGS = ("label_smoothing", "class_weights", "preference_beta")
"""The settings of ``training`` that only some losses read; the others are read by every step."""
SETTINGS_OF_SOME = ("preference_beta",)
"""Settings that a task's methods need not all read: no two losses mean the same by them."""


CHECKPOINT_HEADS = ("seq2seq_lm", "causal_lm")
"""Heads that come with the checkpoint; every other one is new, drawn by each run."""
PEFT_TASK_TYPES = {
    "sequence_classification": "SEQ_CLS",
    "token_classification": "TOKEN_CLS",
    "seq2seq_lm": "SEQ_2_SEQ_LM",
    "causal_lm": "CAUSAL_LM",
}
"""PEFT's names of heads; it has none of multiple choice."""
SEQ2SEQ_LABEL_SMOOTHING = 0.1
"""Vaswani et al. 2017, arXiv:1706.03762, section 5.4."""


@dataclass(frozen=True)
class HeadSpec:
    """A head, and what its config says of the task.

    Attributes:
        kind: ``sequence_classification``, ``token_classification``, ``multiple_choice``,
            ``seq2seq_lm`` or ``causal_lm``: a head of transformers
            (:mod:`paretune.models.structure.topology` opens it).
        purpose: what the model is to do, for errors: ``classification``.
        logits: outputs for one text; 0 for the checkpoint's own language-model head.
        labels: their names (``id2label``).
    """

    kind: str
    purpose: str
    logits: int = 0
    labels: tuple[str, ...] = ()
    problem_type: str | None = None
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class TargetScale:
    """Mean and standard deviation of the numbers in the training part."""

    mean: float
    deviation: float

    def standardise(self, examples: Sequence[Example]) -> list[float]:
        """The labels in standard deviations from the mean."""
        return [
            (float(e.label) - self.mean) / self.deviation for e in examples if e.label is not None
        ]


@dataclass(frozen=True)
class LossOptions:
    """Settings of a run's loss; chosen once for the run.

    ``class_weights``: see :mod:`paretune.objectives.class_weights`. ``mismatched`` is set for each
    batch: it is the mean reward of the batch's mismatched texts.
    """

    target_scale: TargetScale | None = None
    label_smoothing: float = 0.0
    class_weights: ClassWeights | None = None
    mismatched: float = 0.0


@dataclass(frozen=True)
class ModelPredictions:
    """Predictions for the examples of one part, in their order: labels, numbers or texts.

    Stored with the examples' identifiers and references they are a
    :class:`paretune.store.record.Predictions`.

    Attributes:
        prediction: an index, a number or a text for each example.
        scores: the model outputs behind each; for generated texts the log-likelihood of each token
            of the reference, or empty lists.
        loss: mean over the examples (for texts, over the target tokens), in nats, if there is one.
        segment: scores of single segments by metric, for metrics that need a model of their own.
    """

    prediction: list[Answer]
    scores: list[list[float]]
    loss: float | None
    segment: dict[str, list[float]] = field(default_factory=dict)


Encode: TypeAlias = "Callable[[Sequence[Example], Any, int, str], Encoded]"
"""Token ids of examples: from a tokenizer, the most tokens (longer texts are cut) and the prefix
before each text."""
Loss: TypeAlias = "Callable[[Any, Encoded, Sequence[int], LossOptions], Tensor]"
"""The loss summed over some examples, in nats, in fp32 or finer; a scalar with a gradient. Outputs
are those of a forward pass: logits (examples, labels | choices) or (words, labels), or
:class:`~paretune.objectives.token_outputs.TokenOutputs`."""
Predict: TypeAlias = "Callable[[Any, Sequence[Example], TargetScale | None], ModelPredictions]"
"""Predictions in the labels' own unit, from logits (examples, labels) or generated texts
(examples,), and what training standardised targets with, if anything."""


PartPredictions: TypeAlias = Mapping[str, ModelPredictions]
Decide: TypeAlias = (
    "Callable[[PartPredictions, Sequence[Example]], tuple[PartPredictions, Sequence[float]]]"
)
"""A function of the predictions by part, and of the examples of the selection part."""


class Collector(Protocol):
    """Gathers the outputs of an evaluation, pass by pass, in any order."""

    def add(self, indices: Sequence[int], outputs: Any) -> None:
        """Take the outputs for some examples, computed in evaluation mode."""

    def result(self) -> Any:
        """All of them: logits (examples, labels), or :class:`.TokenLosses`."""


Scores = NDArray[np.float32] | NDArray[np.float64]


def count_examples(data: Encoded, indices: Sequence[int]) -> int:
    """Number of the examples, or of their words."""
    return len(data.class_labels(indices))


def no_target_scale(train: Sequence[Example]) -> TargetScale | None:
    """Labels have no scale."""
    return None


class LogitsCollector:
    """Gathers logits; the result is (examples, labels | choices), fp32.

    Where words are scored it has (words, labels) for each example, its windows put together.
    """

    def __init__(self, data: Encoded) -> None:
        self._data = data
        self._rows: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(data.lengths)

    def add(self, indices: Sequence[int], outputs: Tensor) -> None:
        """Take the logits of some examples, (examples, labels | choices) or (words, labels)."""
        rows: Any = outputs.float().cpu().numpy()
        if (places := self._data.word_places) is not None:
            rows = np.split(rows, np.cumsum([len(places[i]) for i in indices])[:-1])
        for index, row in zip(indices, rows, strict=True):
            self._rows[index] = row

    def result(self) -> Any:
        """Logits of all examples, in their order."""
        if self._data.owners is None:
            return np.stack(self._rows)
        windows: dict[int, list[NDArray[np.float32]]] = {}
        for owner, row in zip(self._data.owners, self._rows, strict=True):
            windows.setdefault(owner, []).append(row)
        return [np.concatenate(rows) for rows in windows.values()]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A kind of task.

    Attributes:
        name: the ``kind`` of study files, tasks and records.
        title: one line for readers.
        reader: turns rows of own data into examples: a name in :data:`paretune.tasks.READERS`; the
            audit of the data goes by it, too. "": a study cannot name the kind for own files.
        required: keys of the study file that such a task must have (``features`` stand for
            ``text``).
        excluded: keys that it must not have, each with the reason.

        head: the kind of head that a model gets (:class:`HeadSpec`).
        problem_type: see :class:`HeadSpec`; only ``sequence_classification`` has it.
        readouts: how a causal language model can answer otherwise than by this head
            (:mod:`paretune.objectives.readouts`), the usual way first.
        baselines: methods without a model that are always run beside others; those that read a
            table only where there is one.

        default_metric: the primary one where the study names none.
        recorded_metrics: the metrics that every record has beside the primary one. A study may name
            metrics of the same types.
        generates: predictions are texts, generated once at the end; while training, selection
            compares the loss.

        encode, loss, collector, predict: see above.
        encode_training: encodes examples to train on; None: they are encoded as all others.
        weight: divisor of a summed loss: number of examples, of words, or of target tokens.
        loss_settings: which of :data:`LOSS_SETTINGS` the loss reads.
        fit_target: the scale of the targets, from the training part, if there is one.
        decide: decides the predictions of some parts by the selection part, and gives how probable
            each label must be to be predicted: (labels,), 0 to 1; or ().
        answer_scores: scores the text of each label, once, where generated texts are read as
            labels, so that labels have probabilities; otherwise None.
        for_labels: the objective of one data set, where encoding and predictions need the names of
            its labels; None: they do not.

        answer_code: the expression that makes an answer of ``logits``, on the card of an export.
    """

    # Every objective has these.
    name: str
    title: str
    default_metric: str
    recorded_metrics: tuple[str, ...]
    loss: Loss
    predict: Predict
    # These describe its data and models.
    reader: str = "labels"
    required: tuple[str, ...] = ("text", "label")
    excluded: Mapping[str, str] = field(default_factory=dict, hash=False)
    head: str = "sequence_classification"
    problem_type: str = "single_label_classification"
    readouts: tuple[Readout, ...] = ()
    baselines: tuple[str, ...] = ("majority", "tfidf", "gradient_boosting")
    generates: bool = False
    # These lead from examples to a loss.
    encode: Encode = encode_texts
    encode_training: Encode | None = None
    weight: Callable[[Encoded, Sequence[int]], int] = count_examples
    loss_settings: tuple[str, ...] = ()
    fit_target: Callable[[Sequence[Example]], TargetScale | None] = no_target_scale
    # These lead from outputs to answers.
    collector: Callable[[Encoded], Collector] = LogitsCollector
    decide: Decide = lambda predictions, selection: (predictions, ())
    answer_scores: Objective | None = None
    for_labels: Callable[[Objective, Sequence[str]], Objective] | None = None
    answer_code: str = "[model.config.id2label[i] for i in logits.argmax(-1).tolist()]"

    @property
    def between_languages(self) -> bool:
        """Whether it has ``source_lang`` and ``target_lang``."""
        return self.reader == "parallel"

    @property
    def is_external(self) -> bool:
        """Whether its rows are names of data that paretune does not read."""
        return self.reader in ("ids", "numbered_ids")

    @property
    def draws_head(self) -> bool:
        """Whether the head is new, drawn by each run; otherwise it is the checkpoint's own."""
        return self.head not in CHECKPOINT_HEADS

    @property
    def probe(self) -> str:
        """The method that shows what each model knows before it is trained."""
        return "head_only" if self.draws_head else "untuned"

    @property
    def names_labels(self) -> bool:
        """Whether each label has a logit, so that the config of a model names it."""
        return self.head in ("sequence_classification", "token_classification")

    @property
    def cuts_texts(self) -> bool:
        """Whether texts that are too long lose their end; otherwise they are read in windows."""
        return self.head != "token_classification"

    @property
    def peft_task_type(self) -> str | None:
        """PEFT's name of the kind, if it has one."""
        return PEFT_TASK_TYPES.get(self.head)

    @property
    def stop(self) -> tuple[str, ...]:
        """Where a generated text ends beside the end-of-text token and what a study names.

        The text before it counts. Answers that are one line end with it: models without training go
        on with another question.
        """
        one_line = self.predicts_labels or self.between_languages
        return ("\n",) if self.generates and self.head == "causal_lm" and one_line else ()

    @cached_property
    def target_types(self) -> tuple[str, ...]:
        """The types of metrics that fit (:attr:`Metric.target_type`): those that are recorded."""
        names = (self.default_metric, *self.recorded_metrics)
        return tuple(dict.fromkeys(metrics.get(name).target_type for name in names))

    @property
    def predicts_labels(self) -> bool:
        """Whether predictions are labels: right or wrong, example by example."""
        return LABEL in self.target_types

    @property
    def has_answers(self) -> bool:
        """Whether predictions are answers; otherwise they are scores that somebody computed."""
        return SCORE not in self.target_types

    def head_spec(self, labels: Sequence[str], languages: Sequence[str] = ()) -> HeadSpec:
        """The head that a model needs for these labels or languages."""
        fixed_counts = {"multiple_choice": 1, **dict.fromkeys(CHECKPOINT_HEADS, 0)}
        return HeadSpec(
            kind=self.head,
            purpose=self.name.replace("_", " "),
            logits=fixed_counts.get(self.head, len(labels)),
            labels=tuple(labels) if self.names_labels else (),
            problem_type=self.problem_type if self.head == "sequence_classification" else None,
            languages=tuple(languages),
        )

    def loss_options(
        self,
        train: Sequence[Example],
        labels: Sequence[str] = (),
        label_smoothing: float | None = None,
        class_weights: str | Mapping[str, float] = "none",
    ) -> LossOptions:
        """Options of a run's loss, from its training part, the labels and two settings.

        Raises:
            StudyError: ``class_weights`` names something that is no label.
        """
        if label_smoothing is None:
            label_smoothing = SEQ2SEQ_LABEL_SMOOTHING if self.head == "seq2seq_lm" else 0.0
        weights = None
        if "class_weights" in self.loss_settings:
            weights = weight_classes(train, class_weights, labels)
        return LossOptions(self.fit_target(train), label_smoothing, weights)

    def encoder(self, part: str) -> Encode:
        """The function that encodes the examples of ``train``, ``selection`` or ``test``."""
        return self.encode_training or self.encode if part == "train" else self.encode

    def text_lengths(
        self, examples: Sequence[Example], tokenizer: Any, prefix: str = ""
    ) -> dict[str, list[int]]:
        """Tokens of each example's longest text before any cut, special tokens included.

        The keys are nouns for messages: ``rows``, or ``sources`` and ``references``; a pass over an
        example takes the sum over the keys.
        """
        data = self.encode(examples, tokenizer, UNCUT_TOKENS, prefix)
        if data.targets is None:
            return {"rows": data.lengths}
        return {"sources": data.source_lengths, "references": [*map(len, data.targets)]}

    @property
    def scales_targets(self) -> bool:
        """Whether training standardises the targets."""
        return self.fit_target is not no_target_scale

    @property
    def selectable_metrics(self) -> tuple[str, ...]:
        """Names of the built-in metrics that a study may name."""
        return metrics.of_types(self.target_types)

    def accepts(self, metric: Metric) -> bool:
        """Whether the metric can be the primary one."""
        return metric.selectable and metric.target_type in self.target_types

    def reference(self, example: Example) -> Answer | None:
        """The answer that the prediction for an example is compared with, if it has one."""
        return example.target if example.label is None else example.label

    def references(self, examples: Sequence[Example]) -> list[Answer]:
        """References of the examples that have one."""
        return [r for example in examples if (r := self.reference(example)) is not None]

    def score(
        self,
        predictions: ModelPredictions,
        examples: Sequence[Example],
        metric: Metric,
        questions: Sequence[int] = (),
    ) -> dict[str, float]:
        """Scores of a part by name: ``primary``, the recorded metrics, ``n`` and ``loss``.

        Where no label was found in some generated texts also ``no_label``, their share.

        Args:
            questions: which question each example answers, for answer sets; otherwise empty.
        """
        references = self.references(examples)

        def compute(scored: Metric) -> float:
            return scored.compute(references, getattr(predictions, scored.reads), questions)

        scores: dict[str, float] = {}
        for name in dict.fromkeys((*self.recorded_metrics, *metric.recorded_as)):
            recorded = metrics.get(name)
            scores[name] = compute(recorded)
            answers = references, [predictions.prediction]
            if recorded.by_class and (classes := recorded.by_class(*answers, ())):
                sums = recorded.statistics(*answers, questions)[0].sum(axis=0).reshape(3, -1)
                by_class = zip(classes, recorded.from_sums(sums.T).tolist(), strict=True)
                scores |= {f"{name} {label}": value for label, value in by_class}
        primary = scores.get(metric.name)
        scores["primary"] = compute(metric) if primary is None else primary
        scores["n"] = len(references)
        if questions:
            scores["questions"] = len(set(questions))
        for name, values in predictions.segment.items():
            scores[name] = sum(values) / len(values)
        if self.predicts_labels and (unread := predictions.prediction.count(NO_LABEL)):
            scores["no_label"] = unread / len(predictions.prediction)
        if predictions.loss is not None:
            scores["loss"] = predictions.loss
        return scores

    def signatures(self) -> dict[str, str]:
        """Signatures of the recorded metrics that have one: they say how each was computed."""
        every = (metrics.get(name) for name in self.recorded_metrics)
        return {metric.name: metric.signature() for metric in every if metric.signature}
