"""All runs of one task x model x method together, and their scores."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any, Literal

import numpy as np

from paretune.analysis.design import SPLIT, TestDesign
from paretune.analysis.learning_rates import RateEdge, RateSelection
from paretune.analysis.outcomes import FAILED_OUTCOMES, FailureRate, answers_are_constant
from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.scores import RunScores, score_runs
from paretune.answers import Readout
from paretune.errors import StoreError
from paretune.methods import baselines
from paretune.metrics import Array
from paretune.metrics.classification import NO_LABEL
from paretune.objectives import Objective
from paretune.store.record import Predictions, Record
from paretune.study import OuterFold, Run, Stage

NO_MODEL = "-"
"""The model key of baselines without a model; they belong to every model of their task."""

Subject = Literal["methods", "models"]
"""Whether scores describe methods, of which runs are drawn, or the trained models themselves."""
CellKey = tuple[str, str]
"""Model and method, which identify a cell within a task."""


@dataclass(frozen=True)
class Cell:
    """All runs of one task x model x method, and their scores.

    Attributes:
        task: key of the task.
        model: key of the model; :data:`NO_MODEL` without one.
        method: key of the method.
        name: name of the method, without its label.
        metric: name of the primary metric.
        objective: objective of the task.
        final: records of final runs with one setting.
        tuning: records of trials with one setting.
        cost: records of solo measurements.
        folds: number of outer folds that the test answers come from; 0 for a split.
        choice: selected learning rate; in cross-validation over the trials of all folds, while each
            fold has a separate one (``fold_choices``).
        fold_choices: the selected learning rate of each outer fold.
        pending: number of runs that have not ended, by stage and state: ``("final", "todo"): 3``.
        expected_runs: number of final runs that the protocol wants, given the ended runs.
        failed_folds: outer folds all of whose trials failed, so that they have no final run.
        other_settings: records left out because an older version of the study made them.
        fewer_rows: final runs on a share of the labelled rows (``protocol.rows``).
        over_limit: whether a cost exceeds a limit of the study, which ends its runs.
        passes: most times that all test rows are answered; the study may end after each.
        judged_at_end: whether pairs are decided only when all runs of both sides have ended.
        predicted_bytes: peak memory of training, predicted by :mod:`paretune.measuring` until it is
            measured; None where no run has ended.
        judged: description of runs that were trained elsewhere; None for runs of paretune.
    """

    task: str
    model: str
    method: str
    name: str
    metric: str
    objective: Objective
    final: tuple[Record, ...] = ()
    tuning: tuple[Record, ...] = ()
    cost: tuple[Record, ...] = ()
    folds: int = 0
    choice: RateSelection = field(default_factory=RateSelection)
    fold_choices: Mapping[OuterFold, RateSelection] = field(default_factory=dict)
    pending: Mapping[tuple[str, str], int] = field(default_factory=dict)
    expected_runs: int = 1
    failed_folds: frozenset[OuterFold] = frozenset()
    other_settings: int = 0
    fewer_rows: tuple[Record, ...] = ()
    over_limit: bool = False
    passes: int = 1
    judged_at_end: bool = False
    predicted_bytes: float | None = None
    judged: Subject | None = None

    @property
    def key(self) -> CellKey:
        """The keys of model and method."""
        return self.model, self.method

    @property
    def runs(self) -> tuple[Record, ...]:
        """All records of the cell."""
        return (*self.tuning, *self.final, *self.cost)

    @property
    def baseline(self) -> bool:
        """Whether this is a baseline rather than a method under comparison."""
        return self.name in baselines.NAMES

    @property
    def readout(self) -> Readout | None:
        """How the runs answer; None without a model, and before any run has ended."""
        if self.model == NO_MODEL:
            return None
        return next((record.run.readout for record in self.runs), None)

    @property
    def rate(self) -> float | None:
        """The learning rate of the final runs; None for methods that have none.

        In cross-validation it is the rate that most folds selected; of several the smallest.
        """
        counts = Counter(r for record in self.final if (r := record.run.learning_rate) is not None)
        if not counts:
            return None if self.final else self.choice.rate
        return max(sorted(counts), key=counts.__getitem__)

    @property
    def undecided(self) -> bool:
        """Whether the chosen rate is within one standard error of its runner-up."""
        return self.choice.undecided and self.rate == self.choice.rate

    @property
    def edge(self) -> RateEdge:
        """Whether the chosen rate is the lowest or highest of several that were tried."""
        return self.choice.edge if self.rate == self.choice.rate else ""

    @property
    def selected_on_test(self) -> bool:
        """Whether checkpoints were chosen on the reported part, which is the paper's way."""
        return any(record.run.selection == "test" for record in self.final)

    @cached_property
    def outcomes(self) -> Counter[str]:
        """How the final runs ended: ok, collapsed, diverged, out_of_memory or error.

        The answers themselves decide what has collapsed, whichever program wrote the record.
        """
        return Counter(map(self._outcome_of, self.final))

    @property
    def deterministic(self) -> bool:
        """Whether nothing is drawn, so that seeds do not differ: the interval is over examples."""
        return self.model == NO_MODEL or self.name in baselines.DRAWS_NOTHING

    @property
    def draws_seeds(self) -> bool:
        """Whether its runs are seeds on one split: one says nothing about further seeds."""
        fixed = self.deterministic or self.judged == "models"
        return not fixed and not self.design.is_cross_validation

    @property
    def trains_nothing(self) -> bool:
        """Whether the cell has no training that could fail."""
        return self.model == NO_MODEL or self.name in baselines.WITHOUT_TRAINING

    @property
    def has_export(self) -> bool:
        """Whether there may be weights to export; a command may have stored answers only."""
        commands = [record for record in self.final if record.run.method.is_command]
        left_nothing = commands and not any(record.trained_weights for record in commands)
        return self.model != NO_MODEL and not left_nothing

    @cached_property
    def failures(self) -> FailureRate | None:
        """How often training failed; None for a cell without training, which cannot fail.

        An outer fold all of whose trials failed is a failed run. For runs that were trained
        elsewhere the failed ones may be missing, so a rate of zero is not evidence.
        """
        failed = sum(self.outcomes[outcome] for outcome in FAILED_OUTCOMES)
        if self.trains_nothing or (self.judged and not failed):
            return None
        folds = len(self.failed_folds)
        return FailureRate(failed + folds, len(self.final) - self.outcomes["error"] + folds)

    def has_failed(self, record: Record) -> bool:
        """Return whether a run of the cell failed; without training none can fail."""
        return not self.trains_nothing and self._outcome_of(record) in FAILED_OUTCOMES

    def _outcome_of(self, record: Record) -> str:
        # Scores without answers may be all the same, and often are all 1.
        if record.outcome != "ok" or not has_test_answers(record) or not self.objective.has_answers:
            return record.outcome
        # In cross-validation the selection part counts too: a fold may have few rows.
        judged = ("test",) if record.run.outer is None else ("test", "selection")
        parts = [record.predictions[part] for part in judged if part in record.predictions]
        answers = [answer for part in parts for answer in part.prediction]
        labels = [label for part in parts for label in part.label]
        return "collapsed" if answers_are_constant(answers, labels) else "ok"

    @cached_property
    def trained(self) -> tuple[Record, ...]:
        """The final runs with answers that did not fail."""
        return tuple(r for r in self.final if has_test_answers(r) and not self.has_failed(r))

    @cached_property
    def answers_by_seed(self) -> Mapping[int, TestAnswers]:
        """The test answers of the runs that trained, by seed (:meth:`group_answers`)."""
        return self.group_answers(self.trained)

    def group_answers(self, records: Iterable[Record]) -> dict[int, TestAnswers]:
        """Group the test answers of final runs by seed.

        In cross-validation they are grouped by repeat, with the rows that any repeat answered. Rows
        of a fold that failed or waits are taken from the next repeat that has them. So each row
        counts once, with a mean over the runs that answered it, and a failed fold loses its answers
        only.

        Raises:
            StoreError: two folds of a repeat have answered the same row.
        """
        answered = [record for record in records if has_test_answers(record)]
        if not self.folds:
            by_seed = {}
            for record in answered:
                answers = record.predictions["test"]
                rows = np.arange(len(answers.uid))
                sources = np.stack([np.zeros_like(rows), rows], axis=1)
                by_seed[record.run.seed] = TestAnswers((record,), answers, sources)
            return by_seed
        repeats: dict[int, list[Record]] = {}
        for outer, runs in group_by_outer(answered).items():
            repeats.setdefault(outer.repeat, []).append(runs[0])
        order = list(repeats)
        return {
            repeat: TestAnswers.of_folds(
                repeats[repeat],
                [run for key in (*order[place + 1 :], *order[:place]) for run in repeats[key]],
            )
            for place, repeat in enumerate(order)
        }

    @property
    def test_answers(self) -> tuple[Predictions, ...]:
        """The predictions of :attr:`answers_by_seed`."""
        return tuple(answers.predictions for answers in self.answers_by_seed.values())

    @cached_property
    def design(self) -> TestDesign:
        """How the test answers came about."""
        outer = group_by_outer(self.trained or filter(has_test_answers, self.final))
        folds = len({fold.index for fold in outer})
        return TestDesign(self.folds, len(self.test_answers) or 1, folds) if self.folds else SPLIT

    @cached_property
    def shown_answers(self) -> tuple[Predictions, ...]:
        """The :attr:`test_answers`; where every run failed, those of all runs that answered."""
        return self.test_answers or tuple(
            answers.predictions for answers in self.group_answers(self.final).values()
        )

    @cached_property
    def run_scores(self) -> RunScores | None:
        """The test scores of the runs that trained; None while there are none."""
        return self.score_by(self.metric) if self.test_answers else None

    def score_by(self, metric: str) -> RunScores | None:
        """Return the scores of :attr:`shown_answers` by a metric; None where there are none."""
        if not self.shown_answers:
            return None
        # This is the outer fold that answered each row; -1 where a run of another repeat did.
        fold_of_rows = []
        crossed = self.design.is_cross_validation and not self.deterministic
        for repeat, answers in self.answers_by_seed.items() if crossed else ():
            outer = [run.run.outer for run in answers.runs]
            folds = [o.index if o is not None and o.repeat == repeat else -1 for o in outer]
            fold_of_rows.append(np.array(folds)[answers.sources[:, 0]])
        folds_of_rows = np.array(fold_of_rows) if fold_of_rows else None
        return score_runs(self.shown_answers, metric, self.design, folds_of_rows)

    @cached_property
    def interval(self) -> Interval | None:
        """The cell's score over its seeds and examples.

        Where every run failed, it is of :attr:`shown_answers`: to be shown, not to be compared.
        """
        scores = self.run_scores or self.score_by(self.metric)
        return None if scores is None else confidence_interval(scores)

    @property
    def unread_share(self) -> float:
        """The share of generated test answers in which no label was found; they count as wrong."""
        if not self.objective.predicts_labels:
            return 0.0
        answers = [answer for seed in self.test_answers for answer in seed.prediction]
        return answers.count(NO_LABEL) / len(answers) if answers else 0.0

    @property
    def run_seconds(self) -> float | None:
        """Median wall-clock seconds of training of the final runs; None where none was timed."""
        seconds = [s for record in self.final if (s := record.train_seconds) is not None]
        return median(seconds) if seconds else None

    @property
    def all_trials_failed(self) -> bool:
        """Whether every rate on trial diverged or did not fit, so that no final run will come."""
        return bool(self.choice.table) and self.choice.rate is None and not self.final

    def count_runs(self, stage: Stage) -> tuple[int, int]:
        """Count the ended and the planned runs of a stage; shares of the rows have final runs."""
        finals = (*self.final, *self.fewer_rows)
        records = {"tune": self.tuning, "final": finals, "cost": self.cost}[stage]
        waiting = sum(n for (of_stage, _), n in self.pending.items() if of_stage == stage)
        expected = self.expected_runs if stage == "final" else 0
        return len(records), max(len(records) + waiting, expected)

    @property
    def complete(self) -> bool:
        """Whether all final runs that the protocol wants have ended."""
        return self.all_trials_failed or len(self.final) >= self.expected_runs

    @property
    def finished(self) -> bool:
        """Whether no run waits, and all expected final runs have ended or none is needed."""
        if any(stage != "cost" for stage, _ in self.pending):
            return False
        return self.complete or self.over_limit


