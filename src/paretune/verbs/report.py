"""``report``: what a study has found so far. Needs no torch."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.analysis.cells import group_into_cells
from paretune.errors import StoredResultsWarning, StoreError
from paretune.reporting import Report
from paretune.reporting.build import build_report
from paretune.store import Record, RunStatus, Store
from paretune.study import Study
from paretune.verbs import study_input
from paretune.verbs.options import Card, Figures, File, StoreFolder, StudyLike, Tables
from paretune.verbs.stored_audit import find_changed_data, find_damaged_trials, load_findings

if TYPE_CHECKING:
    from paretune.analysis.cell import Cell
    from paretune.data.finding import Finding


@dataclass(frozen=True)
class StudyResults:
    """A study and its records in a store."""

    study: Study
    folder: Path
    records: list[Record]
    states: list[RunStatus]
    findings: list[Finding]

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """All runs, by task, model and method."""
        return tuple(group_into_cells(self.study, self.records, self.states))

    @property
    def missing_runs(self) -> str:
        """How many runs have not ended, as a sentence; "" where all have."""
        missing = sum(not state.ended for state in self.states)
        if not missing:
            return ""
        are = "is" if missing == 1 else "are"
        return f"{missing} of {len(self.states)} runs {are} not done: this is the answer so far."


def report(
    study: StudyLike,
    *,
    store: StoreFolder = None,
    page: File | None = None,
    card: Card = None,
    figures: Figures = None,
    tables: Tables = None,
    json: Path | str | None = None,
) -> Report:
    """Show the results of a study, and write a page.

    Works while the study runs, and on a machine without torch or models.

    Args:
        page: Where to write the page. [default: STORE/report.html] In Python none is written by
            default.
        json: also write the whole study (JSON) here.

    Returns:
        Tasks with their cells, scores with intervals, costs, verdicts and sentences.

    Raises:
        StudyError: no such study, or its file cannot be used.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    results = load_results(study, store)
    document = build_report(results.study, results.records, results.states, results.findings)
    document.write(page, card=card, figures=figures, tables=tables, json=json)
    document._typed = study_input.spell_study(results.study, results.folder)
    document._folder = results.folder
    return document


def load_results(study: StudyLike, store: Path | str | None = None) -> StudyResults:
    """Read from the store what a report shows.

    Warns (:class:`~paretune.errors.StoredResultsWarning`) where data files have changed since the
    runs were trained, and where predictions are damaged.

    Raises:
        StudyError: no such study, or its file cannot be used.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    study = study_input.load_study(study)
    folder = study_input.store_folder(study, store)
    with Store.open(folder) as opened:
        states = load_states(opened, study)
        records = opened.load_study_records(study)
        doubts = [
            *find_changed_data(opened, study, records),
            *find_damaged_trials(opened, records),
        ]
        for finding in doubts:
            warnings.warn(str(finding), StoredResultsWarning, stacklevel=1)
        findings = [*doubts, *load_findings(opened, study.study_hash)]
        return StudyResults(study, folder, records, states, findings)


def load_states(opened: Store, study: Study) -> list[RunStatus]:
    """The status of each run of the study.

    Raises:
        StoreError: the store never ran this study.
    """
    if states := opened.load_statuses(study.study_hash):
        return states
    rows = opened.list_studies()
    versions = [row for row in rows if row.name == study.study]
    names = ", ".join(sorted({row.name for row in rows})) or "no study"
    remedy = f"It holds runs of {names}."
    if earlier := sum(sum(row.runs.values()) for row in versions):
        remedy = (
            f"{earlier} runs here belong to earlier versions of its file: an edited study file is "
            "a new study. `paretune run` reuses those that it still needs."
        )
    if settings := [row.text for row in versions if row.text]:
        remedy = f"It ran with {' and with '.join(settings[-3:])}: use the same settings."
    raise StoreError(
        f"study {study.study} as it is now has no runs here.",
        where=str(opened.folder),
        remedy=remedy,
    )
