"""The contract of a metric: a value with its name, its range and how it is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
"""Which question each example answers, for answer sets; otherwise empty."""


class Compute(Protocol):
    """Scores one list of predictions exactly; this number is recorded."""

    def __call__(self, references: Values, predictions: Values, questions: Questions, /) -> float:
        """The score.

        Raises:
            ValueError: no examples, different lengths, or values that the metric cannot score.
        """


class Statistics(Protocol):
    """Sufficient statistics of each example: the score of any resample is a function of their sum.

    So 2,000 bootstrap draws cost one matrix product.
    """

    def __call__(self, references: Values, predictions: Runs, questions: Questions, /) -> Array:
        """The statistics of several runs; (runs, examples, columns).

        Only whole questions are resampled, so those of one may stand at its first example.
        """


class Credit(Protocol):
    """How right each unit is, 0 to 1: an example, or a question of answer sets."""

    def __call__(self, references: Values, predictions: Runs, questions: Questions, /) -> Array:
        """Credit of each unit in each run; (runs, units)."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric.

    ``compute`` and ``from_sums(statistics(...).sum(axis=1))`` agree within rounding; the first is
    what a run records, the second what intervals are made from.

    Attributes:
        name: as study files (``metric:``) and records have it.
        target_type: what it scores: ``label`` (an index), ``answer_set`` (labels of answers to
            questions), ``number``, ``text``, or ``answer`` (a text that answers something; what
            scores it says nothing of a translation). An objective takes the metrics of its types.
        from_sums: from summed statistics, (..., columns), to scores, (...).
        credit: see :class:`Credit`; None where examples are not right or wrong.
        lowest, highest: the range of the score.
        greater_is_better: False for errors and edit rates, which are reported only.
        selectable: whether a study may name it as the primary metric, by whose highest value
            checkpoints and learning rates are selected.
        parts: names of the recorded scores whose mean it is; by default its own name.
        signature: how exactly it was computed, versions included; recorded where there is one.
        require: raises MissingDependencyError where a package that it needs is not installed;
            called before anything trains. None: it needs none.
    """

    name: str
    title: str
    description: str
    target_type: str
    compute: Compute
    statistics: Statistics
    from_sums: Callable[[Array], Array]
    credit: Credit | None = None
    lowest: float = 0.0
    highest: float = 1.0
    greater_is_better: bool = True
    selectable: bool = True
    parts: tuple[str, ...] = ()
    signature: Callable[[], str] | None = None
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

    def score(self, references: Values, predictions: Values, questions: Questions = ()) -> float:
        """The score of one list of predictions, from its statistics."""
        (table,) = self.statistics(references, [predictions], questions)
        return float(self.from_sums(table.sum(axis=0, dtype=np.float64)))

    def read(self, scores: dict[str, Any]) -> float | None:
        """The value in the recorded scores of one part; None where they do not have it."""
        values = [scores.get(name) for name in self.recorded_as]
        if any(value is None for value in values):
            return None
        return sum(float(value) for value in values if value is not None) / len(values)


ScoreSegments = Callable[[Sequence[str], Sequence[str]], list[float]]
"""From hypotheses and references to the score of each segment, 0 to 1."""


class Encoder(Protocol):
    """The model that a study names for a metric."""

    @property
    def name(self) -> str:
        """As on the hub, or of its folder."""

    def load(self) -> tuple[Any, Any]:
        """The model, in evaluation mode, and its tokenizer."""


class Prepare(Protocol):
    """Gets what the metric needs."""

    def __call__(self, language: str, encoder: Encoder | None, /) -> ScoreSegments:
        """A function that scores segments.

        Raises:
            MissingDependencyError: a package or data are not installed, or do not know the
                language.
        """


@dataclass(frozen=True, kw_only=True)
class SegmentMetric:
    """A metric whose score of a text is the mean over its segments, 0 to 1."""

    name: str
    title: str
    prepare: Prepare
