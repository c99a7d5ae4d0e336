"""Further measures of a task as tables of the report: a row for each cell that has them.

Other packages add theirs: a :class:`ReportTable`, offered by an entry point in the group
``paretune.report_tables``.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from paretune import metrics, plugins
from paretune.analysis.cell import Cell, CellKey
from paretune.analysis.secondary_scores import measure_forgetting, score_shifted
from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.scores import RunScores, score_segments
from paretune.measuring.costs import Backtest
from paretune.metrics import Metric
from paretune.metrics.translation import SACREBLEU_NAMES
from paretune.reporting.disagreement import name_labels
from paretune.reporting.parts import Score, Value
from paretune.reporting.rows import CellRow
from paretune.reporting.table import (
    BASIS,
    RowValues,
    Table,
    column,
    file_column,
    name_row,
    write_basis,
    write_number,
    write_score,
)
from paretune.reporting.text.formatting import (
    format_bytes,
    format_point_difference,
    format_seconds,
    join_names,
)
from paretune.store.record import Record
from paretune.study import TaskSpec
from paretune.tasks import objective_of
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

REPORT_TABLES = "paretune.report_tables"
"""The group of entry points."""
_DIGITS = 3
MOST_CLASSES = 20
"""The most frequent classes of a task are shown, up to this number."""


@dataclass(frozen=True)
class ReportTable:
    """A further table of the report.

    Attributes:
        build: the table of a task; None where it has none for this task. Rows are all cells of the
            task, in the report's order, also those without scores; records all that ended of it.
    """

    name: str
    build: Callable[[TaskSpec, Sequence[CellRow], Sequence[Record]], Table | None]


def build_plugin_tables(
    task: TaskSpec, rows: Sequence[CellRow], records: Sequence[Record]
) -> Iterable[Table]:
    """Build the tables of all installed packages, ordered by name.

    One that cannot be loaded is a table without rows, with the error as its note.
    """
    tables, errors = plugins.load_all(REPORT_TABLES, ReportTable)
    for offered in tables.values():
        if (table := offered.build(task, rows, records)) is not None:
            yield table
    for name, error in errors.items():
        yield Table(name=name, title=name, notes=(str(error),))


def build_shifted_table(rows: Sequence[CellRow]) -> Table | None:
    """A line for each row with answers to the shifted part; None where the task has none."""
    scored = [(row, score) for row in rows if (score := score_shifted(row.cell)) is not None]
    if not scored:
        return None
    notes = [
        "Change: score on the shifted part minus score on the test part, by the same runs, in "
        "points; the two parts have different examples, whose variances add up."
    ]
    if any(score.change is None for _, score in scored):
        notes.append(
            "In cross-validation every run answers the whole shifted part, and each only a fold of "
            "the test: the score is a mean over the runs of all folds, whose training sets overlap."
        )
    return Table.collect(
        "shifted",
        "On the shifted test part",
        (
            {
                **name_row(row.report),
                column("score", "shifted [95 %]"): write_score(score.score),
                column("change", "change [95 %]"): None
                if score.change is None
                else Value(
                    value=Score.read(score.change), text=format_point_difference(score.change)
                ),
                BASIS: write_basis(score.score),
            }
            for row, score in scored
        ),
        above="Scores on test_shifted, data from elsewhere than the test part. Verdicts, ranks and "
        "recommendations are those of the test part alone.",
        notes=notes,
    )


def build_forgetting_table(rows: Sequence[CellRow]) -> Table | None:
    """A line for each row whose runs measured it; None where the study did not ask for it."""
    measured = [(row, lost) for row in rows if (lost := measure_forgetting(row.cell)) is not None]
    if not measured:
        return None
    tokens = sorted({lost.tokens for _, lost in measured})
    counts = " or ".join(f"{count:,}" for count in tokens)
    return Table.collect(
        "forgetting",
        "What training cost the language model",
        (
            {
                **name_row(row.report),
                column("change", "forgetting [95 %]"): write_score(lost.change, _DIGITS),
                column("before"): write_number(lost.before),
                column("after"): write_number(lost.after),
                column("basis", "blocks x seeds"): write_basis(lost.change),
                file_column("tokens"): lost.tokens,
            }
            for row, lost in measured
        ),
        above="Forgetting: mean loss of a token on the study's text after training, minus that of "
        "the model without the method, in nats; above 0 the model has become worse at it. It "
        "enters no verdict; among the costs, what is below 0 counts as 0.",
        notes=(
            f"{counts} tokens were scored in each run, those of every block but its first. "
            "Intervals: over runs, and blocks of the text; losses are comparable between methods "
            "on one model, whose tokens are the same.",
        ),
    )


def build_metric_table(task: TaskSpec, rows: Sequence[CellRow]) -> Table | None:
    """All scores of the cells of a task; None where it has the primary one alone."""
    scored = [row for row in rows if row.cell.shown_answers]
    objective, scored_by = objective_of(task), _list_metrics(task, rows)
    if not scored or len(scored_by) < 2:
        return None
    names = [metric.name for metric in scored_by]
    segment_metrics = metrics.segment_metrics()
    optional = [
        name
        for name in segment_metrics
        if any(name in seed.segment for row in scored for seed in row.cell.shown_answers)
    ]
    explained = ["Mean over seeds [95 %]."]
    if less := [metric.title for metric in scored_by if not metric.greater_is_better]:
        explained.append(f"Of {join_names(less)} less is better.")
    if {"exact_match", "token_f1"} & {*names}:
        explained.append("Exact match and token F1 compare words after SQuAD's normalisation.")
    return Table.collect(
        "translations" if objective.generates else "metrics",
        f"Every score of the {'translations' if objective.between_languages else 'texts'}"
        if objective.generates
        else "Every score",
        (
            {
                **name_row(row.report),
                **{
                    column(metric.name, metric.title): write_score(
                        confidence_interval(scores)
                        if (scores := row.cell.score_by(metric.name))
                        else None,
                        None if objective.generates or metric.highest <= 1 else _DIGITS,
                    )
                    for metric in scored_by
                },
                **{
                    column(name, segment_metrics[name].title): write_score(
                        segment_interval(row, name), _DIGITS
                    )
                    for name in optional
                },
                BASIS: write_basis(row.report.score),
            }
            for row in scored
        ),
        above=" ".join(explained),
        notes=_note_texts(scored, scored_by, optional) if objective.generates else (),
    )


def _list_metrics(task: TaskSpec, rows: Sequence[CellRow]) -> list[Metric]:
    """List the metrics that every record has, and the primary one."""
    primary = metrics.get(rows[0].cell.metric)
    names = dict.fromkeys((*objective_of(task).recorded_metrics, *primary.recorded_as))
    return [metrics.get(name) for name in names]


def build_class_table(task: TaskSpec, rows: Sequence[CellRow]) -> Table | None:
    """Build the table of scores by class; None where no metric is of classes."""
    metric = next((m for m in reversed(_list_metrics(task, rows)) if m.by_class), None)
    scored = [(row, _score_classes(row.cell, metric)) for row in rows] if metric else []
    counts: Counter[str] = Counter()
    for _, scores in scored:  # a fold that failed leaves rows out
        counts |= Counter({n: int(score.tables[0, :, 2].sum()) for n, score in scores.items()})
    frequent = dict(counts.most_common(MOST_CLASSES))
    if metric is None or not frequent:
        return None
    heads = {n: column(f"class {n}", f"{n} ({k:,})") for n, k in counts.items() if n in frequent}
    return Table.collect(
        "classes",
        "Scores by class",
        (
            {
                **name_row(row.report),
                **{
                    head: write_score(confidence_interval(scores[name])) if name in scores else None
                    for name, head in heads.items()
                },
                BASIS: write_basis(row.report.score),
            }
            for row, scores in scored
            if scores
        ),
        above=f"F1 of each as in {metric.title}, mean over seeds [95 %]; in brackets how many the "
        "test has.",
        notes=[f"{len(frequent)} of {len(counts)}, the most frequent."] * (frequent != counts),
    )


def _score_classes(cell: Cell, metric: Metric) -> dict[str, RunScores]:
    """Score each class that the test answers have, by name.

    A class that is always right, or never, is as uncertain as its rows are few.
    """
    scores = cell.score_by(metric.name)
    if scores is None or metric.by_class is None:
        return {}
    count = scores.tables.shape[-1] // 3
    answers = [run.prediction for run in cell.shown_answers]
    names = metric.by_class(scores.label, answers, name_labels(cell, count - 1))
    of_classes: dict[str, RunScores] = {}
    for place, name in enumerate(names[:count]):
        tables = scores.tables[..., place::count]
        having = tables[:, tables[0, :, 2] > 0]
        if having.size:
            credits = having[..., 0] / having[..., 2]
            of_classes[sanitise_line(name)] = replace(scores, tables=tables, credits=credits)
    return of_classes


def segment_interval(row: CellRow, name: str) -> Interval | None:
    """The mean of stored scores by segment, with its interval; None unless all runs have them."""
    answers = row.cell.shown_answers
    if any(name not in seed.segment for seed in answers):
        return None
    score = score_segments(answers, name)
    return confidence_interval(replace(score, design=row.cell.design))


def _note_texts(
    rows: Sequence[CellRow], scored_by: Sequence[Metric], optional: Sequence[str]
) -> Iterable[str]:
    current = metrics.signatures([metric.name for metric in scored_by])
    listed = "; ".join(
        f"{SACREBLEU_NAMES[name]} {text}"
        for name, text in current.items()
        if name in SACREBLEU_NAMES
    )
    yield f"sacreBLEU's signatures: {listed}."
    for name, signature in current.items():
        if name not in SACREBLEU_NAMES:
            yield f"{metrics.get(name).title}: {signature}."
    records = [record for row in rows for record in row.cell.final]
    stored = {
        sanitise_line(signature)
        for record in records
        for name, signature in record.result.get("signatures", {}).items()
        if signature != current.get(name)
    }
    if stored:
        yield (
            f"Some runs were scored otherwise when they ran ({'; '.join(sorted(stored))}); "
            "the numbers here are computed anew from their texts."
        )
    absent = [m.title for m in metrics.segment_metrics().values() if m.name not in optional]
    if absent and not any(row.cell.judged for row in rows):
        yield (
            f"{join_names(absent)}: not computed, since generation.metrics of the study does "
            "not ask for it."
        )
    if "bertscore" in optional:
        models = {
            sanitise_line(record.run.generation.bertscore_model)
            for record in records
            if record.run.generation and record.run.generation.bertscore_model
        }
        names = join_names(sorted(models)) or "a model that no record names"
        yield f"BERTScore (F1) by {names}."


def build_prediction_table(
    rows: Sequence[CellRow], backtests: Mapping[tuple[str, CellKey], Backtest]
) -> Table | None:
    """Build the table of what ``plan`` would predict from the other methods; None without one.

    Args:
        backtests: by task and cell: each method predicted from the runs of the other methods on
            the same model and device, in all tasks of the study.
    """
    keyed = [(row, (row.cell.task, row.cell.key)) for row in rows]
    pairs = [(row, backtests[key]) for row, key in keyed if key in backtests]
    if not pairs:
        return None
    notes = []
    for quantity, by_method in (
        ("Peak memory", [backtest.peaks for _, backtest in pairs]),
        ("Run time", [backtest.seconds for _, backtest in pairs]),
    ):
        if compared := [pair for of_method in by_method for pair in of_method]:
            ratios = format_ratios(compared)
            notes.append(f"{quantity}, predicted to measured over all methods: {ratios}.")
    return Table.collect(
        "predictions",
        "Predicted and measured",
        (
            {
                **name_row(row.report),
                **_compare_predictions("peak", "peak", backtest.peaks, format_bytes),
                **_compare_predictions("seconds", "run time", backtest.seconds, format_seconds),
            }
            for row, backtest in pairs
        ),
        above="Each method predicted as if it had never run here: from first principles "
        "(operations, bytes), fitted to the runs of the other methods on the same model and "
        "device. A ratio over 1: predicted too much. Seconds are for the steps that were made, "
        "since early stopping is not foreseen.",
        notes=notes,
    )


def _compare_predictions(
    name: str, title: str, pairs: Sequence[tuple[float, float]], format_: Callable[[float], str]
) -> RowValues:
    """Take the medians of predicted and measured costs and of their ratios."""
    values: tuple[Value | None, ...] = (None, None, None)
    if pairs:
        medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
        ratio = statistics.median(predicted / measured for predicted, measured in pairs)
        values = (
            *(Value(value=median, text=format_(median)) for median in medians),
            Value(value=ratio, text=format_ratios(pairs)),
        )
    columns = (
        column(f"{name}_predicted", f"{title}: predicted"),
        column(f"{name}_measured", "measured"),
        column(f"{name}_ratio", "ratio"),
    )
    return dict(zip(columns, values, strict=True))


def format_ratios(pairs: Sequence[tuple[float, float]]) -> str:
    """``1.03 (0.97 to 1.10, 3 runs)``: median and range of predicted to measured."""
    ratios = sorted(predicted / measured for predicted, measured in pairs)
    median, runs = f"{statistics.median(ratios):.2f}", pluralise(len(ratios), "run")
    if len(ratios) == 1:
        return f"{median} ({runs})"
    return f"{median} ({ratios[0]:.2f} to {ratios[-1]:.2f}, {runs})"
