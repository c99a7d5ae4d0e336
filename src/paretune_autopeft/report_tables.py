"""The tables on searches: what each has found, what its trials said, and what the test says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from paretune.reporting.measures import ReportTable
from paretune.reporting.parts import Value
from paretune.reporting.rows import CellRow
from paretune.reporting.table import RowValues, Table, column, name_row, write_number
from paretune.reporting.text.formatting import (
    COST_WORDS,
    format_rate,
    format_seconds,
    format_share,
    join_names,
)
from paretune.store.record import Record
from paretune.study import TaskSpec
from paretune.study.run import is_trial
from paretune.terminal.plural import pluralise
from paretune_autopeft import NAME
from paretune_autopeft.review import SearchReview, review_search
from paretune_autopeft.space import describe_layers
from paretune_autopeft.surrogate import expected_maximum

_NORMAL = 1.96


class _SearchResult(NamedTuple):
    """The method that a search has completed, by the first final run.

    ``combination``: its members. ``options``: the study's options of the search. ``is_control``:
    it stands beside a search, to show the worth of that.
    """

    combination: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    rate: float | None
    is_control: bool


def _find(row: CellRow) -> _SearchResult | None:
    """Read it from a row, if a search completed the row's method."""
    for record in row.cell.final:
        if record.run.method.name == NAME:
            options = record.run.method.options
            control = options.get("sampler") == "random" or options.get("members") == ["lora"]
            return _SearchResult(options["methods"], options, record.run.learning_rate, control)
    return None


def build_search_table(
    task: TaskSpec, rows: Sequence[CellRow], records: Sequence[Record]
) -> Table | None:
    """A line for each method that a search has completed, if there is one.

    Args:
        records: records of the task.
    """
    lines = []
    notes: dict[str, None] = {}
    for row in rows:
        if (result := _find(row)) is None:
            continue
        trials = _list_trials(row, result, records)
        lines.append({**name_row(row.report), **_describe(row, result, trials)})
        # The search does not go on from a further configuration of its front.
        if not result.is_control and result.options.get("finalist", 1) == 1:
            notes |= dict.fromkeys(_write_notes(row, result, rows, trials))
    if not lines:
        return None
    return Table.collect(
        "search",
        "What the search found",
        lines,
        above="A search tries combinations of methods in groups of layers on the selection part, "
        "with one seed each; what it found was then trained anew, as every method. Searches of one "
        "model share their trials: counted are all in the space of a search, also those that "
        "another one asked for.",
        notes=notes,
    )


def build_search_front_table(
    task: TaskSpec, rows: Sequence[CellRow], records: Sequence[Record]
) -> Table | None:
    """The front of the first search of each model, of the first outer fold, if there is one."""
    lines: list[RowValues] = []
    notes: list[str] = []
    completed = [(row, result) for row in rows if (result := _find(row)) is not None]
    for model in dict.fromkeys(row.report.model for row, _ in completed):
        on_model = [(row, result) for row, result in completed if row.report.model == model]
        row, result = next((pair for pair in on_model if not pair[1].is_control), on_model[0])
        trials = _list_trials(row, result, records)
        first = [r for r in trials if r.run.outer is None or r.run.outer.position == 0]
        by = str(result.options.get("by", "parameters"))
        review = review_search(first, by)
        if review is None:
            continue
        lines += [
            {**name_row(row.report), **line} for line in _describe_front(review, by, on_model)
        ]
        if review.importance:
            shares = [f"{name} {format_share(min(part, 1.0))}" for name, part in review.importance]
            notes.append(
                f"{row.report.title}: what mattered on the selection part, as a share of the "
                "variance of that model of scores (what acts together counts more than once): "
                f"{join_names(shares)}."
            )
    if not lines:
        return None
    return Table.collect(
        "search-front",
        "The front of the search",
        lines,
        above="Of all trials, the combinations than which none is cheaper and believed to be "
        "better. Believed is the mean of a model of all scores, with 95 % of what it leaves open; "
        "scored is one run on the selection part. No test answer is in this table.",
        notes=notes,
    )


