"""``export slobench``: from a finished study to the files that SloBench takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.data.finding import MAX_SHOWN, Finding
from paretune.errors import StoreError, StudyError, spell_option
from paretune.study import Study, TaskSpec
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs.options import Folder, Name, Online, StoreFolder, StudyLike, TrainAgain
from paretune.verbs.result import Result, Tell, tell_nothing, to_json_value

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.analysis.cell import Cell
    from paretune_slovene.slobench.run_selection import SelectedRun
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
        """Name the run of each task, what to know of it, and the file that is ready."""
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
        source: What SloBench wants translated, one sentence a line; or tagged, a word a line:
            names in files *.conll2002, parts of speech in one *.conllu.
        task: The task of the study that it belongs to, of several.
        output: A new folder. [default: exports/STUDY/slobench]

    Raises:
        StudyError: one of the six tasks is missing, or the folder exists.
        StoreError: a task has no finished run, or its weights were not kept.
        DataError: what is to be answered cannot be read, or is not that of the study.
    """
    from paretune.verbs.study_input import load_study

    study = load_study(study)  # before torch is imported
    from paretune.analysis.cells import group_into_cells
    from paretune.analysis.pareto.recommend import choose
    from paretune.analysis.passes import limits_of
    from paretune.exporting import restore
    from paretune.exporting.folder import atomic_folder, check_target
    from paretune.preparation import ProcessCache
    from paretune.store import Store
    from paretune.tasks import pin_dataset
    from paretune.verbs.report import load_results
    from paretune_slovene.slobench import superglue_submission, superglue_zip
    from paretune_slovene.slobench.kinds import (
        Questions,
        ask_source,
        ask_superglue,
        read_submission,
    )
    from paretune_slovene.slobench.report_table import explain_difference
    from paretune_slovene.slobench.submission import open_submission, raise_for_errors, write_zip
    from paretune_slovene.slobench.submission_card import (
        SubmittedTask,
        list_notes,
        render_submission_card,
    )

    superglue = superglue_submission.find_superglue_tasks(study)
    sourced = _select_source_task(study, source, task)
    if superglue or not sourced:
        superglue_submission.check_all_tasks(study, superglue)
    elif release is not None:
        raise StudyError(
            f"has no task of SuperGLUE, to which {spell_option('release')} belongs.",
            where=f"study {study.study}",
            remedy=f"Leave it out; {spell_option('source')} is the file to answer.",
        )
    target = Path(output) if output is not None else Path("exports", study.study, "slobench")
    check_target(target)
    results = load_results(study, store)
    specs = {**superglue, **{spec.key: [spec] for spec in sourced}}
    cells = group_into_cells(study, results.records)
    selected = _select_runs(specs, cells, study)
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
    questions: dict[str, Questions] = {}
    if superglue:
        common = release or superglue_submission.common_source(superglue)
        opened_release = superglue_zip.open_release(common)
    for name, run in selected.items():
        dataset = caches.dataset(run.record.run.task)
        if name in superglue:
            questions[name] = ask_superglue(name, dataset, opened_release)
        else:
            questions[name] = ask_source(sourced[0], dataset, open_submission(source or Path()))
    for run in selected.values():
        if caches.identify(run.record.run) != run.record.run_id:
            raise StoreError(
                "its data, its model's files or the method's code are not those it was trained "
                "with.",
                where=" x ".join(run.record.run.cell),
                remedy="Run the study again: what is unchanged stays.",
            )

    parts: list[SubmittedTask] = []
    files: dict[str, dict[str, str]] = {}
    with Store.open(results.folder) as opened:
        for name, run in selected.items():
            question, record = questions[name], run.record
            rows = len(question.examples)
            tell(f"{name}: {rows:,} rows by {' x '.join(record.run.cell)}")
            weights = None
            if not run.baseline:
                weights = restore.load_or_retrain(
                    record, opened, train_again=train_again, tell=tell
                )
            dataset = caches.dataset(record.run.task)
            answers, cut = restore.predict(record.run, dataset, question.examples, caches, weights)
            texts, notes = question.render(answers)
            files.setdefault(question.file, {}).update(texts)
            notes = (*list_notes(run, cut=cut, rows=rows), *notes)
            of_task = [cell for cell in cells if cell.task == run.cell.task]
            chosen = choose(of_task, limits_of(study.limits)).chosen
            recommended = None if chosen is None else chosen.cell
            if recommended is None or recommended.key != run.cell.key:
                notes = (*notes, explain_difference(run, recommended))
            parts.append(SubmittedTask(name, question.file, rows, run, notes))
    releases = {question.file: question.release for question in questions.values()}
    warnings: list[Finding] = []
    readme = render_submission_card(study, parts, [*releases.values()])
    with atomic_folder(target) as folder:
        for file, texts in files.items():
            submission = open_submission(write_zip(folder / file, texts))
            findings = read_submission(submission, releases[file]).findings
            raise_for_errors(findings)
            warnings += findings
        (folder / "README.md").write_text(readme, encoding="utf-8")
    return SubmissionResult(target, tuple(parts), tuple(warnings), readme)


def _select_source_task(study: Study, source: Path | None, task: str | None) -> list[TaskSpec]:
    """The task that answers ``source``, if the study has one: SloBench's source names none."""
    from paretune.tasks import objective_of

    objectives = {spec.key: objective_of(spec) for spec in study.tasks}
    sourced = [
        spec
        for spec in study.tasks
        if objectives[spec.key].between_languages or objectives[spec.key].reader == "tags"
    ]
    specs = [spec for spec in sourced if task in (None, spec.key)]
    where = f"study {study.study}"
    names = ", ".join(spec.key for spec in sourced)
    if not specs and (task is not None or source is not None):
        what = "translation and no task that tags words"
        raise StudyError(
            f'has no translation or tags "{task}".' if task else f"has no {what}.",
            where=where,
            remedy=f"It has {names}."
            if names
            else f"{spell_option('source')} and {spell_option('task')} belong to one.",
        )
    if specs and source is None:
        raise StudyError(
            f"has {names}, and what SloBench wants answered is not public.",
            where=where,
            remedy=f"Name what you have from it: {spell_option('source', 'FILE')}.",
        )
    if len(specs) > 1:
        remedy = f"Say {spell_option('task')}: {names}."
        raise StudyError("has several such tasks.", where=where, remedy=remedy)
    return specs


def _select_runs(
    specs: Mapping[str, Sequence[TaskSpec]], cells: Sequence[Cell], study: Study
) -> dict[str, SelectedRun]:
    from paretune_slovene.slobench.run_selection import select_run

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
