"""What a translation shows beside its primary score: two further tables, each with its notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from paretune import metrics
from paretune.analysis.statistics.score_interval import (
    Interval,
    bootstrap_score,
    bootstrap_segment_scores,
    confidence_interval,
)
from paretune.contrib.slobench import cell_intervals
from paretune.metrics.nltk_words import LANGUAGES
from paretune.metrics.translation import METRICS, SACREBLEU_NAMES
from paretune.reporting.rows import Grid, Row
from paretune.reporting.text.formatting import (
    format_examples,
    format_interval,
    format_units,
    join_names,
    pluralise,
)
from paretune.study import TaskSpec
from paretune.tasks import objective_of
from paretune.terminal.sanitise import sanitise_line

OPTIONAL_METRICS = {"meteor": "METEOR", "bertscore": "BERTScore"}
"""What is scored segment by segment, where a study asks for it."""
SLOBENCH = {"CHRF (avg)": "CHRF (avg = corpus)"}
"""SloBench's corpus chrF is the mean over sentences: it shows one number under two names."""
BERTSCORE_MODELS = {"en": "roberta-large", "sl": "bert-base-multilingual-cased"}
"""The models with which SloBench computes BERTScore."""


def build_translation_grids(task: TaskSpec, rows: Sequence[Row]) -> tuple[Grid, ...]:
    """The further tables of a translation; none while nothing is translated.

    Args:
        task: what was translated.
        rows: its cells, as they are shown.
    """
    there = [row for row in rows if row.cell.answers]
    if not objective_of(task).generates or not there:
        return ()
    return _scores(there), _slobench(there, str(task.target_lang))


def _scores(rows: Sequence[Row]) -> Grid:
    """Every score with its interval, computed from the texts."""
    beside = [
        name
        for name in OPTIONAL_METRICS
        if any(name in one.segment for r in rows for one in r.cell.answers)
    ]
    table, numbers = [], []
    for row in rows:
        whole = [
            confidence_interval(bootstrap_score(row.cell.answers, name)) for name in SACREBLEU_NAMES
        ]
        means = [_beside(row, name) for name in beside]
        shown = [*map(format_interval, whole), *map(_of_segments, means)]
        table.append((row, tuple(shown)))
        numbers.append((*whole, *means))
    return Grid(
        title="Every score of the translations",
        above=f"{_basis(rows)} TER counts edits: less is better.",
        titles=(
            *(metric.title for metric in METRICS),
            *(OPTIONAL_METRICS[name] for name in beside),
        ),
        rows=tuple(table),
        notes=tuple(_score_notes(rows, beside)),
        intervals=tuple(numbers),
    )


def _score_notes(rows: Sequence[Row], beside: Sequence[str]) -> Iterable[str]:
    ours = metrics.signatures(SACREBLEU_NAMES)
    yield (
        "sacreBLEU's signatures: "
        + "; ".join(f"{SACREBLEU_NAMES[k]} {v}" for k, v in ours.items())
        + "."
    )
    theirs = {
        sanitise_line(version)
        for row in rows
        for record in row.cell.final
        for name, version in record.result.get("signatures", {}).items()
        if version != ours.get(name)
    }
    if theirs:
        yield (
            f"Some runs were scored otherwise when they ran ({'; '.join(sorted(theirs))}); "
            "the numbers here are computed anew from their texts."
        )
    if absent := [OPTIONAL_METRICS[name] for name in OPTIONAL_METRICS if name not in beside]:
        yield (
            f"{join_names(absent)}: not computed, since generation.metrics of the study does "
            "not ask for it."
        )
    if "bertscore" in beside:
        models = {
            sanitise_line(record.run.generation.bertscore_model)
            for row in rows
            for record in row.cell.final
            if record.run.generation and record.run.generation.bertscore_model
        }
        yield f"BERTScore (F1) by {join_names(sorted(models))}."


