"""``export slobench``: from a finished study to the files that SloBench takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.data.finding import Finding
from paretune.errors import StoreError, StudyError
from paretune.study import Study, TaskSpec

if TYPE_CHECKING:
    from paretune.analysis.cells import Cell
    from paretune.analysis.selected import Selected
    from paretune.export.submission_card import Part
    from paretune.planning.context import Context
    from paretune.store import Store


@dataclass(frozen=True)
class Submitted:
    """``folder`` holds the zips and their README (``said``); ``parts``: one for each task."""

    folder: Path
    parts: tuple[Part, ...]
    warnings: tuple[Finding, ...]
    said: str


def export_slobench(
    study: Study | Path | str,
    *,
    to: Path | str | None = None,
    store: Path | str | None = None,
    release: Path | None = None,
    source: Path | None = None,
    task: str | None = None,
    train_again: bool = False,
    online: bool = False,
    tell: Callable[[str], None] = lambda said: None,
) -> Submitted:
    """Answer SloBench's test rows with the best run of each task, and check what was written.

    Args:
        study: a study, its file, or the name of a shipped one; with all six tasks of SuperGLUE, or
            a translation.
        to: the folder to make; ``exports/STUDY/slobench`` by default.
        store: folder of the results; ``studies/NAME`` by default.
        release: SuperGLUE's ``qa_test.zip`` or a folder with it; by default the one that the
            study's tasks were read from.
        source: of a translation, SloBench's file to translate, a sentence a line.
        task: the translation that it belongs to, where there are several.
        train_again: where weights were not kept, train those runs once more.
        online: models may be fetched from the hub.
        tell: told in a sentence what is being done, since it may take minutes.

    Raises:
        StudyError: a task of the six is missing, or the folder is there already.
        StoreError: a task has no ended final run, or its weights were not kept.
        DataError: what is to be answered cannot be read, or is not that of the study.
    """
    from paretune.verbs import places

    given = places.asked(study)  # before torch is imported
    from paretune.analysis.cells import group
    from paretune.export import (
        kept,
        submission_card,
        superglue_answers,
        superglue_submission,
        translation_submission,
        whole,
    )
    from paretune.export.submission import opened
    from paretune.planning.context import Context
    from paretune.store import Store
    from paretune.verbs.report import gather
    from paretune.verbs.slobench import release_at

    six = superglue_answers.asked(given)
    pairs = _translations(given, source, task)
    if six or not pairs:
        superglue_answers.refuse_missing(given, six)
    elif release is not None:
        raise StudyError(
            "has no task of SuperGLUE, to which --release belongs.",
            where=f"study {given.study}",
            remedy="Leave it out; --source is the file to translate.",
        )
    target = Path(to) if to is not None else Path("exports", given.study, "slobench")
    whole.free(target)
    found = gather(given, store)
    specs = {**six, **{spec.key: [spec] for spec in pairs}}
    chosen = _chosen(specs, group(given, found.records), given)
    if not train_again:
        with Store.open(found.folder) as stored:
            kept.refuse_lost([by.record for by in chosen.values() if not by.baseline], stored)
    context = Context(offline=not online)
    # All that can be refused is, before anything is computed.
    releases = []
    if six:
        releases.append(release_at(release or superglue_answers.source_of(six)))
    rows = [superglue_submission.asked(n, chosen[n], releases[0], context) for n in six]
    if source is not None:
        releases.append(opened(source))
    texts = [translation_submission.asked(s.key, chosen[s.key], releases[-1]) for s in pairs]
    for by in chosen.values():
        _refuse_changed(by, context)
    parts, answers, lines = [], {}, {}
    with Store.open(found.folder) as stored:
        for one in rows:
            tell(_begun(one.name, len(one.rows), one.by))
            weights = _weights(one.by, stored, train_again, tell)
            answers[one.name], part = superglue_submission.answer(one, context, weights)
            parts.append(part)
        for each in texts:
            tell(_begun(each.name, len(each.sources), each.by))
            weights = _weights(each.by, stored, train_again, tell)
            lines[each.file], part = translation_submission.translate(each, context, weights)
            parts.append(part)
    warnings: list[Finding] = []
    with whole.whole(target) as folder:
        if answers:
            warnings += superglue_submission.write(folder, answers, releases[0])
        for name, translated in lines.items():
            warnings += translation_submission.write(folder / name, translated, releases[-1])
        said = submission_card.card(given, parts, releases)
        (folder / "README.md").write_text(said, encoding="utf-8")
    return Submitted(target, tuple(parts), tuple(warnings), said)


def _translations(study: Study, source: Path | None, task: str | None) -> list[TaskSpec]:
    """The translation that is asked for, if the study has one: SloBench's source has no name."""
    found = [spec for spec in study.tasks if spec.translates and task in (None, spec.key)]
    where = f"study {study.study}"
    every = ", ".join(spec.key for spec in study.tasks if spec.translates)
    if not found and (task is not None or source is not None):
        raise StudyError(
            f'has no translation "{task}".' if task else "has no translation.",
            where=where,
            remedy=f"It has {every}." if every else "--source and --task belong to one.",
        )
    if found and source is None:
        raise StudyError(
            f"is a translation ({every}), and what SloBench wants translated is not public.",
            where=where,
            remedy="Name the file that you have from it: --source FILE, a sentence a line.",
        )
    if len(found) > 1:
        raise StudyError("has several translations.", where=where, remedy=f"Say --task: {every}.")
    return found


def _chosen(
    specs: Mapping[str, Sequence[TaskSpec]], cells: Sequence[Cell], study: Study
) -> dict[str, Selected]:
    """The best run of each task."""
    from paretune.analysis.selected import selected

    found, waiting = {}, []
    for name, variants in specs.items():
        written = {spec.key: spec for spec in variants}
        by = selected([cell for cell in cells if cell.task in written])
        if by is None:
            waiting.append(" or ".join(written))
            continue
        found[name] = by
    if waiting:
        raise StoreError(
            f"no final run has ended with scores on {', '.join(waiting)}.",
            where=f"study {study.study}",
            remedy="Run the study first; `paretune report` shows what there is.",
        )
    return found


def _refuse_changed(by: Selected, context: Context) -> None:
    """A run is known by its data, its model's files and its method's code: they are the same."""
    if context.identify(by.record.run) != by.record.run_id:
        raise StoreError(
            "its data, its model's files or the method's code are not those it was trained with.",
            where=" x ".join(by.record.run.cell),
            remedy="Run the study again: what is unchanged stays.",
        )


def _weights(
    by: Selected, stored: Store, train_again: bool, tell: Callable[[str], None]
) -> bytes | None:
    from paretune.export import kept

    if by.baseline:
        return None
    return kept.weights(by.record, stored, train_again=train_again, tell=tell)


def _begun(name: str, rows: int, by: Selected) -> str:
    return f"{name}: {rows:,} rows by {' x '.join(by.record.run.cell)}"
