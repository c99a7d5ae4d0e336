"""What a report says of methods on shares of the labelled rows (``protocol.rows``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from paretune.analysis.cell import NO_MODEL
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.fewer_rows import (
    LeadByRows,
    Levels,
    compare_on_shares,
    count_labelled_rows,
    list_leads,
)
from paretune.analysis.pairs import Standing
from paretune.methods.baselines import WITH_MODEL
from paretune.methods.core.titles import title_of
from paretune.reporting.document import LabelledRows
from paretune.reporting.parts import Plain, Value
from paretune.reporting.table import (
    BASIS,
    LABEL,
    Column,
    RowValues,
    Table,
    column,
    file_column,
    write_basis,
    write_score,
)
from paretune.reporting.text.formatting import format_points, format_share
from paretune.terminal.sanitise import sanitise_line

_SIGNS: Mapping[Standing, str] = {"above": "▲", "unclear": "≈", "below": "▼"}
Counts = Mapping[str, Mapping[float, int | None]]
"""Labelled rows by task and share; None where they are not known."""


def build_labelled_rows(
    comparisons: Mapping[str, PairwiseComparisons], reference: str | None = None
) -> LabelledRows | None:
    """Build the part of a report on shares of the labelled rows; None where none are compared.

    Args:
        comparisons: on all rows, by task.
        reference: key of the method of which is asked whether any is better.
    """
    by_task = {task: compare_on_shares(cells, reference) for task, cells in comparisons.items()}
    tasks = {task: levels for task, levels in by_task.items() if levels}
    if not tasks:
        return None
    counts: Counts = {
        task: {share: count_labelled_rows(levels[1.0].cells, share) for share in levels}
        for task, levels in tasks.items()
    }
    leads = list_leads(tasks, reference)
    return LabelledRows(
        sentence=_write_sentence(leads, counts, reference),
        least=Table.collect(
            "least-rows",
            "From how many labelled rows the first is proven better",
            _list_least_rows(leads, counts),
        ),
        differences=Table.collect(
            "differences-by-rows",
            "Differences by labelled rows",
            _list_differences(leads, counts),
            above="First minus second in points, with the 95 % interval of each pair alone, of "
            "runs on so many labelled rows.",
            notes=(
                "▲ proven better with so many rows, ▼ proven worse, ≈ undecided, corrected as "
                "everywhere in this report. Better from: the smallest number of rows from which "
                "on, up to all, the first is proven better. Going down from all rows needs no "
                "correction for one pair; over several pairs, claims are corrected at each number "
                "of rows, not over them.",
            ),
        ),
        scores=Table.collect(
            "labelled-rows",
            "Scores by labelled rows",
            _list_scores(tasks, counts),
            notes=(
                "Labelled rows: all that runs were trained on, with the selection part inside; the "
                "test rows are the same for every number of them.",
            ),
        ),
    )


def _list_least_rows(leads: Sequence[LeadByRows], counts: Counts) -> Iterable[RowValues]:
    """List a row for each pair, with a column for each task."""
    by_pair: dict[tuple[str, str, str], dict[str, LeadByRows]] = {}
    for lead in leads:
        by_pair.setdefault((lead.model, lead.method, lead.rival), {})[lead.task] = lead
    for (model, method, rival), by_task in by_pair.items():
        row: dict[Column, Value | Plain] = {
            file_column("model"): sanitise_line(model),
            file_column("method"): sanitise_line(method),
            file_column("against"): sanitise_line(rival),
            column("pair", words=True): _name_pair(method, rival),
        }
        for task, lead in by_task.items():
            heading = column(f"task {task}", _name_task(task, counts))
            text = _write_least_rows(lead, counts)
            row[heading] = Value(value=lead.least_share, text=text)
        yield row


def _write_least_rows(lead: LeadByRows, counts: Counts) -> str:
    """``100``, ``not with 800``."""
    of_task = [counts[lead.task]] if lead.task else [*counts.values()]
    if lead.least_share is not None:
        return _name_rows(of_task, lead.least_share)
    return f"not with {_name_rows(of_task, max(lead.standings))}"


def _name_task(task: str, counts: Counts) -> str:
    return sanitise_line(task or f"all {len(counts)} tasks")


def _name_pair(method: str, rival: str) -> str:
    return sanitise_line(f"{title_of(method)} against {title_of(rival)}")


def _list_scores(tasks: Mapping[str, Levels], counts: Counts) -> Iterable[RowValues]:
    for task, levels in tasks.items():
        for place, cell in enumerate(levels[1.0].cells):
            for share, level in levels.items():
                score = level.cells[place].interval
                if score is None:
                    continue
                yield {
                    column("task", words=True): sanitise_line(task),
                    file_column("model"): None
                    if cell.model == NO_MODEL
                    else sanitise_line(cell.model),
                    file_column("method"): sanitise_line(cell.method),
                    LABEL: sanitise_line(title_of(cell.method)),
                    file_column("baseline"): cell.baseline,
                    file_column("share"): share,
                    column("labelled_rows", "labelled rows"): Value(
                        value=counts[task][share], text=_name_rows([counts[task]], share)
                    ),
                    column("score", "score [95 %]"): write_score(score),
                    BASIS: write_basis(score),
                }


def _list_differences(leads: Sequence[LeadByRows], counts: Counts) -> Iterable[RowValues]:
    for lead in leads:
        row: dict[Column, Value | Plain] = {
            column("task", words=True): _name_task(lead.task, counts),
            file_column("model"): sanitise_line(lead.model),
            file_column("method"): sanitise_line(lead.method),
            file_column("against"): sanitise_line(lead.rival),
            column("pair", words=True): _name_pair(lead.method, lead.rival),
            column("better_from", "better from", words=True): Value(
                value=lead.least_share, text=_write_least_rows(lead, counts)
            ),
        }
        for share, (points, low, high) in lead.points.items():
            heading = column(f"share {share}", _name_rows([*counts.values()], share))
            text = f"{format_points(points, low, high)} {_SIGNS[lead.standings[share]]}"
            row[heading] = Value(value=points, text=text)
        yield row


def _name_rows(counts: Iterable[Mapping[float, int | None]], share: float) -> str:
    """``400``; where tasks differ in it or it is not known, ``50 %``."""
    rows = {count.get(share) for count in counts}
    only = rows.pop() if len(rows) == 1 else None
    return format_share(share) if only is None else f"{only:,}"


def _write_sentence(leads: Sequence[LeadByRows], counts: Counts, reference: str | None) -> str:
    """Say from how many labelled rows on the reference, or the first method, is proven better.

    With several tasks the sentence is about all of them, with several models about the first.
    """
    first = next((lead for lead in leads if reference in (None, lead.method)), None)
    if first is None:
        return ""
    of_method = [lead for lead in leads if (lead.model, lead.method) == (first.model, first.method)]
    over_tasks = [lead for lead in of_method if not lead.task]
    clauses = []
    for lead in over_tasks or of_method:
        rows = _write_least_rows(lead, counts)
        unit = "of the labelled rows" if "%" in rows else "labelled rows"
        amount = f"{rows} {unit}" if lead.least_share is None else f"with {rows} {unit} or more"
        article = "the " if lead.rival in WITH_MODEL else ""
        place = f" on {lead.task}" if lead.task and len(counts) > 1 else ""
        clauses.append(f"than {article}{title_of(lead.rival)} {amount}{place}")
    where = f"Over {_name_task('', counts)} " if over_tasks else ""
    sentence = f"{where}{title_of(first.method)} is proven better {'; '.join(clauses)}."
    return sanitise_line(sentence)