def _slobench(rows: Sequence[Row], language: str) -> Grid:
    """As the paper's Table 1: one row for each method, in SloBench's own definitions."""
    title = "SloBench's own numbers"
    if language not in LANGUAGES:
        why = f"Not computed: SloBench translates into {join_names([*LANGUAGES], 'or')} only."
        return Grid(title, "", (), (), (why,))
    found = [(row, _numbers(row, language)) for row in rows]
    names = [
        name
        for name in ("BERTScore", *cell_intervals.NAMES)
        if any(name in one.intervals for _, one in found)
    ]
    numbers = [tuple(one.intervals.get(name) for name in names) for _, one in found]
    table = [
        (row, tuple(map(_of_segments, one))) for (row, _), one in zip(found, numbers, strict=True)
    ]
    reasons: dict[str, list[str]] = {}
    for name, why in {n: why for _, one in found for n, why in one.missing.items()}.items():
        reasons.setdefault(sanitise_line(why), []).append(SLOBENCH.get(name, name))
    notes = [f"Not computed: {join_names(of)}. {_sentence(why)}" for why, of in reasons.items()]
    if "BERTScore" not in names:
        notes.append(
            f"BERTScore as SloBench has it: generation with metrics: [bertscore] and "
            f"bertscore_model: {BERTSCORE_MODELS[language]}."
        )
    if said := dict.fromkeys(data for _, one in found for data in one.data):
        notes.append(f"Computed from {join_names(list(said))}.")
    return Grid(
        title=title,
        above=f"{_basis(rows)} From 0 to 1, as the paper's Table 1 has them: by the definitions of "
        "NLTK 3.6.6, not sacreBLEU's.",
        titles=tuple(SLOBENCH.get(name, name) for name in names),
        rows=tuple(table) if names else (),
        notes=tuple(notes),
        intervals=tuple(numbers) if names else (),
    )


def _numbers(row: Row, language: str) -> cell_intervals.CellScores:
    """With BERTScore where the model was SloBench's, and METEOR wherever the runs computed it.

    A run's METEOR is SloBench's, so where it cannot be computed here, theirs is shown.
    """
    found, name = cell_intervals.score_cell(row.cell.answers, language), "METEOR (avg)"
    beside = {"BERTScore": _beside(row, "bertscore") if _by_its_model(row, language) else None}
    if name in found.missing:
        beside[name] = _beside(row, "meteor")
    theirs = {name: interval for name, interval in beside.items() if interval}
    missing = {name: why for name, why in found.missing.items() if name not in theirs}
    return replace(found, intervals={**found.intervals, **theirs}, missing=missing)


def _by_its_model(row: Row, language: str) -> bool:
    """Whether every run's BERTScore is by the model that SloBench has it from."""
    asked = [r.run.generation.bertscore_model if r.run.generation else None for r in row.cell.final]
    # FacebookAI/roberta-large is roberta-large: the hub renamed it.
    named = {model.rstrip("/").split("/")[-1] if model else None for model in asked}
    return named == {BERTSCORE_MODELS[language]}


def _beside(row: Row, name: str) -> Interval | None:
    """What the runs scored segment by segment, where all of them did."""
    given = row.cell.answers
    if any(name not in one.segment for one in given):
        return None
    return confidence_interval(bootstrap_segment_scores(given, name))


def _of_segments(found: Interval | None) -> str:
    return format_interval(found, digits=3) if found else "–"


def _basis(rows: Sequence[Row]) -> str:
    """How many examples and seeds every number of a table stands on; what differs is named."""
    groups: dict[str, list[Row]] = {}
    shown: dict[str, Interval] = {}
    for row in rows:
        if found := row.interval:
            key = f"{format_units(found)} x {found.n_seeds}"
            groups.setdefault(key, []).append(row)
            shown[key] = found
    usual = max(groups, key=lambda key: len(groups[key]))
    examples = format_examples(shown[usual], "test ")
    others = [
        f"; {join_names(_called(of, rows))} on {key}" for key, of in groups.items() if key != usual
    ]
    seeds = pluralise(shown[usual].n_seeds, "seed")
    return f"Mean over seeds [95 %], on {examples} x {seeds}{''.join(others)}."


def _called(some: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """Methods, where these rows are all of the method's; else the rows one by one."""
    titles = {row.title for row in some}
    partly = {row.method for row in rows if row.title not in titles}
    return list(dict.fromkeys(r.title if r.method in partly else r.method for r in some))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
