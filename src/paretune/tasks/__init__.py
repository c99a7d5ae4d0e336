"""Tasks, one file each; this package lists its own folder. See any file for how one is written.

A module with a ``TASK`` is a task; others can add theirs by the entry point group
``paretune.tasks``, each pointing to a :class:`paretune.data.task.Task`.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

from paretune.data.build import ColumnMapping, build_examples, class_label_parser
from paretune.data.example import Dataset, Example
from paretune.data.finding import Finding, raise_for_findings
from paretune.data.normalise import normalise_text
from paretune.data.task import Task
from paretune.errors import StudyError
from paretune.study import TaskSpec
from paretune.study.task_spec import metrics_for_kind

__all__ = ["Task", "available", "hub_source", "load_dataset"]


def available() -> dict[str, Task]:
    """Every built-in task, then those of installed packages, by name.

    Raises:
        StudyError: an installed package offers something that is no task, or a name that is taken.
    """
    tasks: dict[str, Task] = {}
    for found in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        task = getattr(importlib.import_module(f"{__name__}.{found.name}"), "TASK", None)
        if isinstance(task, Task):
            tasks[task.name] = task
    for entry in entry_points(group="paretune.tasks"):
        task = entry.load()
        if not isinstance(task, Task) or task.name in tasks:
            raise StudyError(
                f"the installed task {entry.name} ({entry.value}) is "
                + ("called like another." if isinstance(task, Task) else "not a Task."),
                remedy="Update or remove the package that brings it.",
            )
        tasks[task.name] = task
    return tasks


def load_dataset(spec: TaskSpec, data_home: Path | None = None) -> Dataset:
    """Read a task's files and build its examples.

    Args:
        spec: a built-in task, or the user's own data.
        data_home: where fetched data lies; the default is
            :func:`paretune.data.sources.cache_dir.data_home`.

    Raises:
        StudyError: no such task, language or template.
        DataError: the files are missing or unreadable, a hub dataset was never fetched, or rows
            cannot become examples; all such rows are named at once.
    """
    if spec.has_own_data:
        from paretune.tasks.own_data import labelled

        return labelled.load_own_data(spec)
    task = _find_task(spec)
    _check_spec(spec, task)
    if task.kind == "translation":
        from paretune.tasks.own_data import parallel

        return parallel.load_built_in_pairs(spec, task, data_home)
    language = _choose_language(spec, task)
    template = task.templates.get(spec.template)
    if template is None:
        raise StudyError(
            f'task {spec.key} has no template "{spec.template}".',
            remedy=f"It has {', '.join(task.templates)}.",
        )
    parts = task.read_rows(spec, language, data_home)
    group, question = task.group, task.question
    recipe = ColumnMapping(
        columns=task.columns,
        template=lambda texts: template(texts, language),
        label=task.label,
        parse_label=class_label_parser(task.labels, task.aliases),
        id=task.id,
        group=lambda values: normalise_text(str(values[group])) if group else None,
        question=lambda values: str(values[question]) if question else None,
        label_names=task.labels,
    )
    train = build_examples(parts.train, recipe, "train")
    test = build_examples(parts.test, recipe, "test")
    unlabelled = build_examples(parts.unlabelled, recipe, "unlabelled", labelled=False)
    unread = [finding for finding in parts.findings if finding.severity == "error"]
    raise_for_findings([*unread, *train.errors, *test.errors, *unlabelled.errors])
    return Dataset(
        task=spec.key,
        kind=task.kind,
        labels=task.labels,
        train=tuple(_take_first(train.examples, _limit(spec, "train"))),
        test=tuple(_take_first(test.examples, _limit(spec, "test"))),
        unlabelled=tuple(unlabelled.examples),
        metric=spec.metric or task.metric,
        language=language,
        licence=spec.licence or task.licence[language],
        source=task.source[language],
        findings=(*_language_note(spec, language), *parts.findings, *train.notes, *test.notes),
        clustered=task.clustered,
    )


def hub_source(spec: TaskSpec) -> TaskSpec | None:
    """The task with the hub dataset that it is read from; None where it is read from files."""
    if spec.has_own_data:
        return spec if spec.dataset is not None else None
    return _find_task(spec).hub_spec(spec)


def _check_spec(spec: TaskSpec, task: Task) -> None:
    """Metric, split and languages are such as the task has."""
    if spec.metric is not None and spec.metric not in metrics_for_kind(task.kind):
        raise StudyError(
            f"metric {spec.metric} does not fit task {spec.key}.",
            remedy=f"Fitting are {', '.join(metrics_for_kind(task.kind))}.",
        )
    if spec.split not in task.splits:
        raise StudyError(
            f'task {spec.key} has no split "{spec.split}".',
            remedy="Remove it; its parts are fixed.",
        )
    if spec.is_translation != (task.kind == "translation"):
        languages = " and ".join(task.languages)
        raise StudyError(
            f"task {spec.key} translates nothing."
            if spec.is_translation
            else f"task {spec.key} needs to know from which language into which.",
            remedy="Remove source_lang and target_lang; language names the task's language."
            if spec.is_translation
            else f"Give it source_lang and target_lang, of {languages}.",
        )


def _find_task(spec: TaskSpec) -> Task:
    tasks = available()
    if spec.name in tasks:
        return tasks[spec.name]
    near = difflib.get_close_matches(spec.name.casefold(), tasks, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise StudyError(
        f'there is no task "{spec.name}".',
        remedy=f"{hint}There is {', '.join(tasks)}; data of your own needs train: FILE.",
    )


def _choose_language(spec: TaskSpec, task: Task) -> str:
    language = spec.language or task.languages[0]
    if language not in task.languages:
        raise StudyError(
            f'task {task.name} does not exist in the language "{language}".',
            remedy=f"It exists in {', '.join(task.languages)}.",
        )
    return language


def _language_note(spec: TaskSpec, language: str) -> tuple[Finding, ...]:
    if spec.language is not None:
        return ()
    return (
        Finding(
            "note",
            "language-taken",
            f"task {spec.key}",
            f'names no language; "{language}" was taken.',
            f"Write language: {language} to make it plain.",
        ),
    )


def _take_first(examples: list[Example], limit: int | None) -> list[Example]:
    """The first ``limit`` examples; a question that does not fit whole is left out."""
    if limit is None or limit >= len(examples):
        return examples
    cut = examples[limit].question
    whole = [e for e in examples[:limit] if cut is None or e.question != cut]
    return whole or examples[:limit]  # less than one question: there is nothing whole


def _limit(spec: TaskSpec, part: Literal["train", "test"]) -> int | None:
    return (spec.limit or {}).get(part)
