"""The README beside a submission: which run answered what, and by what it was chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from paretune import metrics
from paretune.analysis.run_selection import SelectedRun
from paretune.reporting.text.escape import escape_markdown, markdown_code
from paretune.reporting.text.formatting import (
    format_examples,
    format_interval,
    format_rate,
    format_runs,
)
from paretune.study import Run, Study
from paretune.tasks import objective_of
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line
from paretune_slovene.slobench.submission import File, Submission

COLUMNS = (
    "task", "rows", "model", "method", "rate", "seed", "its selection score", "mean of seeds",
    "run",
)  # fmt: skip


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


def list_notes(by: SelectedRun, *, cut: int, rows: int, constant: str | None) -> tuple[str, ...]:
    """What a reader of a task's answers should know, as sentences.

    Args:
        constant: the label that every row got, if it is one.
    """
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
    if constant is not None:
        notes.append(f"Every row got the same answer, {constant}.")
    return tuple(notes)


def render_submission_card(
    study: Study, parts: Sequence[SubmittedTask], releases: Sequence[Submission]
) -> str:
    """The README as Markdown."""
    paper = any(part.by.record.run.selection == "test" for part in parts)
    lines = [
        f"# A submission to SloBench, made by the study {escape_markdown(study.study)}",
        "",
        "For each task one run answered: of the model and method with the highest mean score on "
        "the selection part over their seeds, the seed that scored highest there. "
        + ("" if paper else "It is a part of train: no label of a test part was looked at."),
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(_row(part) for part in parts),
        "",
        "Scores have 95 % intervals: that of a run over the examples alone, that of the mean over "
        "seeds too. These are no test scores: only SloBench has the right answers. A score by "
        "which a run was chosen is too good on average.",
        "",
    ]
    notes = [escape_markdown(f"{part.name}: {note}") for part in parts for note in part.notes]
    lines += [*(f"- {note}" for note in notes), ""] if notes else []
    source = (
        " --source FILE"
        if any(objective_of(part.by.record.run.task).between_languages for part in parts)
        else ""
    )
    lines += [
        "```",
        sanitise_line(f"paretune run STUDY_FILE              # {study.study}, {study.study_hash}"),
        f"paretune export slobench STUDY_FILE{source}",
        "```",
        "",
    ]
    names = ", ".join(dict.fromkeys(part.file for part in parts))
    lines.append(f"{names} by paretune {version('paretune')}; what was answered:")
    lines.append("")
    lines += [
        f"- {markdown_code(_place(release, file))}, "
        f"sha256 {hashlib.sha256(file.data).hexdigest()[:16]}"
        for release in releases
        for file in release.files
    ]
    return "\n".join([*lines, ""])


def _place(release: Submission, file: File) -> str:
    alone = release.path.name == file.name
    return file.name if alone else f"{release.path.name}::{file.name}"


def _row(part: SubmittedTask) -> str:
    run = part.by.record.run
    cells = (
        part.name, f"{part.rows:,}", _model(run), run.method.key, format_rate(run.learning_rate),
        str(run.seed), part.quality, part.mean,
    )  # fmt: skip
    run_id = markdown_code(part.by.record.run_id)
    return f"| {' | '.join(map(escape_markdown, cells))} | {run_id} |"


def _model(run: Run) -> str:
    pinned = f" @ {run.model.revision[:12]}" if run.model.revision else ""
    return f"{run.model.key}{pinned}"