def _describe_front(
    review: SearchReview, by: str, entered: Sequence[tuple[CellRow, _SearchResult]]
) -> Iterable[RowValues]:
    for trial, record in zip(review.front, review.records, strict=True):
        combination, rate = record.run.method.options["methods"], record.run.learning_rate
        names = [
            row.report.label
            for row, result in entered
            if list(result.combination) == list(combination) and result.rate == rate
        ]
        half = _NORMAL * trial.deviation
        believed = f"{trial.score:.3f} [{trial.score - half:.3f}, {trial.score + half:.3f}]"
        price = f"{trial.price / 1e9:,.3g} GFLOP a step"
        if by != "time":
            price = COST_WORDS["memory" if by == "memory" else "parameters"].write(trial.price)
        yield {
            column("combination", words=True): describe_layers(combination),
            column("rate"): Value(value=rate, text=format_rate(rate)),
            column("cost"): Value(value=trial.price, text=price),
            column("believed", "believed [95 %]"): Value(value=trial.score, text=believed),
            column("scored"): write_number(trial.raw),
            column("tested_as", "tested as", words=True): ", ".join(names) or "–",
        }


def _list_trials(row: CellRow, result: _SearchResult, records: Sequence[Record]) -> list[Record]:
    """Trials of its model that lie in its space: searches share them."""
    members = result.options.get("members")
    whole = result.options.get("groups") == 1
    return [
        record
        for record in records
        if record.run.model.key == row.cell.model
        and is_trial(record.run)
        and all(
            (members is None or member["name"] in members) and not (whole and "layers" in member)
            for member in record.run.method.options["methods"]
        )
    ]


def _describe(row: CellRow, result: _SearchResult, trials: Sequence[Record]) -> RowValues:
    selected = _score_on_selection(row, result, trials)
    seconds = sum(s for record in trials if (s := record.train_seconds) is not None)
    return {
        column("combination", words=True): describe_layers(result.combination),
        column("selected", "selection said"): write_number(selected),
        column("tested", "test says"): write_number(
            row.cell.interval.estimate if row.cell.interval else None
        ),
        column("trials"): len(trials),
        column("seconds", "their training"): Value(value=seconds, text=format_seconds(seconds))
        if seconds
        else None,
    }


def _score_on_selection(
    row: CellRow, result: _SearchResult, trials: Sequence[Record]
) -> float | None:
    """The score of the trial of what was found."""
    scores = [
        score[0]
        for r in trials
        if r.run.method.options.get("methods") == list(result.combination)
        and r.run.learning_rate == row.cell.final[0].run.learning_rate
        and (score := r.selection_score) is not None
    ]
    return median(scores) if scores else None


def _write_notes(
    row: CellRow, result: _SearchResult, rows: Sequence[CellRow], trials: Sequence[Record]
) -> Iterable[str]:
    if len(trials) > 1:
        yield (
            f"Of {len(trials)} equal combinations the best score on the selection part is "
            f"{expected_maximum(len(trials)):.1f} standard errors too high: that is why a search "
            "believes the mean of a model of all scores, and why the test alone says what it is "
            "worth."
        )
    if row.cell.interval is None:
        return
    on_model = [
        r
        for r in rows
        if r.cell.model == row.cell.model and not r.cell.baseline and r.cell.interval is not None
    ]
    by_hand = [r for r in on_model if _find(r) is None]
    controls = [r for r in on_model if (searched := _find(r)) is not None and searched.is_control]
    compared = []
    if controls:
        compared.append(f"{_compare(row, _best(controls))}, the better of its controls")
    if by_hand:
        best = _best(by_hand)
        spent = sum(r.train_seconds or 0.0 for r in trials)
        hand = sum(r.train_seconds or 0.0 for r in best.cell.tuning)
        times = f" (all trials took {spent / hand:.1f} times as long as its own)" if hand else ""
        compared.append(f"{_compare(row, best)}, the best method that was set by hand{times}")
    if compared:
        yield (
            f"Was the search worth it? {row.report.title} "
            f"({pluralise(len(row.cell.final), 'final run')}) is {' and '.join(compared)}. "
            "Whether that is more than chance is in the comparison of all methods."
        )


def _best(rows: Sequence[CellRow]) -> CellRow:
    return max(rows, key=lambda r: r.cell.interval.estimate if r.cell.interval else 0.0)


def _compare(row: CellRow, reference: CellRow) -> str:
    """``0.012 above full``."""
    assert row.cell.interval is not None and reference.cell.interval is not None  # noqa: S101  (filtered)
    gap = row.cell.interval.estimate - reference.cell.interval.estimate
    return f"{abs(gap):.3f} {'above' if gap >= 0 else 'below'} {reference.report.title}"


TABLE = ReportTable("search", build_search_table)
FRONT = ReportTable("search-front", build_search_front_table)
