"""The report's table of SloBench's official scores, one row per method, as the paper's Table 1.

It also says where a submission takes another configuration than the report recommends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.methods.core.titles import title_of
from paretune.reporting.measures import ReportTable, segment_interval
from paretune.reporting.rows import CellRow
from paretune.reporting.table import (
    BASIS,
    Table,
    column,
    name_row,
    write_basis,
    write_score,
)
from paretune.reporting.text.formatting import format_interval, join_names
from paretune.store.record import Record
from paretune.study import TaskSpec
from paretune.tasks import objective_of
from paretune.terminal.sanitise import sanitise_line
from paretune_slovene.metrics.nltk_words import LANGUAGES
from paretune_slovene.slobench.official_scores import (
    TRANSLATION_SCORES,
    TranslationScores,
    score_translations,
)
from paretune_slovene.slobench.run_selection import SelectedRun, select_run
from paretune_slovene.slobench.superglue_submission import is_superglue_task

TITLES = {"CHRF (avg)": "CHRF (avg = corpus)"}
"""SloBench's corpus chrF is the mean over sentences: it shows one score under two names."""
BERTSCORE_MODELS = {"en": "roberta-large", "sl": "bert-base-multilingual-cased"}
"""The models with which SloBench computes BERTScore."""


def build_slobench_table(
    task: TaskSpec, rows: Sequence[CellRow], records: Sequence[Record]
) -> Table | None:
    """Official scores of a translation's cells, and other needs of a submission, if any."""
    recommended = next((row.cell for row in rows if "*" in row.report.signs), None)
    selected = select_run([row.cell for row in rows])
    difference = []
    if selected and recommended and recommended.key != selected.cell.key:
        difference.append(explain_difference(selected, recommended))
    if is_superglue_task(task) and difference:
        return Table(name="slobench", title="What SloBench gets", notes=tuple(difference))
    scored = [row for row in rows if row.cell.shown_answers]
    if not objective_of(task).between_languages or not scored:
        return None
    title, language = "SloBench's own numbers", str(task.target_lang)
    if language not in LANGUAGES:
        reason = f"Not computed: SloBench translates into {join_names([*LANGUAGES], 'or')} only."
        return Table(name="slobench", title=title, notes=(reason,))
    cells = [_score_row(row, language) for row in scored]
    names = [
        name
        for name in ("BERTScore", *TRANSLATION_SCORES)
        if any(name in cell.intervals for cell in cells)
    ]
    read = {column(name, TITLES.get(name, name)): name for name in names}
    return Table.collect(
        "slobench",
        title,
        (
            {
                **name_row(row.report),
                **{c: write_score(cell.intervals.get(name), 3) for c, name in read.items()},
                BASIS: write_basis(row.report.score),
            }
            for row, cell in zip(scored, cells, strict=True)
            if names
        ),
        above="Mean over seeds [95 %], from 0 to 1, as the paper's Table 1 has them: by the "
        "definitions of NLTK 3.6.6, not sacreBLEU's.",
        notes=[*_list_notes(cells, names, language), *difference],
    )


def explain_difference(selected: SelectedRun, recommended: Cell | None) -> str:
    """Say why a submission is answered by another configuration than is recommended."""

    def name(cell: Cell) -> str:
        on_model = recommended is not None and selected.cell.model != recommended.model
        several = on_model and cell.model != NO_MODEL
        return f"{title_of(cell.method)} on {cell.model}" if several else title_of(cell.method)

    both = f"`export slobench` takes {name(selected.cell)}, and the report recommends"
    if recommended is None:
        return sanitise_line(f"{both} nothing: something has to answer.")
    if recommended.model == NO_MODEL:
        reason = "a model answers wherever one has ended a run"
    else:
        rival = select_run([recommended])
        means = [side and side.interval for side in (selected, rival)]
        texts = [format_interval(mean) for mean in means if mean]
        numbers = f" ({' against '.join(texts)})" if len(texts) == 2 else ""
        reason = (
            f"a submission goes by the mean score on the selection part alone{numbers}, the report "
            "by expected test scores and costs"
        )
    return sanitise_line(f"{both} {name(recommended)}: {reason}.")


TABLE = ReportTable("slobench", build_slobench_table)


def _list_notes(
    cells: Sequence[TranslationScores], names: Sequence[str], language: str
) -> list[str]:
    reasons: dict[str, list[str]] = {}
    missing = {name: reason for cell in cells for name, reason in cell.missing.items()}
    for name, reason in missing.items():
        reasons.setdefault(sanitise_line(reason), []).append(TITLES.get(name, name))
    notes = [
        f"Not computed: {join_names(names)}. {reason[:1].upper()}{reason[1:]}"
        for reason, names in reasons.items()
    ]
    if "BERTScore" not in names:
        notes.append(
            f"BERTScore as SloBench has it: generation with metrics: [bertscore] and "
            f"bertscore_model: {BERTSCORE_MODELS[language]}."
        )
    if sources := dict.fromkeys(source for cell in cells for source in cell.data):
        notes.append(f"Computed from {join_names(list(sources))}.")
    return notes


def _score_row(row: CellRow, language: str) -> TranslationScores:
    """Official scores, with BERTScore if SloBench's model computed it.

    METEOR of the runs is SloBench's, so it stands in where METEOR cannot be computed here.
    """
    scores = score_translations(row.cell.shown_answers, language)
    metrics = {"METEOR (avg)": "meteor"} if "METEOR (avg)" in scores.missing else {}
    if _has_slobench_model(row, language):
        metrics["BERTScore"] = "bertscore"
    stored = {name: i for name, key in metrics.items() if (i := segment_interval(row, key))}
    missing = {name: reason for name, reason in scores.missing.items() if name not in stored}
    return replace(scores, intervals={**scores.intervals, **stored}, missing=missing)


def _has_slobench_model(row: CellRow, language: str) -> bool:
    """Whether every run's BERTScore is computed by SloBench's model."""
    models = {
        record.run.generation.bertscore_model if record.run.generation else None
        for record in row.cell.final
    }
    # FacebookAI/roberta-large is roberta-large: the hub renamed it.
    names = {model.rstrip("/").split("/")[-1] if model else None for model in models}
    return names == {BERTSCORE_MODELS[language]}
