"""``export slobench``: from a finished study to the files that SloBench takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from paretune.data.finding import Finding
from paretune.errors import StoreError, StudyError
from paretune.study import Study, TaskSpec

if TYPE_CHECKING:
    from paretune.analysis.cell import Cell
    from paretune.analysis.run_selection import SelectedRun
    from paretune.training.caches import ProcessCache
    from paretune_slovene.slobench.submission_card import SubmittedTask


class SubmissionInputs(TypedDict, total=False):
    """What SloBench wants answered.

    Attributes:
        release: SuperGLUE's ``qa_test.zip`` or a folder with it; by default the one from which the
            study's tasks were read.
        source: for a translation, SloBench's file to translate, one sentence per line.
        task: the translation to which it belongs, if there are several.
    """

    release: Path | None
    source: Path | None
    task: str | None


@dataclass(frozen=True)
class SubmissionResult:
    """A submission that was written and read back.

    Attributes:
        warnings: faults with which SloBench still accepts it.
    """

    folder: Path
    parts: tuple[SubmittedTask, ...]
    warnings: tuple[Finding, ...]
    readme: str


def export_slobench(
    study: Study | Path | str,
    *,
    output: Path | str | None = None,
    store: Path | str | None = None,
    train_again: bool = False,
    online: bool = False,
    tell: Callable[[str], None] = lambda sentence: None,
    **inputs: Unpack[SubmissionInputs],
) -> SubmissionResult:
    """Answer SloBench's test rows with the best run of each task, and check what was written.

    Args:
        study: a study, its file, or the name of a shipped one; with all six tasks of SuperGLUE, or
            a translation.
        output: the folder to make; ``exports/STUDY/slobench`` by default.
        store: folder of the results; ``studies/NAME`` by default.
        train_again: train a run once more if its weights were not kept.
        online: models may be downloaded from the hub.
        tell: called with a sentence before each step that may take minutes.
        inputs: what is to be answered: ``release``, ``source``, ``task``
            (:class:`SubmissionInputs`).

    Raises:
        StudyError: one of the six tasks is missing, or the folder exists.
        StoreError: a task has no finished run, or its weights were not kept.
        DataError: what is to be answered cannot be read, or is not that of the study.
    """
    from paretune.verbs.study_input import resolve_study

    study = resolve_study(study)  # before torch is imported
    release, source = inputs.get("release"), inputs.get("source")
    from paretune.analysis.cells import group_into_cells
    from paretune.exporting import restore
    from paretune.exporting.folder import atomic_folder, check_target
    from paretune.planning.prepare import find_source, read_dataset
    from paretune.store import Store
    from paretune.training.caches import ProcessCache
    from paretune.verbs.report import load_results
    from paretune_slovene.slobench import superglue_submission, translation_submission
    from paretune_slovene.slobench.evaluate import open_release
    from paretune_slovene.slobench.submission import open_submission
    from paretune_slovene.slobench.submission_card import render_submission_card
    from paretune_slovene.slobench.superglue_rows import common_source, find_superglue_tasks

    superglue = find_superglue_tasks(study)
    translations = _select_translation(study, source, inputs.get("task"))
    _check_tasks(study, superglue, translations, release)
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
        read_dataset(run.record.run.task, caches, offline=not online)
        if not run.baseline:
            find_source(run.record.run.model, caches, offline=not online)
    # Everything that can be refused is refused before anything is computed.
    releases = []
    if superglue:
        releases.append(open_release(release or common_source(superglue)))
    label_requests = [
        superglue_submission.prepare_superglue(name, selected[name], releases[0], caches)
        for name in superglue
    ]
    if source is not None:
        releases.append(open_submission(source))
    text_requests = [
        translation_submission.prepare_translation(spec.key, selected[spec.key], releases[-1])
        for spec in translations
    ]
    _refuse_changed(selected.values(), caches)

    parts: list[SubmittedTask] = []
    answers, lines = {}, {}
    with Store.open(results.folder) as opened:

        def load_weights(name: str, num_rows: int, run: SelectedRun) -> bytes | None:
            tell(f"{name}: {num_rows:,} rows by {' x '.join(run.record.run.cell)}")
            if run.baseline:
                return None
            return restore.load_or_retrain(run.record, opened, train_again=train_again, tell=tell)

        for request in label_requests:
            trained_weights = load_weights(request.name, len(request.rows), request.by)
            answers[request.name], part = superglue_submission.answer_superglue(
                request, caches, trained_weights
            )
            parts.append(part)
        for text_request in text_requests:
            num_rows = len(text_request.sources)
            trained_weights = load_weights(text_request.name, num_rows, text_request.by)
            lines[text_request.file], part = translation_submission.answer_translation(
                text_request, caches, trained_weights
            )
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


def _check_tasks(
    study: Study,
    superglue: Mapping[str, Sequence[TaskSpec]],
    translations: Sequence[TaskSpec],
    release: Path | None,
) -> None:
    from paretune_slovene.slobench.superglue_rows import check_all_tasks

    if superglue or not translations:
        check_all_tasks(study, superglue)
    elif release is not None:
        raise StudyError(
            "has no task of SuperGLUE, to which --release belongs.",
            where=f"study {study.study}",
            remedy="Leave it out; --source is the file to translate.",
        )


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


def _refuse_changed(runs: Iterable[SelectedRun], caches: ProcessCache) -> None:
    """Check that data, model files and method code are those with which the runs were trained."""
    for run in runs:
        if caches.identify(run.record.run) != run.record.run_id:
            raise StoreError(
                "its data, its model's files or the method's code are not those it was trained "
                "with.",
                where=" x ".join(run.record.run.cell),
                remedy="Run the study again: what is unchanged stays.",
            )
