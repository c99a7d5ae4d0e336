"""The contract of a metric: a value with its name, its range and how it is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Value = int | float | str
"""A reference or a prediction: the index of a label or choice, a number, or a text."""
Values = Sequence[Value]
"""(examples,)."""
Runs = Sequence[Values]
"""The predictions of several runs; (runs, examples)."""
Questions = Sequence[int]
"""The question that each example answers, for answer sets; otherwise empty."""


Compute = Callable[[Values, Values, Questions], float]
"""A function from references, predictions and questions to a score; ValueError: there is none."""
Statistics = Callable[[Values, Runs, Questions], Array]
"""A function of references, predictions of several runs and questions to numbers of each unit."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric: the score of any sample of the examples is a function of summed statistics.

    2,000 bootstrap draws cost one matrix product.

    Attributes:
        name: its name in study files (``metric:``) and records.
        target_type: the type of answers that it scores: ``label`` (an index), ``answer_set``
            (labels of answers to questions), ``label_set``, ``number``, ``text``, or ``answer`` (a
            text that answers something; its metrics say nothing of a translation). An objective
            takes the metrics of its types.
        reads: the predictions of ``compute`` and ``statistics``: the answers, or the scores
            behind them, (examples, labels).
        statistics: sufficient statistics, (runs, examples, columns). Only whole questions are
            left out, so those of one may stand at its first example.
        from_sums: computes scores, (...), from summed statistics, (..., columns).
        exact: the same score without the rounding of sums; None: the sums are exact enough.
        credit: how right each unit is, 0 to 1, (runs, units): an example, or a question of answer
            sets; None where examples are not right or wrong.
        lowest, highest: the range of the score.
        greater_is_better: False for errors and edit rates, which are reported only.
        selectable: whether a study may name it as the primary metric, by whose highest value
            checkpoints and learning rates are selected.
        parts: names of the recorded scores whose mean it is; by default its own name.
        signature: the exact way of its computation, with versions; recorded where there is one.
        by_class: names of the classes, from references, predictions and the task's labels: types of
            entities, whose scores are also recorded, or the labels. ``statistics`` are then hits,
            predictions and references, a column for each class; the score of a class is that of
            its three columns. None: no class has a score.
        require: raises MissingDependencyError where a package that it needs is not installed;
            called before anything trains. None: it needs none.
    """

    name: str
    title: str
    description: str
    target_type: str
    reads: Literal["prediction", "scores"] = "prediction"
    statistics: Statistics
    from_sums: Callable[[Array], Array]
    exact: Compute | None = None
    credit: Statistics | None = None
    lowest: float = 0.0
    highest: float = 1.0
    greater_is_better: bool = True
    selectable: bool = True
    parts: tuple[str, ...] = ()
    signature: Callable[[], str] | None = None
    by_class: Callable[[Values, Runs, Sequence[str]], Sequence[str]] | None = None
    require: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        if self.selectable and not self.greater_is_better:
            raise ValueError(
                f"metric {self.name}: the highest score selects, so one of which less is better "
                "needs selectable=False"
            )

    @property
    def recorded_as(self) -> tuple[str, ...]:
        """The scores in a record whose mean this metric is."""
        return self.parts or (self.name,)

    def compute(self, references: Values, predictions: Values, questions: Questions = ()) -> float:
        """The score of one list of predictions, as it is recorded.

        Raises:
            ValueError: no examples, different lengths, or values that the metric cannot score.
        """
        if not len(references) or len(references) != len(predictions):
            raise ValueError(f"{len(references)} references but {len(predictions)} predictions")
        if self.exact is not None:
            return self.exact(references, predictions, questions)
        (table,) = self.statistics(references, [predictions], questions)
        return float(self.from_sums(np.array(table.T, dtype=np.float64, order="C").sum(axis=1)))

    def read(self, scores: dict[str, Any]) -> float | None:
        """The value in the recorded scores of one part, if they have it."""
        values = [scores.get(name) for name in self.recorded_as]
        if any(value is None for value in values):
            return None
        return sum(float(value) for value in values if value is not None) / len(values)


def divide(
    part: Array, whole: Array, *, otherwise: Array | float = 0.0, above: float = 0.0
) -> Array:
    """The quotient; ``otherwise`` where the whole is not above a bound."""
    out = np.full(np.shape(whole), otherwise, dtype=float)
    return np.asarray(np.divide(part, whole, out=out, where=whole > above))


ScoreSegments = Callable[[Sequence[str], Sequence[str]], list[float]]
"""A function from hypotheses and references to the score of each segment, 0 to 1."""


@dataclass(frozen=True)
class ScoringModel:
    """The model that a study names for a metric.

    Attributes:
        name: as on the hub, or of its folder.
        load: gives the model, in evaluation mode, and its tokenizer.
    """

    name: str
    load: Callable[[], tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class SegmentMetric:
    """A metric whose score of a text is the mean over its segments, 0 to 1.

    Attributes:
        prepare: gets what it needs, for a language and the model that the study names for it;
            MissingDependencyError where a package or data are not installed, or do not know the
            language.
    """

    name: str
    title: str
    prepare: Callable[[str, ScoringModel | None], ScoreSegments]
