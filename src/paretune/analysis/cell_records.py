"""Which records of a cell count together: those of one setting and one design of the test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paretune.analysis.lr_selection import RateSelection
from paretune.store.record import Predictions, Record, RunStatus
from paretune.study import MethodSpec, OuterFold, Run, Study


def count_outer_folds(study: Study, records: Sequence[Record], states: Sequence[RunStatus]) -> int:
    """Folds of a task's cross-validation; 0: the published split.

    What the study asks for, if there are such runs; else what most runs are.
    """
    runs = [record.run for record in records] or [state.run for state in states]
    counts = Counter(_folds_of(run) for run in runs if run.stage != "cost")
    if not counts:
        return 0
    outer = study.protocol.outer
    folds = outer if isinstance(outer, int) else 0
    return folds if outer != "auto" and folds in counts else counts.most_common(1)[0][0]


def has_test_answers(record: Record) -> bool:
    """Whether the store has its answers to the test rows."""
    answers: Predictions | None = record.predictions.get("test")
    return answers is not None and bool(answers.uid)


def final_sort_key(record: Record) -> tuple[int, int]:
    """By repeat and fold, then by seed."""
    outer = record.run.outer
    return (0 if outer is None else outer.position, record.run.seed)


FIRST_RUNS = 2
"""Runs that every method of a race gets: with one, nothing is known of how much runs differ."""


def position_of(record: Record, seeds: Sequence[int]) -> int | None:
    """The position of a final run among the seeds of the study; None if it is none of them."""
    outer = record.run.outer
    if outer is not None:
        return outer.position if outer.position < len(seeds) else None
    return seeds.index(record.run.seed) if record.run.seed in seeds else None


def is_first_run(record: Record, seeds: Sequence[int]) -> bool:
    """Whether it is one of those that every method of a race gets."""
    at = position_of(record, seeds)
    return at is not None and at < FIRST_RUNS


def keep_design(records: Sequence[Record], folds: int) -> list[Record]:
    """The records of a cross-validation with so many folds; 0: of the published split."""
    return [record for record in records if _folds_of(record.run) == folds]


def group_by_outer(records: Iterable[Record]) -> dict[OuterFold, list[Record]]:
    """The records of each outer fold."""
    groups: dict[OuterFold, list[Record]] = {}
    for record in records:
        if record.run.outer is not None:
            groups.setdefault(record.run.outer, []).append(record)
    return groups


def keep_one_run_per_fold(
    records: Sequence[Record], study: Study, choices: Mapping[OuterFold, RateSelection]
) -> list[Record]:
    """Of one setting, for each fold the run at its selected rate, with the study's seed."""
    seeds = study.protocol.seeds
    selected = []
    for outer, runs in group_by_outer(keep_one_setting(records, study, None)).items():
        rate = choices[outer].rate if outer in choices else None
        seed = seeds[outer.position] if outer.position < len(seeds) else None
        fitting = [r for r in runs if rate is None or r.run.learning_rate == rate] or runs
        selected.append(max(fitting, key=lambda record: record.run.seed == seed))
    return selected


def keep_one_setting(records: Sequence[Record], study: Study, rate: float | None) -> list[Record]:
    """The records of one setting: the study's own, at the selected rate, or the most frequent."""
    settings: dict[str, list[Record]] = {}
    for record in records:
        settings.setdefault(_setting_key(record), []).append(record)
    if len(settings) < 2:
        return list(records)
    return max(settings.values(), key=lambda group: _closeness(group, study, rate))


def _setting_key(record: Record) -> str:
    """What must be equal for two runs to be seeds (or trials) of one another."""
    run = record.run
    ignored: dict[str, Any] = {"seed": 0, "fold": 0}
    if run.outer is not None:
        ignored["outer"] = run.outer.folds
    if run.stage != "final" or run.outer is not None:  # each fold has its own rate
        ignored["learning_rate"] = 0
    form = run.canonical_form()
    option = run.method.found_by_search
    if option and run.outer is not None:  # each fold has its own search
        options = {k: v for k, v in form["method"]["options"].items() if k != option}
        form["method"] = {**form["method"], "options": options}
    return repr(sorted({**form, **ignored}.items()))


def _is_of(method: MethodSpec, of_study: MethodSpec) -> bool:
    """Whether a run's method is the study's, or what a search has found for it."""
    option = of_study.found_by_search
    options, set_by_hand = of_study.options_of_runs, method.options_of_runs
    own = {k: v for k, v in set_by_hand.items() if k != option or option in options}
    return own == options


def keep_same_examples(records: Sequence[Record]) -> list[Record]:
    """Without runs on other data: only answers to the same examples are averaged."""
    answers = {r.run_id: r.predictions["test"].uid for r in records if has_test_answers(r)}
    if not answers:
        return list(records)
    most_common, _ = Counter(answers.values()).most_common(1)[0]
    return [r for r in records if answers.get(r.run_id, most_common) == most_common]


def _closeness(records: Sequence[Record], study: Study, rate: float | None) -> tuple[Any, ...]:
    run: Run = records[0].run
    training = run.training.model_copy(update={"precision": study.training.precision})
    return (
        any(_is_of(run.method, m) for m in study.all_methods if m.key == run.method.key),
        training == study.training,
        run.split_seed == study.protocol.split_seed,
        rate is None or run.learning_rate == rate,
        len(records),
    )


def _folds_of(run: Run) -> int:
    return run.outer.folds if run.outer is not None else 0
