"""``judge``: verdicts for runs that were trained elsewhere, from their answers. Needs no torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.analysis.cells import group_into_cells
from paretune.errors import StudyError, spell_option
from paretune.judging.decide import (
    EXIT_CODES,
    Decision,
    check_pair,
    decide_candidate,
    decide_gate,
    take_methods,
)
from paretune.judging.decision_text import describe_flips, write_markdown, write_sentence
from paretune.judging.ledger import open_ledger
from paretune.judging.rows import read_sources
from paretune.judging.runs import build_study
from paretune.reporting import Report
from paretune.reporting.build import build_report
from paretune.reporting.document import write_file
from paretune.verbs.options import Card, Figures, File, Tables
from paretune.verbs.result import Result, to_json_value

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.terminal.rich_console import Terminal

Method = Annotated[str, typer.Option(metavar="METHOD")]
Points = Annotated[float, typer.Option(metavar="POINTS", min=0)]


@dataclass(frozen=True, repr=False)
class DecisionResult(Result):
    """The decision of `judge` on a candidate, or on a new model beside the old one.

    Attributes:
        decision: the answer, why, and the numbers behind it.
    """

    decision: Decision

    @property
    def answer(self) -> str:
        """``keep``, ``drop`` or ``two more seeds``; ``passes``, ``fails`` or ``undecided``."""
        return self.decision.answer

    @property
    def exit_code(self) -> int:
        """0 of yes, 11 of no, 12 of not yet: no error has these."""
        return EXIT_CODES[self.decision.answer]

    def to_json(self) -> dict[str, Any]:
        """With --champion: sentence, answer, reason, champion, candidate, task, metric, scores,
        runs, rows, points, low_points, high_points, p, level, number, look, losses, gains, notes
        (:class:`~paretune.judging.decide.Decision`). Without, as `report`.
        """
        return {"sentence": write_sentence(self.decision), **to_json_value(self.decision)}

    def describe(self) -> Iterable[RenderableType]:
        """One sentence; of a gate also which examples changed sides."""
        yield write_sentence(self.decision)
        yield from (f"  {line}" for line in describe_flips(self.decision))

    def show(
        self, out: Terminal, *, details: bool = False, output: Any = None, quiet: bool = False
    ) -> None:
        """Print it; ``details`` are the whole summary as Markdown, ``quiet`` leaves one sentence.

        Raises:
            StudyError: a page is named by ``output``.
        """
        if output is not None:
            remedy = f"{spell_option('markdown')} writes it."
            raise StudyError("a decision is no page.", where=spell_option("output"), remedy=remedy)
        if details:
            out.print(write_markdown(self.decision), soft_wrap=True, end="")
        elif quiet:
            out.print(write_sentence(self.decision), soft_wrap=True)
        else:
            super().show(out)


def judge(
    predictions: Annotated[Sequence[Path | str] | Any, typer.Argument(metavar="FILE...")],
    *,
    metric: Annotated[str, typer.Option(metavar="METRIC")] | None = None,
    reference: Method | None = None,
    champion: Method | None = None,
    candidate: Method | None = None,
    gain: Points | None = None,
    ledger: File | None = None,
    not_worse_than: Points | None = None,
    markdown: File | None = None,
    page: File | None = None,
    card: Card = None,
    figures: Figures = None,
    tables: Tables = None,
    json: Path | str | None = None,
) -> Report | DecisionResult:
    """Compare runs that were trained elsewhere, by their answers.

    A row is one answer: method, id, label and prediction, or method, id and a score from 0 to 1.
    It may also name seed, fold, task, model, cluster (rows that depend on one another), split (only
    test is judged), and the seconds and peak_bytes of its run. The report is that of `report`:
    paired differences with intervals, ranks, what is proven, what would decide.

    --champion and --candidate ask for a decision in its place: keep (exit code 0), drop (11), or
    two more seeds (12). By --not-worse-than it passes (0), fails (11) or is undecided (12).

    Args:
        predictions: Files (csv, tsv, jsonl, parquet), or folders of them; samples_*.jsonl of
            lm-evaluation-harness. In Python also DataFrames, or outputs of ``Trainer.predict`` by
            method.
        metric: The metric of the answers; for lm-evaluation-harness, one of its scores. [default:
            accuracy; for numbers R²]
        reference: Ask whether any other method is better than this one.
        champion: The method in use.
        candidate: The method that may replace it.
        gain: The smallest gain worth having, in points. [default: 0]
        ledger: A file that keeps one error budget of 5 % over all candidates of a stream.
        not_worse_than: Points that the candidate may lose against the champion.
        markdown: Also write the decision here as Markdown, for a pull request.
        page: Where to write the page.
        json: also write the whole report (JSON) here.

    Returns:
        Tasks with their cells, scores with intervals, costs, verdicts and sentences; or the
        decision.

    Raises:
        DataError: a file is missing or unreadable, or rows are incomplete, contradict each other
            or cannot be paired; a ledger is none, or lacks earlier runs.
        StudyError: no such metric or method, or options that do not go together.
        StoreError: an output cannot be written.
    """
    of_stream = {"gain": gain, "ledger": ledger}
    options = {"not_worse_than": not_worse_than, **of_stream, "markdown": markdown}
    options |= {"champion": champion, "candidate": candidate}
    named = [spell_option(name) for name, value in options.items() if value is not None]
    if named and (champion is None or candidate is None):
        both = f"{spell_option('champion')} and {spell_option('candidate')}"
        raise StudyError(f"a decision needs {both}.", where=named[0])
    if not_worse_than is not None and any(value is not None for value in of_stream.values()):
        raise StudyError(f"is not used with {named[0]}.", where=named[1], remedy="Leave out one.")
    rows, findings = read_sources(predictions, metric)
    several = isinstance(predictions, Sequence) and not isinstance(predictions, str)
    parts = list(predictions) if several else [predictions]
    paths = [str(part) for part in parts if isinstance(part, str | Path)]
    if champion is not None and candidate is not None:
        rows = take_methods(rows, champion, candidate)
    study, records, findings = build_study(
        rows,
        findings,
        name=Path(paths[0]).resolve().stem if len(paths) == 1 else "predictions",
        metric=metric,
        reference=reference,
    )
    outputs = {"card": card, "figures": figures, "tables": tables, "json": json}
    if champion is None or candidate is None or page or any(outputs.values()):
        document = build_report(study, records, findings=findings)
        document.write(page, **outputs)
        words = [*paths, *(["--metric", metric] if metric else [])]
        document._typed = shlex.join([*words, *(["--reference", reference] if reference else [])])
    if champion is None or candidate is None:
        return document
    by_method = sorted(group_into_cells(study, records), key=lambda cell: cell.method != champion)
    check_pair(*by_method)
    old, new = by_method
    if not_worse_than is not None:
        decision = decide_gate(old, new, not_worse_than)
    else:
        opened = nullcontext() if ledger is None else open_ledger(Path(ledger))
        with opened as stream:
            decision = decide_candidate(old, new, gain or 0.0, stream)
    decision = replace(decision, notes=tuple(map(str, findings)))
    if markdown is not None:
        write_file(Path(markdown), write_markdown(decision), "the summary")
    return DecisionResult(decision)
