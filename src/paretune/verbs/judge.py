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
    decide_candidate,
    decide_gate,
    pair_cells,
    take_methods,
)
from paretune.judging.decision_text import (
    describe_flips,
    describe_numbers,
    write_markdown,
    write_sentence,
)
from paretune.judging.ledger import open_turn
from paretune.judging.rows import read_sources
from paretune.judging.runs import build_study
from paretune.reporting import Report
from paretune.reporting.build import build_report
from paretune.reporting.document import write_file
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs.options import Card, Figures, File, Tables
from paretune.verbs.result import Result, to_json_value

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.terminal.rich_console import Terminal

STDOUT = "-"
Method = Annotated[str, typer.Option(metavar="METHOD")]
Points = Annotated[float, typer.Option(metavar="POINTS", min=0)]


@dataclass(frozen=True, repr=False)
class DecisionResult(Result):
    """What `judge` decides of a candidate, or of a new model beside the old one.

    Attributes:
        decision: the answer, why, and the numbers behind it.
        in_markdown: whether it shows itself as Markdown.
    """

    decision: Decision
    in_markdown: bool = False

    @property
    def answer(self) -> str:
        """``keep``, ``drop`` or ``two more seeds``; ``passes``, ``fails`` or ``undecided``."""
        return self.decision.answer

    @property
    def exit_code(self) -> int:
        """0 of yes, 11 of no, 12 of not yet: no error has these."""
        return EXIT_CODES[self.decision.answer]

    def to_json(self) -> dict[str, Any]:
        """With --champion, for ``report``'s object: answer, sentence, reason, champion, candidate,
        task, metric, scores, runs, rows, points, low_points, high_points, p, level, number, look,
        threshold_points, models_only, losses, gains, notes
        (:class:`~paretune.judging.decide.Decision`).
        """
        values: dict[str, Any] = to_json_value(self.decision)
        return {"answer": self.answer, "sentence": write_sentence(self.decision), **values}

    def describe(self) -> Iterable[RenderableType]:
        """One sentence; of a gate also which examples changed sides."""
        if self.in_markdown:
            yield write_markdown(self.decision).rstrip("\n")
            return
        yield write_sentence(self.decision)
        yield from (f"  {line}" for line in describe_flips(self.decision))

    def show(
        self, out: Terminal, *, details: bool = False, output: Any = None, quiet: bool = False
    ) -> None:
        """Print it; with ``details`` also scores, limits and every example, ``quiet`` the sentence.

        Raises:
            StudyError: an output is named, which only a report has.
        """
        if output is not None:
            remedy = "Add --json, or name the file by --markdown or --page."
            raise StudyError("a decision is no page.", where="--output", remedy=remedy)
        if self.in_markdown or not (details or quiet):
            super().show(out)
            return
        out.print(write_sentence(self.decision), soft_wrap=True)
        if details:
            lines = [*describe_numbers(self.decision), *describe_flips(self.decision, most=None)]
            for line in [*lines, *map(sanitise_line, self.decision.notes)]:
                out.print(f"  {line}", soft_wrap=True)


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

    --champion and --candidate ask for a decision in its place: keep (exit code 0), drop (11) or two
    more seeds (12). With --not-worse-than the candidate passes (0), fails (11) or is undecided (12).

    Args:
        predictions: Files (csv, tsv, jsonl, parquet), or folders of them; samples_*.jsonl of
            lm-evaluation-harness. In Python also DataFrames, or outputs of ``Trainer.predict`` by
            method.
        metric: What scores the answers; of lm-evaluation-harness, which of its scores. [default:
            accuracy; of numbers R²]
        reference: The method of which is asked whether any other is better.
        champion: The method that is to be beaten, or replaced.
        candidate: The method that may beat or replace it.
        gain: The smallest gain worth having, in points. [default: 0]
        ledger: A file that shares one error budget of 5 % over all candidates of a stream.
        not_worse_than: Points that the candidate may lose against the champion.
        markdown: Also write the decision here, for a pull request; - prints it.
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
    _check_options(
        {"champion": champion, "candidate": candidate},
        {"not_worse_than": not_worse_than},
        {"gain": gain, "ledger": ledger},
        {"markdown": markdown},
    )
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
        options = {"--metric": metric, "--reference": reference}
        named = [word for option, value in options.items() if value for word in (option, value)]
        document._typed = shlex.join([*paths, *named])
    if champion is None or candidate is None:
        return document
    cells = pair_cells(group_into_cells(study, records), champion, candidate)
    if not_worse_than is not None:
        decision = decide_gate(*cells, not_worse_than)
    else:
        turn = nullcontext(None) if ledger is None else open_turn(Path(ledger), champion, candidate)
        with turn as opened:
            decision = decide_candidate(*cells, gain or 0.0, opened)
    decision = replace(decision, notes=tuple(map(str, findings)))
    if markdown is not None and str(markdown) != STDOUT:
        write_file(Path(markdown), write_markdown(decision), "the summary")
    return DecisionResult(decision, in_markdown=str(markdown) == STDOUT)


def _check_options(
    methods: dict[str, Any], gate: dict[str, Any], stream: dict[str, Any], both: dict[str, Any]
) -> None:
    """Refuse options of a decision without its two methods, and those of its two kinds together.

    Raises:
        StudyError: they do not go together.
    """
    methods_named, gate_named, stream_named, both_named = (
        [name for name, value in options.items() if value is not None]
        for options in (methods, gate, stream, both)
    )
    further = [*methods_named, *gate_named, *stream_named, *both_named]
    if further and len(methods_named) < len(methods):
        needed = next(name for name in methods if name not in methods_named)
        raise StudyError(f"needs {spell_option(needed)}.", where=spell_option(further[0]))
    if gate_named and stream_named:
        raise StudyError(
            f"belongs to a stream of candidates, {spell_option(gate_named[0])} to a gate.",
            where=spell_option(stream_named[0]),
            remedy="Leave out one of them.",
        )
