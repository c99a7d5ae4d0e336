"""``report``: what a study has found so far. Needs no torch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.errors import StoredResultsWarning, StoreError, StudyError
from paretune.study import Study
from paretune.verbs import study_input
from paretune.verbs.options import File, Flag, Folder, Quiet, StoreFolder, StudyLike
from paretune.verbs.result import Result

if TYPE_CHECKING:
    from paretune.data.finding import Finding
    from paretune.reporting.document import Report
    from paretune.store import Record, RunStatus, Store
    from paretune.terminal.rich_console import Terminal


@dataclass(frozen=True, repr=False)
class StudyResults(Result):
    """What the store has of a study; shown as its report: a screen, and a page in a file.

    Attributes:
        outputs: of :func:`write_outputs`.
    """

    study: Study
    folder: Path
    records: list[Record]
    states: list[RunStatus]
    findings: list[Finding]
    outputs: Mapping[str, Path | str | None] = field(default_factory=dict)

    @property
    def missing_runs(self) -> str:
        """How many runs have not ended, as a sentence; "" where all have."""
        missing = sum(not state.ended for state in self.states)
        if not missing:
            return ""
        are = "is" if missing == 1 else "are"
        return f"{missing} of {len(self.states)} runs {are} not done: this is the answer so far."

    @cached_property
    def report(self) -> Report:
        """Everything that any output of the report shows."""
        from paretune.reporting.build import build_report

        return build_report(self.study, self.records, self.states, self.findings)

    def to_json(self) -> dict[str, Any]:
        """The whole study; the files that were asked for are written too."""
        write_outputs(self.report, **self.outputs)
        return self.report.to_json()

    def show(
        self,
        out: Terminal,
        *,
        details: Flag = False,
        output: Annotated[Path | None, typer.Option(metavar="FILE")] = None,
        quiet: Quiet = False,
    ) -> None:
        """Print the first screen, or all tables; write the page and the other outputs.

        Args:
            details: Every table, in place of the first screen.
            output: The page; with --json, the JSON instead.
        """
        from paretune.reporting.text.terminal import print_headlines, print_screen, print_tables

        page = self.outputs.get("page")
        if page and output:
            raise StudyError("--page and --output both name the page.", remedy="Leave out one.")
        if quiet:
            print_headlines(self.report, out)
        elif details:
            print_tables(self.report, out)
        else:
            print_screen(self.report, out, study_input.spell_study(self.study, self.folder))
        page = page or output
        if page is None and os.access(self.folder, os.W_OK):
            page = self.folder / "report.html"
        written = write_outputs(self.report, **{**self.outputs, "page": page})
        if quiet:
            return
        if page is None:
            out.print("No page: the store may only be read. `--page FILE` writes it elsewhere.")
        for name, path in written:
            out.print(f"{name}: {path}", soft_wrap=True)


def load_results(study: StudyLike, store: Path | str | None = None) -> StudyResults:
    """Read from the store what a report shows.

    Warns (:class:`~paretune.errors.StoredResultsWarning`) where data files have changed since the
    runs were trained, and where predictions are damaged.

    Raises:
        StudyError: no such study, or its file cannot be used.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    from paretune.store import Store
    from paretune.verbs.stored_audit import find_changed_data, find_damaged_trials, load_findings

    study = study_input.load_study(study)
    folder = study_input.store_folder(study, store)
    with Store.open(folder) as opened:
        states = load_states(opened, study)
        records = study_input.load_records(study, opened)
        doubts = [
            *find_changed_data(opened, study, records),
            *find_damaged_trials(opened, records),
        ]
        for finding in doubts:
            warnings.warn(str(finding), StoredResultsWarning, stacklevel=1)
        findings = [*doubts, *load_findings(opened, study.study_hash)]
        return StudyResults(study, folder, records, states, findings)


def load_states(opened: Store, study: Study) -> list[RunStatus]:
    """How each run of the study stands.

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


def write_outputs(
    report: Report,
    page: Path | str | None = None,
    *,
    card: Path | str | None = None,
    figures: Path | str | None = None,
    tables: Path | str | None = None,
    json: Path | str | None = None,
) -> tuple[tuple[str, Path], ...]:
    """Write the outputs that are asked for; returns what each file is, and its path.

    Raises:
        StoreError: they cannot be written there.
    """
    written: list[tuple[str, Path]] = []
    if card is not None:
        from paretune.reporting.figure_files import write_card

        written.append(("Card", write_card(report, Path(card))))
    if page is not None:
        from paretune.reporting.page import write_page

        picture = None if card is None else Path(card)
        written.append(("Page", write_page(report, Path(page), picture)))
    if figures is not None:
        from paretune.reporting.figure_files import write_figures

        written += [("Figure", path) for path in write_figures(report, Path(figures))]
    if tables is not None:
        from paretune.reporting.table_files import write_tables

        written += [("Table", path) for path in write_tables(report, Path(tables))]
    if json is not None:
        from paretune.reporting.document import write_json

        written.append(("Study", write_json(report, Path(json))))
    return tuple(written)


def report(
    study: StudyLike,
    *,
    store: StoreFolder = None,
    page: File | None = None,
    card: File | None = None,
    figures: Folder | None = None,
    tables: Folder | None = None,
    json: Path | str | None = None,
) -> Report:
    """What a study has found so far, finished or not.

    Args:
        page: also write the page (HTML, one file) here.
        card: also write a picture of the result here (PNG or SVG, 1,200 x 630 pixels); a page
            that is written too names it for links to it.
        figures: also write the figures (PNG, SVG and PDF) into this folder.
        tables: also write the tables (LaTeX, Markdown, CSV and Parquet) into this folder.
        json: also write the whole study (JSON) here.

    Returns:
        Tasks with their cells, scores with intervals, costs, verdicts and sentences.

    Raises:
        StudyError: no such study, or its file cannot be used.
        StoreError: the store is missing or damaged, or never ran this study.
    """
    document = load_results(study, store).report
    write_outputs(document, page, card=card, figures=figures, tables=tables, json=json)
    return document


def show_study(
    study: StudyLike,
    *,
    store: StoreFolder = None,
    page: File | None = None,
    card: File | None = None,
    figures: Folder | None = None,
    tables: Folder | None = None,
) -> StudyResults:
    """Show the results of a study, and write a page.

    Works while the study runs, and on a machine without torch or models.

    Args:
        page: Where to write the page. [default: STORE/report.html]
        card: Also write the result as a picture for links: PNG or SVG, 1,200 x 630.
        figures: Also write the figures here: PNG, SVG and PDF.
        tables: Also write the tables here: LaTeX, Markdown, CSV, Parquet.

    Raises:
        ParetuneError: as :func:`report`.
    """
    outputs = {"page": page, "card": card, "figures": figures, "tables": tables}
    return replace(load_results(study, store), outputs=outputs)
