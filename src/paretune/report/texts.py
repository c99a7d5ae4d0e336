"""What a translation shows beside its primary score: two further tables, each with its notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from paretune.analysis import slobench
from paretune.analysis.interval import interval_of, scored, scored_segments
from paretune.metrics.slobench import Translation
from paretune.metrics.translation import signatures
from paretune.metrics.words import LANGUAGES
from paretune.report import words
from paretune.study import TaskSpec

if TYPE_CHECKING:
    from paretune.report.build import Row

TITLED = {"bleu": "BLEU", "chrf": "chrF2", "ter": "TER"}
BESIDE = {"meteor": "METEOR", "bertscore": "BERTScore"}
"""What is scored segment by segment, where a study asks for it."""
EVALUATED_BY = {"en": "roberta-large", "sl": "bert-base-multilingual-cased"}
"""The models with which SloBench computes BERTScore."""


@dataclass(frozen=True)
class Grid:
    """A table of one task: a row for each cell that has translations, and what is said below."""

    title: str
    above: str
    titles: tuple[str, ...]
    rows: tuple[tuple[Row, tuple[str, ...]], ...]
    notes: tuple[str, ...]


def grids(task: TaskSpec, rows: Sequence[Row]) -> tuple[Grid, ...]:
    """The further tables of a translation; none while nothing is translated.

    Args:
        task: what was translated.
        rows: its cells, as they are shown.
    """
    there = [row for row in rows if row.cell.answers]
    if not task.translates or not there:
        return ()
    return _scores(there), _slobench(there, str(task.target_lang))


def _scores(rows: Sequence[Row]) -> Grid:
    """Every score with its interval, computed from the texts."""
    beside = [
        name for name in BESIDE if any(name in one.segment for r in rows for one in r.cell.answers)
    ]
    table = []
    for row in rows:
        given = row.cell.answers
        shown = [
            words.interval(interval_of(scored(given, name))) for name in ("bleu", "chrf", "ter")
        ]
        for name in beside:
            every = all(name in one.segment for one in given)
            found = interval_of(scored_segments(given, name)) if every else None
            shown.append(words.interval(found, digits=3) if found else "–")
        table.append((row, tuple(shown)))
    return Grid(
        title="Every score of the translations",
        above="Mean over seeds [95 %]. TER counts edits: less is better.",
        titles=("BLEU", "chrF", "TER", *(BESIDE[name] for name in beside)),
        rows=tuple(table),
        notes=tuple(_score_notes(rows, beside)),
    )


def _score_notes(rows: Sequence[Row], beside: Sequence[str]) -> Iterable[str]:
    ours = signatures()
    yield "sacreBLEU's signatures: " + "; ".join(f"{TITLED[k]} {v}" for k, v in ours.items()) + "."
    theirs = {
        words.plain(version)
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
    if absent := [BESIDE[name] for name in BESIDE if name not in beside]:
        yield (
            f"{words.listed(absent)}: not computed, since generation.metrics of the study does "
            "not ask for it."
        )
    if "bertscore" in beside:
        models = {
            words.plain(record.run.generation.bertscore_model)
            for row in rows
            for record in row.cell.final
            if record.run.generation and record.run.generation.bertscore_model
        }
        yield f"BERTScore (F1) by {words.listed(sorted(models))}."


def _slobench(rows: Sequence[Row], language: str) -> Grid:
    """As the paper's Table 1: one row for each method, in SloBench's own definitions."""
    title = "SloBench's own numbers"
    if language not in LANGUAGES:
        why = f"Not computed: SloBench translates into {words.listed([*LANGUAGES], 'or')} only."
        return Grid(title, "", (), (), (why,))
    found = [(row, _numbers(row, language)) for row in rows]
    missing = {name: why for _, one in found for name, why in one.missing.items()}
    names = [name for name in slobench.NAMES if any(name in one.scores for _, one in found)]
    asked = [_bertscore(row, language) for row in rows]
    if any(asked):
        names.insert(0, "BERTScore")
    table = []
    for (row, one), bert in zip(found, asked, strict=True):
        scores = {**one.scores, **({} if bert is None else {"BERTScore": bert})}
        shown = (words.number(scores[n]) if n in scores else "–" for n in names)
        table.append((row, tuple(shown)))
    reasons: dict[str, list[str]] = {}
    for name, why in missing.items():
        reasons.setdefault(words.plain(why), []).append(name)
    notes = [f"Not computed: {words.listed(of)}. {_sentence(why)}" for why, of in reasons.items()]
    if not any(asked):
        notes.append(
            f"BERTScore as SloBench has it: generation with metrics: [bertscore] and "
            f"bertscore_model: {EVALUATED_BY[language]}."
        )
    if said := dict.fromkeys(data for _, one in found for data in one.data):
        notes.append(f"Computed from {words.listed(list(said))}.")
    return Grid(
        title=title,
        above="As the paper's Table 1 has them, 0 to 1, mean over seeds; NLTK 3.6.6's definitions, "
        "not sacreBLEU's. Its corpus chrF is the mean over sentences.",
        titles=tuple(names),
        rows=tuple(table) if names else (),
        notes=tuple(notes),
    )


def _numbers(row: Row, language: str) -> Translation:
    """Of METEOR, what a run computed itself is as good: it is the same."""
    found, name = slobench.numbers(row.cell.answers, language), "METEOR (avg)"
    if name not in found.missing or any("meteor" not in a.segment for a in row.cell.answers):
        return found
    mean = scored_segments(row.cell.answers, "meteor").estimate
    missing = {key: why for key, why in found.missing.items() if key != name}
    return replace(found, scores={**found.scores, name: mean}, missing=missing)


def _bertscore(row: Row, language: str) -> float | None:
    """The mean over seeds and segments, where the model is SloBench's."""
    given = row.cell.answers
    for record in row.cell.final:
        generation = record.run.generation
        model = generation.bertscore_model if generation else None
        # FacebookAI/roberta-large is roberta-large: the hub renamed it.
        if model is None or model.rstrip("/").split("/")[-1] != EVALUATED_BY[language]:
            return None
    if not all("bertscore" in one.segment for one in given):
        return None
    return scored_segments(given, "bertscore").estimate


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