def has_test_answers(record: Record) -> bool:
    """Return whether the store has the record's answers to the test rows."""
    answers: Predictions | None = record.predictions.get("test")
    return answers is not None and bool(answers.uid)


def position_of(run: Run, seeds: Sequence[int]) -> int | None:
    """Return the position of a final run among the study's seeds; None if it has none of them."""
    if run.outer is not None:
        return run.outer.position if run.outer.position < len(seeds) else None
    return seeds.index(run.seed) if run.seed in seeds else None


def group_by_outer(records: Iterable[Record]) -> dict[OuterFold, list[Record]]:
    """Group records by outer fold."""
    groups: dict[OuterFold, list[Record]] = {}
    for record in records:
        if record.run.outer is not None:
            groups.setdefault(record.run.outer, []).append(record)
    return groups


@dataclass(frozen=True, eq=False)
class TestAnswers:
    """The answers of one run to the test rows, or of the runs of the folds of one repeat.

    Attributes:
        runs: runs that have answered.
        predictions: predictions of all rows.
        sources: (rows, 2): index of the run in ``runs``, and index of the row in its answers.
    """

    __test__ = False  # pytest must not collect it

    runs: Sequence[Record]
    predictions: Predictions
    sources: Array

    @classmethod
    def of_folds(cls, folds: Sequence[Record], further: Sequence[Record] = ()) -> TestAnswers:
        """Combine the rows of several folds, and those that only ``further`` runs have answered.

        Rows are in the natural order of uids, and so in the same order for every method and repeat.
        Clusters and questions, which lie whole in a fold, are numbered anew in that order. A column
        that some runs do not have is left out.

        Raises:
            StoreError: two folds have answered the same row.
        """
        runs = [*folds, *further]
        parts = [record.predictions["test"] for record in runs]
        in_folds = [uid for part in parts[: len(folds)] for uid in part.uid]
        if len(set(in_folds)) < len(in_folds):
            raise StoreError(
                "two folds of a cross-validation have answered the same rows.",
                remedy="The data of the task changed between runs; run the study again.",
            )
        first: dict[str, tuple[int, int]] = {}
        for number, part in reversed([*enumerate(parts)]):
            first |= {uid: (number, place) for place, uid in enumerate(part.uid)}
        # Texts and numbers alternate in a part: ``train:2`` is before ``train:10``.
        in_order = sorted(
            first,
            key=lambda uid: [
                int(part) if place % 2 else part
                for place, part in enumerate(re.split(r"([0-9]+)", uid))
            ],
        )
        sources = [first[uid] for uid in in_order]
        used = {number for number, _ in sources}

        def join(columns: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
            whole = all(len(columns[number]) == len(parts[number].uid) for number in used)
            return tuple(columns[number][place] for number, place in sources) if whole else ()

        merged: dict[str, Any] = {}
        for name in ("uid", "label", "prediction", "scores"):
            merged[name] = join([getattr(part, name) for part in parts])
        for name in ("cluster", "question"):
            columns = [getattr(part, name) for part in parts]
            merged[name] = ()
            if any(columns[number] for number in used):
                # In a fold without groups, every row is a group.
                groups = [c or range(len(p.uid)) for c, p in zip(columns, parts, strict=True)]
                keys = [(number, groups[number][place]) for number, place in sources]
                numbers = {key: place for place, key in enumerate(dict.fromkeys(keys))}
                merged[name] = tuple(numbers[key] for key in keys)
        merged["segment"] = {
            name: join([part.segment.get(name, ()) for part in parts])
            for name in set.intersection(*(set(parts[number].segment) for number in used))
        }
        return cls(runs, Predictions(**merged), np.array(sources))
