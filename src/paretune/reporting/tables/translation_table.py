"""All scores of generated texts, beside their primary score: a further table with notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from paretune import metrics
from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.scores import bootstrap_score, bootstrap_segment_scores
from paretune.metrics import Metric
from paretune.metrics.translation import SACREBLEU_NAMES
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
    """All scores of the cells of a task whose targets are texts; None of other tasks."""
    scored = [row for row in rows if row.cell.shown_answers]
    objective = objective_of(task)
    if not objective.generates or not scored:
        return None
    primary = metrics.get(scored[0].cell.metric)
    names = dict.fromkeys((*objective.recorded_metrics, *primary.recorded_as))
    scored_by = [metrics.get(name) for name in names]
    segment_metrics = metrics.segment_metrics()
    optional = [
        name
        for name in segment_metrics
        if any(name in seed.segment for row in scored for seed in row.cell.shown_answers)
    ]
    table, intervals = [], []
    for row in scored:
        corpus = [
            confidence_interval(bootstrap_score(row.cell.shown_answers, one.name, row.cell.design))
            for one in scored_by
        ]
        means = [segment_interval(row, name) for name in optional]
        texts = (*map(format_interval, corpus), *map(format_segment_score, means))
        table.append((row, texts))
        intervals.append((*corpus, *means))
    return Grid(
        title=f"Every score of the {'translations' if objective.between_languages else 'texts'}",
        above=" ".join([describe_basis(scored), *_explain(scored_by)]),
        titles=(
            *(metric.title for metric in scored_by),
            *(segment_metrics[name].title for name in optional),
        ),
        rows=tuple(table),
        notes=tuple(_list_notes(scored, scored_by, optional)),
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


def _explain(scored_by: Sequence[Metric]) -> Iterable[str]:
    if any(metric.name == "ter" for metric in scored_by):
        yield "TER counts edits: less is better."
    if any(metric.name in ("exact_match", "token_f1") for metric in scored_by):
        yield "Exact match and token F1 compare words after SQuAD's normalisation."


def _list_notes(
    rows: Sequence[Row], scored_by: Sequence[Metric], optional: Sequence[str]
) -> Iterable[str]:
    current = metrics.signatures([metric.name for metric in scored_by])
    own = {name: SACREBLEU_NAMES[name] for name in current if name in SACREBLEU_NAMES}
    listed = "; ".join(f"{title} {current[name]}" for name, title in own.items())
    yield f"sacreBLEU's signatures: {listed}."
    for name in current:
        if name not in own:
            yield f"{metrics.get(name).title}: {current[name]}."
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
    if absent := [m.title for m in metrics.segment_metrics().values() if m.name not in optional]:
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
