"""All scores of a translation, beside its primary score: a further table with notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from paretune import metrics
from paretune.analysis.statistics.bootstrap_score import bootstrap_score, bootstrap_segment_scores
from paretune.analysis.statistics.score_interval import Interval, confidence_interval
from paretune.metrics.translation import METRICS, SACREBLEU_NAMES
from paretune.reporting.rows import Grid, Row
from paretune.reporting.text.formatting import (
    format_examples,
    format_interval,
    format_n_by_seeds,
    format_runs,
    join_names,
)
from paretune.study import TaskSpec
from paretune.tasks import objective_of
from paretune.terminal.sanitise import sanitise_line


def build_translation_table(task: TaskSpec, rows: Sequence[Row]) -> Grid | None:
    """All scores of a translation's cells; None of other tasks, or without translations."""
    scored = [row for row in rows if row.cell.shown_answers]
    if not objective_of(task).generates or not scored:
        return None
    optional = [
        name
        for name in metrics.SEGMENT_METRICS
        if any(name in seed.segment for row in scored for seed in row.cell.shown_answers)
    ]
    table, intervals = [], []
    for row in scored:
        corpus = [
            confidence_interval(bootstrap_score(row.cell.shown_answers, name, row.cell.design))
            for name in SACREBLEU_NAMES
        ]
        means = [segment_interval(row, name) for name in optional]
        texts = (*map(format_interval, corpus), *map(format_segment_score, means))
        table.append((row, texts))
        intervals.append((*corpus, *means))
    return Grid(
        title="Every score of the translations",
        above=f"{describe_basis(scored)} TER counts edits: less is better.",
        titles=(
            *(metric.title for metric in METRICS),
            *(metrics.SEGMENT_METRICS[name].title for name in optional),
        ),
        rows=tuple(table),
        notes=tuple(_list_notes(scored, optional)),
        intervals=tuple(intervals),
    )


def segment_interval(row: Row, name: str) -> Interval | None:
    """The mean of stored scores by segment, with its interval; None unless all runs have them."""
    answers = row.cell.shown_answers
    if any(name not in seed.segment for seed in answers):
        return None
    score = bootstrap_segment_scores(answers, name)
    return confidence_interval(replace(score, design=row.cell.design))


def format_segment_score(interval: Interval | None) -> str:
    """``0.712 [0.689, 0.735]``; a dash without a score."""
    return format_interval(interval, digits=3) if interval else "–"


def describe_basis(rows: Sequence[Row]) -> str:
    """On how many examples and seeds the scores of a table are based; exceptions are named."""
    groups: dict[str, list[Row]] = {}
    examples: dict[str, Interval] = {}
    for row in rows:
        if interval := row.interval:
            key = format_n_by_seeds(interval)
            groups.setdefault(key, []).append(row)
            examples[key] = interval
    largest = max(groups, key=lambda key: len(groups[key]))
    others = [
        f"; {join_names(_name_rows(group, rows))} on {key}"
        for key, group in groups.items()
        if key != largest
    ]
    basis = f"{format_examples(examples[largest], 'test ')} x {format_runs(examples[largest])}"
    return f"Mean over seeds [95 %], on {basis}{''.join(others)}."


def _list_notes(rows: Sequence[Row], optional: Sequence[str]) -> Iterable[str]:
    current = metrics.signatures(SACREBLEU_NAMES)
    listed = "; ".join(f"{SACREBLEU_NAMES[name]} {text}" for name, text in current.items())
    yield f"sacreBLEU's signatures: {listed}."
    stored = {
        sanitise_line(signature)
        for row in rows
        for record in row.cell.final
        for name, signature in record.result.get("signatures", {}).items()
        if signature != current.get(name)
    }
    if stored:
        yield (
            f"Some runs were scored otherwise when they ran ({'; '.join(sorted(stored))}); "
            "the numbers here are computed anew from their texts."
        )
    if absent := [m.title for m in metrics.SEGMENT_METRICS.values() if m.name not in optional]:
        yield (
            f"{join_names(absent)}: not computed, since generation.metrics of the study does "
            "not ask for it."
        )
    if "bertscore" in optional:
        models = {
            sanitise_line(record.run.generation.bertscore_model)
            for row in rows
            for record in row.cell.final
            if record.run.generation and record.run.generation.bertscore_model
        }
        if models:
            yield f"BERTScore (F1) by {join_names(sorted(models))}."
        else:
            yield "BERTScore (F1): the records do not say by which model."


def _name_rows(group: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """By method where the group has all rows of the method, otherwise row by row."""
    titles = {row.title for row in group}
    partly = {row.method for row in rows if row.title not in titles}
    return list(dict.fromkeys(r.title if r.method in partly else r.method for r in group))
