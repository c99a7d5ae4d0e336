"""``export slobench``: from a finished study to the files that SloBench takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.data.finding import MAX_SHOWN, Finding
from paretune.errors import StoreError, StudyError
from paretune.study import Study, TaskSpec
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs.options import Folder, Name, Online, StoreFolder, StudyLike, TrainAgain
from paretune.verbs.result import Result, Tell, tell_nothing, to_json_value

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.analysis.cell import Cell
    from paretune.analysis.run_selection import SelectedRun
    from paretune_slovene.slobench.submission_card import SubmittedTask


@dataclass(frozen=True, repr=False)
class SubmissionResult(Result):
    """A submission that was written and read back.

    Attributes:
        warnings: faults with which SloBench still accepts it.
    """

    folder: Path
    parts: tuple[SubmittedTask, ...]
    warnings: tuple[Finding, ...]
    readme: str

    def describe(self) -> Iterable[RenderableType]:
        """Which run answered what, what to know, and which file is ready."""
        for part in self.parts:
            run = part.by.record.run
            yield sanitise_line(f"{part.name}: seed {run.seed}, selection score {part.quality}.")
            yield from (f"  {sanitise_line(note)}" for note in part.notes[:MAX_SHOWN])
            if len(part.notes) > MAX_SHOWN:
                yield f"  {len(part.notes) - MAX_SHOWN} more are in the README."
        for finding in self.warnings:
            yield f"{finding.severity}: {sanitise_line(finding)}"
        for file in dict.fromkeys(part.file for part in self.parts):
            rows = sum(part.rows for part in self.parts if part.file == file)
            yield f"Ready to be handed in: {self.folder / file} ({rows:,} rows, read back)."
        yield f"Which run answered what: {self.folder / 'README.md'}"

    def to_json(self) -> dict[str, Any]:
        """``folder``, ``parts`` (each: name, file, rows, notes, run) and ``warnings``."""
        parts = [
            {
                **{"name": part.name, "file": part.file, "rows": part.rows},
                **{"notes": to_json_value(part.notes), "run": to_json_value(part.by.record.run)},
            }
            for part in self.parts
        ]
        warnings = to_json_value(self.warnings)
        return {"folder": str(self.folder), "parts": parts, "warnings": warnings}


def export_slobench(
    study: StudyLike,
    *,
    release: Annotated[Path | None, typer.Option(metavar="PATH")] = None,
    source: Annotated[Path | None, typer.Option(metavar="FILE")] = None,
    task: Name | None = None,
    output: Folder | None = None,
    store: StoreFolder = None,
    train_again: TrainAgain = False,
    online: Online = False,
    tell: Tell = tell_nothing,
) -> SubmissionResult:
    """Write a submission to SloBench.

    Each task's test rows are answered by its best run: by the selection part, never by test labels.
    What was written is read back and checked as `paretune slobench check` does.

    Args:
        release: SuperGLUE's qa_test.zip or a folder with it. [default: where the tasks' data is]
        source: Of a translation: what SloBench wants translated, one sentence a line.
        task: The translation that it belongs to, of several.
        output: A new folder. [default: exports/STUDY/slobench]

    Raises:
        StudyError: one of the six tasks is missing, or the folder exists.
        StoreError: a task has no finished run, or its weights were not kept.
        DataError: what is to be answered cannot be read, or is not that of the study.
    """
    from paretune.verbs.study_input import load_study

    study = load_study(study)  # before torch is imported
    from paretune.analysis.cells import group_into_cells
    from paretune.exporting import restore
    from paretune.exporting.folder import atomic_folder, check_target
    from paretune.store import Store
    from paretune.tasks import pin_dataset
    from paretune.training.caches import ProcessCache
    from paretune.verbs.report import load_results
    from paretune_slovene.slobench import (
        superglue_submission,
        superglue_zip,
        translation_submission,
    )
    from paretune_slovene.slobench.submission import open_submission
    from paretune_slovene.slobench.submission_card import render_submission_card
    from paretune_slovene.slobench.superglue_submission import (
        check_all_tasks,
        common_source,
        find_superglue_tasks,
    )

    superglue = find_superglue_tasks(study)
    translations = _select_translation(study, source, task)
    if superglue or not translations:
        check_all_tasks(study, superglue)
    elif release is not None:
        raise StudyError(
            "has no task of SuperGLUE, to which --release belongs.",
            where=f"study {study.study}",
            remedy="Leave it out; --source is the file to translate.",
        )
    target = Path(output) if output is not None else Path("exports", study.study, "slobench")
    check_target(target)
    results = load_results(study, store)
    specs = {**superglue, **{spec.key: [spec] for spec in translations}}
    selected = _select_runs(specs, group_into_cells(study, results.records), study)
    if not train_again:
        with Store.open(results.folder) as opened:
            trained = [run.record for run in selected.values() if not run.baseline]
            restore.check_weights_kept(trained, opened)
    caches = ProcessCache()
    for run in selected.values():
        caches.dataset(pin_dataset(run.record.run.task, offline=not online))
        if not run.baseline:
            caches.source(run.record.run.model, offline=not online)
    # Everything that can be refused is refused before anything is computed.
    releases = []
    if superglue:
        releases.append(superglue_zip.open_release(release or common_source(superglue)))
    rows = {
        name: superglue_submission.match_rows(
            name, caches.dataset(selected[name].record.run.task), releases[0]
        )
        for name in superglue
    }
    sources = []
    if source is not None:
        releases.append(open_submission(source))
        sources = translation_submission.read_source(releases[-1])
    for run in selected.values():
        if caches.identify(run.record.run) != run.record.run_id:
            raise StoreError(
                "its data, its model's files or the method's code are not those it was trained "
                "with.",
                where=" x ".join(run.record.run.cell),
                remedy="Run the study again: what is unchanged stays.",
            )

    parts: list[SubmittedTask] = []
    answers, lines = {}, {}
    with Store.open(results.folder) as opened:
        for name, run in selected.items():
            count = len(rows.get(name, sources))
            tell(f"{name}: {count:,} rows by {' x '.join(run.record.run.cell)}")
            weights = None
            if not run.baseline:
                weights = restore.load_or_retrain(
                    run.record, opened, train_again=train_again, tell=tell
                )
            if name in rows:
                answers[name], part = superglue_submission.answer_superglue(
                    name, rows[name], run, caches, weights
                )
            else:
                texts, part = translation_submission.answer_translation(
                    name, sources, run, caches, weights
                )
                lines[part.file] = texts
            parts.append(part)
    warnings: list[Finding] = []
    readme = render_submission_card(study, parts, releases)
    with atomic_folder(target) as folder:
        if answers:
            warnings += superglue_submission.write_superglue(folder, answers, releases[0])
        for name, texts in lines.items():
            warnings += translation_submission.write_translation(folder / name, texts, releases[-1])
        (folder / "README.md").write_text(readme, encoding="utf-8")
    return SubmissionResult(target, tuple(parts), tuple(warnings), readme)


def _select_translation(study: Study, source: Path | None, task: str | None) -> list[TaskSpec]:
    """The translation to answer, if the study has one: SloBench's source names none."""
    from paretune.tasks import objective_of

    translations = [spec for spec in study.tasks if objective_of(spec).between_languages]
    specs = [spec for spec in translations if task in (None, spec.key)]
    where = f"study {study.study}"
    names = ", ".join(spec.key for spec in translations)
    if not specs and (task is not None or source is not None):
        raise StudyError(
            f'has no translation "{task}".' if task else "has no translation.",
            where=where,
            remedy=f"It has {names}." if names else "--source and --task belong to one.",
        )
    if specs and source is None:
        raise StudyError(
            f"is a translation ({names}), and what SloBench wants translated is not public.",
            where=where,
            remedy="Name the file that you have from it: --source FILE, a sentence a line.",
        )
    if len(specs) > 1:
        raise StudyError("has several translations.", where=where, remedy=f"Say --task: {names}.")
    return specs


def _select_runs(
    specs: Mapping[str, Sequence[TaskSpec]], cells: Sequence[Cell], study: Study
) -> dict[str, SelectedRun]:
    """The best run of each task."""
    from paretune.analysis.run_selection import select_run

    selected, unfinished = {}, []
    for name, variants in specs.items():
        keys = {spec.key: spec for spec in variants}
        run = select_run([cell for cell in cells if cell.task in keys])
        if run is None:
            unfinished.append(" or ".join(keys))
        else:
            selected[name] = run
    if unfinished:
        raise StoreError(
            f"no final run has ended with scores on {', '.join(unfinished)}.",
            where=f"study {study.study}",
            remedy="Run the study first; `paretune report` shows what there is.",
        )
    return selected
