"""The README beside a submission: which run answered what, and by what it was chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from paretune import metrics
from paretune.exporting.card import render_template
from paretune.reporting.text.formatting import (
    format_examples,
    format_interval,
    format_rate,
    format_runs,
)
from paretune.study import Study
from paretune.terminal.plural import pluralise
from paretune_slovene.slobench.run_selection import SelectedRun
from paretune_slovene.slobench.submission import Submission
from paretune_slovene.slobench.superglue_submission import NAME


@dataclass(frozen=True)
class SubmittedTask:
    """One task of a submission.

    Attributes:
        name: SloBench's of a SuperGLUE task, the study's of a translation.
        notes: sentences on what a reader would not expect.
    """

    name: str
    file: str
    rows: int
    by: SelectedRun
    notes: tuple[str, ...]

    @property
    def quality(self) -> str:
        """``0.71 [0.49, 0.94] (accuracy on 18 examples)``: the run's own selection score."""
        score = self.by.run_interval
        metric = metrics.get(self.by.cell.metric).title
        return f"{format_interval(score)} ({metric} on {format_examples(score)})" if score else "–"

    @property
    def mean(self) -> str:
        """``0.70 [0.52, 0.88] (5 seeds)``: the cell's mean score on the same examples."""
        score = self.by.interval
        return f"{format_interval(score)} ({format_runs(score)})" if score else "–"


def list_notes(by: SelectedRun, *, cut: int, rows: int) -> tuple[str, ...]:
    """Sentences that a reader of a task's answers should know about its run."""
    run, notes = by.record.run, []
    if by.baseline:
        notes.append(f"No model has ended a run, so a baseline answers ({run.method.key}).")
    if by.seeds < by.cell.expected_runs:
        notes.append(f"Of {by.cell.expected_runs} seeds, {by.seeds} have ended so far.")
    if by.failed_seeds:
        count = pluralise(by.failed_seeds, "run")
        notes.append(f"{count} failed: diverged, out of memory or constant; not in the mean.")
    if run.selection == "test":
        notes.append("Chosen on the published validation part, as the study's protocol has it.")
    if cut:
        limit = run.training.max_length
        notes.append(f"{cut:,} of {rows:,} rows were cut to {limit} tokens at most.")
    return tuple(notes)


def render_submission_card(
    study: Study, parts: Sequence[SubmittedTask], releases: Sequence[Submission]
) -> str:
    """The README as Markdown."""
    runs = [part.by.record.run for part in parts]
    return render_template(
        "submission.md.j2",
        package="paretune_slovene.slobench",
        study=study,
        parts=parts,
        releases=releases,
        paper=any(run.selection == "test" for run in runs),
        sourced=any(part.file != NAME for part in parts),
        version=version("paretune"),
        format_rate=format_rate,
        sha256=lambda data: hashlib.sha256(data).hexdigest(),
    )
