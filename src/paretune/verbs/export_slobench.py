"""``export slobench``: from a finished study to the files that SloBench takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.data.finding import Finding, refuse
from paretune.errors import StoreError, StudyError
from paretune.study import Run, Study, TaskSpec

if TYPE_CHECKING:
    from paretune.analysis.cells import Cell
    from paretune.analysis.selected import Selected
    from paretune.data.example import Dataset
    from paretune.export.submission import Submission
    from paretune.export.submission_card import Part
    from paretune.metrics.slobench import Answers, Key
    from paretune.planning.context import Context

SUPERGLUE = "superglue.zip"
PLACES = ("source", "train", "test", "train_target", "test_target")


@dataclass(frozen=True)
class Submitted:
    """``folder`` holds the zips and their README (``said``); ``parts``: one for each task."""

    folder: Path
    parts: tuple[Part, ...]
    warnings: tuple[Finding, ...]
    said: str


@dataclass(frozen=True)
class _Task:
    """One of the six: who answers which rows."""

    name: str
    by: Selected
    dataset: Dataset
    rows: list[Key]


def export_slobench(
    study: Study | Path | str,
    *,
    to: Path | str | None = None,
    store: Path | str | None = None,
    release: Path | None = None,
    train_again: bool = False,
    online: bool = False,
    tell: Callable[[str], None] = lambda said: None,
) -> Submitted:
    """Answer SloBench's test rows with the best run of each task, and check what was written.

    Args:
        study: a study, its file, or the name of a shipped one; with all six tasks of SuperGLUE.
        to: the folder to make; ``exports/STUDY/slobench`` by default.
        store: folder of the results; ``studies/NAME`` by default.
        release: SuperGLUE's ``qa_test.zip`` or a folder with it; by default the one that the
            study's tasks were read from.
        train_again: where weights were too large to keep, train those runs once more.
        online: models may be fetched from the hub.
        tell: told in a sentence what is being done, since it may take minutes.

    Raises:
        StudyError: a task of the six is missing, or the folder is there already.
        StoreError: a task has no ended final run, or its weights were not kept.
        DataError: the release cannot be read, or its rows are not those of the study.
    """
    from paretune.analysis.cells import group
    from paretune.export import kept, submission_card, superglue_answers, whole
    from paretune.planning.context import Context
    from paretune.store import Store
    from paretune.verbs.report import gather
    from paretune.verbs.slobench import release_at

    found = gather(study, store)
    target = Path(to) if to is not None else Path("exports", found.study.study, "slobench")
    whole.free(target)
    specs = superglue_answers.asked(found.study)
    _complete(found.study, specs)
    cells = group(found.study, found.records)
    chosen = _chosen(specs, cells, found.study)
    if not train_again:
        kept.refuse_lost([by.record for by in chosen.values() if not by.baseline])
    wanted = release_at(release or _source(specs))
    context = Context(offline=not online)
    tasks = [_task(name, by, wanted, context) for name, by in chosen.items()]
    parts: list[Part] = []
    answers: dict[str, Answers] = {}
    with Store.open(found.folder) as opened:
        for task in tasks:
            tell(f"{task.name}: {len(task.rows):,} rows by {' x '.join(task.by.record.run.cell)}")
            weights = None
            if not task.by.baseline:
                weights = kept.weights(task.by.record, opened, train_again=train_again)
            answers[task.name], part = _answer(task, context, weights)
            parts.append(part)
    with whole.whole(target) as folder:
        warnings = _written(folder / SUPERGLUE, answers, wanted)
        said = submission_card.card(found.study, parts, [wanted])
        (folder / "README.md").write_text(said, encoding="utf-8")
    return Submitted(target, tuple(parts), tuple(warnings), said)


def _complete(study: Study, specs: Mapping[str, Sequence[TaskSpec]]) -> None:
    """All six are there: SloBench refuses five."""
    from paretune.export.superglue_answers import LANGUAGE, NAMES

    missing = [name for name, task in NAMES.items() if task not in specs]
    if missing:
        added = ", ".join(f"{{name: {name}, language: {LANGUAGE}}}" for name in missing)
        raise StudyError(
            f"has {6 - len(missing)} of the six tasks that a submission answers; it lacks "
            f"{', '.join(missing)}.",
            where=f"study {study.study}",
            remedy=f"Add to its tasks {added}, and run it again: what has ended stays.",
        )


def _chosen(
    specs: Mapping[str, Sequence[TaskSpec]], cells: Sequence[Cell], study: Study
) -> dict[str, Selected]:
    """The best run of each task, with the data where the study file has it now."""
    from paretune.analysis.selected import selected

    found, waiting = {}, []
    for name, variants in specs.items():
        places = {spec.key: spec for spec in variants}
        by = selected([cell for cell in cells if cell.task in places])
        if by is None:
            waiting.append(" or ".join(places))
            continue
        now = {place: getattr(places[by.cell.task], place) for place in PLACES}
        run = by.record.run
        run = run.model_copy(update={"task": run.task.model_copy(update=now)})
        found[name] = replace(by, record=replace(by.record, run=run))
    if waiting:
        raise StoreError(
            f"no final run has ended with scores on {', '.join(waiting)}.",
            where=f"study {study.study}",
            remedy="Run the study first; `paretune report` shows what there is.",
        )
    return found


def _source(specs: Mapping[str, Sequence[TaskSpec]]) -> Path | None:
    """The folder that all tasks are read from; None: the one that was fetched."""
    sources = {spec.source for variants in specs.values() for spec in variants}
    if len(sources) > 1:
        raise StudyError(
            "its tasks are read from several folders.",
            where="the release to answer",
            remedy="Name the one that SloBench asks for: --release PATH of qa_test.zip.",
        )
    (source,) = sources
    return None if source is None else Path(source)


def _task(name: str, by: Selected, release: Submission, context: Context) -> _Task:
    from paretune.export import superglue_answers, superglue_zip

    run: Run = by.record.run
    dataset = context.dataset(run.task)
    rows = superglue_answers.keys(name, dataset, superglue_zip.rows(release, name))
    if context.identify(run) != by.record.run_id:
        raise StoreError(
            "its data, its model's files or the method's code are not those it was trained with.",
            where=" x ".join(run.cell),
            remedy="Run the study again: what is unchanged stays.",
        )
    return _Task(name, by, dataset, rows)


def _answer(task: _Task, context: Context, weights: bytes | None) -> tuple[Answers, Part]:
    from paretune.export import submission_card, superglue_answers
    from paretune.export.answers import answered

    run, examples = task.by.record.run, task.dataset.unlabelled
    given = answered(run, task.dataset, examples, context, weights)
    answers = superglue_answers.spelled(task.name, task.rows, given.labels)
    one = str(next(iter(answers.values()))) if len(set(answers.values())) == 1 else None
    notes = submission_card.notes(task.by, cut=given.cut, rows=len(answers), constant=one)
    part = submission_card.Part(task.name, SUPERGLUE, len(answers), task.by, notes)
    return answers, part


def _written(path: Path, answers: Mapping[str, Answers], release: Submission) -> list[Finding]:
    """Write the zip, and read it back as SloBench would; the warnings.

    Raises:
        DataError: it would be refused.
    """
    from paretune.export import superglue_zip
    from paretune.export.submission import opened
    from paretune.verbs.slobench import looked

    superglue_zip.write_answers(path, answers)
    checked = looked(opened(path), release)
    refuse([finding for finding in checked.findings if finding.severity == "error"])
    return list(checked.findings)
