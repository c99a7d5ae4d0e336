"""``judge``: verdicts for runs that were trained elsewhere, from their answers. Needs no torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from paretune.judging.rows import read_sources
from paretune.judging.runs import build_study
from paretune.reporting import Report
from paretune.reporting.build import build_report
from paretune.verbs.options import File, Folder


def judge(
    predictions: Annotated[Sequence[Path | str] | Any, typer.Argument(metavar="FILE...")],
    *,
    metric: Annotated[str, typer.Option(metavar="METRIC")] | None = None,
    reference: Annotated[str, typer.Option(metavar="METHOD")] | None = None,
    page: File | None = None,
    card: File | None = None,
    figures: Folder | None = None,
    tables: Folder | None = None,
    json: Path | str | None = None,
) -> Report:
    """Compare runs that were trained elsewhere, by their answers.

    A row is one answer: method, id, label and prediction, or method, id and a score from 0 to 1.
    It may also name seed, fold, task, model, cluster (rows that depend on one another), split (only
    test is judged), and the seconds and peak_bytes of its run. The report is that of `report`:
    paired differences with intervals, ranks, what is proven, what would decide.

    Args:
        predictions: Files (csv, tsv, jsonl, parquet), or folders of them; samples_*.jsonl of
            lm-evaluation-harness. In Python also DataFrames, or outputs of ``Trainer.predict`` by
            method.
        metric: What scores the answers; of lm-evaluation-harness, which of its scores. [default:
            accuracy; of numbers R²]
        reference: The method of which is asked whether any other is better.
        page: Where to write the page.
        card: Also write the result as a picture for links: PNG or SVG, 1,200 x 630. In Python a
            page that is written too names it.
        figures: Also write the figures here: PNG, SVG and PDF.
        tables: Also write the tables here: CSV and LaTeX.
        json: also write the whole report (JSON) here.

    Returns:
        Tasks with their cells, scores with intervals, costs, verdicts and sentences.

    Raises:
        DataError: a file is missing or unreadable, or rows are incomplete, contradict each other
            or cannot be paired.
        StudyError: no such metric or method.
        StoreError: an output cannot be written.
    """
    rows, findings = read_sources(predictions, metric)
    several = isinstance(predictions, Sequence) and not isinstance(predictions, str)
    parts = list(predictions) if several else [predictions]
    paths = [str(part) for part in parts if isinstance(part, str | Path)]
    study, records, findings = build_study(
        rows,
        findings,
        name=Path(paths[0]).resolve().stem if len(paths) == 1 else "predictions",
        metric=metric,
        reference=reference,
    )
    document = build_report(study, records, findings=findings)
    document.write(page, card=card, figures=figures, tables=tables, json=json)
    options = {"--metric": metric, "--reference": reference}
    named = [word for option, value in options.items() if value for word in (option, value)]
    document._typed = shlex.join([*paths, *named])
    return document
