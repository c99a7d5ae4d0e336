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
    from paretune.analysis.run_selection import SelectedRun
    from paretune.contrib.slobench.submission_card import SubmittedTask
    from paretune.planning.context import StudyContext
    from paretune.store import Store


@dataclass(frozen=True)
class Submitted:
    """``folder`` holds the zips and their README (``said``); ``parts``: one for each task."""

    folder: Path
    parts: tuple[SubmittedTask, ...]
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
    from paretune.verbs import study_input

    given = study_input.resolve_study(study)  # before torch is imported
    from paretune.analysis.cells import group_into_cells
    from paretune.contrib.slobench import (
        submission_card,
        superglue_rows,
        superglue_submission,
        translation_submission,
    )
    from paretune.contrib.slobench.evaluate import open_release
    from paretune.contrib.slobench.submission import open_submission
    from paretune.exporting import atomic_folder, weights
    from paretune.planning.context import StudyContext
    from paretune.store import Store
    from paretune.verbs.report import load_results

    six = superglue_rows.find_superglue_tasks(given)
    pairs = _select_translation(given, source, task)
    if six or not pairs:
        superglue_rows.check_all_tasks(given, six)
    elif release is not None:
        raise StudyError(
            "has no task of SuperGLUE, to which --release belongs.",
            where=f"study {given.study}",
            remedy="Leave it out; --source is the file to translate.",
        )
    target = Path(to) if to is not None else Path("exports", given.study, "slobench")
    atomic_folder.check_target(target)
    found = load_results(given, store)
    specs = {**six, **{spec.key: [spec] for spec in pairs}}
    chosen = _select_runs(specs, group_into_cells(given, found.records), given)
    if not train_again:
        with Store.open(found.folder) as stored:
            weights.check_weights_kept(
                [by.record for by in chosen.values() if not by.baseline], stored
            )
    context = StudyContext(offline=not online)
    # All that can be refused is, before anything is computed.
    releases = []
    if six:
        releases.append(open_release(release or superglue_rows.common_source(six)))
    rows = [superglue_submission.prepare_superglue(n, chosen[n], releases[0], context) for n in six]
    if source is not None:
        releases.append(open_submission(source))
    texts = [
        translation_submission.prepare_translation(s.key, chosen[s.key], releases[-1])
        for s in pairs
    ]
    for by in chosen.values():
        _refuse_changed(by, context)
    parts, answers, lines = [], {}, {}
    with Store.open(found.folder) as stored:
        for one in rows:
            tell(_describe_start(one.name, len(one.rows), one.by))
            saved = _weights(one.by, stored, train_again, tell)
            answers[one.name], part = superglue_submission.answer_superglue(one, context, saved)
            parts.append(part)
        for each in texts:
            tell(_describe_start(each.name, len(each.sources), each.by))
            saved = _weights(each.by, stored, train_again, tell)
            lines[each.file], part = translation_submission.answer_translation(each, context, saved)
            parts.append(part)
    warnings: list[Finding] = []
    with atomic_folder.atomic_folder(target) as folder:
        if answers:
            warnings += superglue_submission.write_superglue(folder, answers, releases[0])
        for name, translated in lines.items():
            warnings += translation_submission.write_translation(
                folder / name, translated, releases[-1]
            )
        said = submission_card.render_submission_card(given, parts, releases)
        (folder / "README.md").write_text(said, encoding="utf-8")
    return Submitted(target, tuple(parts), tuple(warnings), said)


def _select_translation(study: Study, source: Path | None, task: str | None) -> list[TaskSpec]:
    """The translation that is asked for, if the study has one: SloBench's source has no name."""
    found = [spec for spec in study.tasks if spec.is_translation and task in (None, spec.key)]
    where = f"study {study.study}"
    every = ", ".join(spec.key for spec in study.tasks if spec.is_translation)
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


def _select_runs(
    specs: Mapping[str, Sequence[TaskSpec]], cells: Sequence[Cell], study: Study
) -> dict[str, SelectedRun]:
    """The best run of each task."""
    from paretune.analysis.run_selection import select_run

    found, waiting = {}, []
    for name, variants in specs.items():
        written = {spec.key: spec for spec in variants}
        by = select_run([cell for cell in cells if cell.task in written])
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


def _refuse_changed(by: SelectedRun, context: StudyContext) -> None:
    """A run is known by its data, its model's files and its method's code: they are the same."""
    if context.identify(by.record.run) != by.record.run_id:
        raise StoreError(
            "its data, its model's files or the method's code are not those it was trained with.",
            where=" x ".join(by.record.run.cell),
            remedy="Run the study again: what is unchanged stays.",
        )


def _weights(
    by: SelectedRun, stored: Store, train_again: bool, tell: Callable[[str], None]
) -> bytes | None:
    from paretune.exporting import weights

    if by.baseline:
        return None
    return weights.load_or_retrain(by.record, stored, train_again=train_again, tell=tell)


def _describe_start(name: str, rows: int, by: SelectedRun) -> str:
    return f"{name}: {rows:,} rows by {' x '.join(by.record.run.cell)}"
