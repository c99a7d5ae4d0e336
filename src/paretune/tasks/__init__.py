"""Tasks: built-in samples (:mod:`.samples`), and the user's own data.

Installed packages add theirs by the entry point group ``paretune.tasks``, each pointing to a
:class:`paretune.data.task.Task`; a built-in name wins.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Literal

from paretune import metrics, objectives, plugins
from paretune.data import hub
from paretune.data.build import ColumnMapping, build_examples, class_label_parser
from paretune.data.example import Dataset, Example, normalise_text
from paretune.data.finding import Finding, raise_for_findings
from paretune.data.language import language_name
from paretune.data.packed_dataset import is_packed, read_packed_dataset
from paretune.data.prompt import Prompt, choose_prompt
from paretune.data.task import Task
from paretune.errors import StudyError
from paretune.objectives import Objective
from paretune.study import TaskSpec
from paretune.tasks import samples

__all__ = [
    "Task",
    "available",
    "get",
    "hub_source",
    "load_dataset",
    "names",
    "objective_of",
    "pin_dataset",
]


_BUILT_IN = {task.name: task for task in samples.TASKS}


def names() -> tuple[str, ...]:
    """Names of all tasks; those of installed packages are not loaded for it."""
    return (*_BUILT_IN, *(n for n in plugins.names(plugins.TASKS) if n not in _BUILT_IN))


def available() -> dict[str, Task]:
    """Every task by name: the built-in ones, then those of installed packages that can be used."""
    return {**plugins.load_all(plugins.TASKS, Task)[0], **_BUILT_IN}


def get(name: str) -> Task:
    """The task with this name.

    Raises:
        StudyError: there is none.
        PluginError: an installed package offers it, but it cannot be loaded.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if name in plugins.names(plugins.TASKS):
        return plugins.load(plugins.TASKS, name, Task)
    near = difflib.get_close_matches(name.casefold(), names(), n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise StudyError(
        f'there is no task "{name}".',
        remedy=f"{hint}There is {', '.join(names())}; data of your own needs train: FILE.",
    )


def objective_of(spec: TaskSpec) -> Objective:
    """The objective of a task that a study or a run names; no data are read.

    Records outlive the package that brought a task: one that is not installed any more is taken
    for what its languages say.
    """
    if spec.has_own_data:
        return objectives.get(str(spec.kind))
    if spec.name in names():
        return objectives.get(get(spec.name).kind)
    return objectives.guess(between_languages=spec.languages is not None)


def load_dataset(spec: TaskSpec, data_home: Path | None = None) -> Dataset:
    """Read a task's files and build its examples.

    Args:
        spec: a built-in task, or the user's own data.
        data_home: where fetched data lies; the default is
            :func:`paretune.data.cache_dir.data_home`.

    Raises:
        StudyError: no such task, language or template, or a prompt that does not go with it.
        DataError: the files are missing or unreadable, a hub dataset was never fetched, or rows
            cannot become examples; all such rows are named at once.
    """
    if is_packed(spec.source):
        return read_packed_dataset(Path(str(spec.source)))
    if spec.has_own_data:
        from paretune.tasks.own_data import load_own_data

        return _with_prompt(load_own_data(spec), spec)
    task = get(spec.name)
    _check_spec(spec, task)
    if objectives.get(task.kind).between_languages:
        from paretune.tasks.own_data.parallel import load_built_in_pairs

        dataset = load_built_in_pairs(spec, task, data_home)
        return _with_prompt(dataset, spec, task.prompts.get(dataset.languages[1]))
    dataset = _load_built_in(spec, task, data_home)
    return _with_prompt(dataset, spec, task.prompt(spec.template, dataset.language))


def _with_prompt(dataset: Dataset, spec: TaskSpec, own: Prompt | None = None) -> Dataset:
    """The dataset with how a language model is asked, where one can answer."""
    if not dataset.objective.readouts:
        return dataset
    labels = dataset.labels if dataset.objective.predicts_labels else ()
    own = own or dataset.prompt or _translation_prompt(dataset)
    prompt = choose_prompt(spec, own, dataset.train, labels, dataset.language)
    return replace(dataset, prompt=prompt)


def _translation_prompt(dataset: Dataset) -> Prompt | None:
    """How lm-evaluation-harness asks for a translation (its tasks of WMT); None of other tasks."""
    if not dataset.objective.between_languages:
        return None
    source, target = map(language_name, dataset.languages)
    return Prompt(template=f"{source} phrase: {{text}}\n{target} phrase:")


def _load_built_in(spec: TaskSpec, task: Task, data_home: Path | None) -> Dataset:
    language = _choose_language(spec, task)
    template = task.templates.get(spec.template)
    if template is None:
        raise StudyError(
            f'task {spec.key} has no template "{spec.template}".',
            remedy=f"It has {', '.join(task.templates)}.",
        )
    rows = task.read_rows(spec, language, data_home)
    group, question = task.group, task.question
    mapping = ColumnMapping(
        columns=task.columns,
        template=lambda texts: template(texts, language),
        label=task.label,
        parse_label=class_label_parser(task.labels, task.aliases),
        id=task.id,
        group=lambda values: normalise_text(str(values[group])) if group else None,
        question=lambda values: str(values[question]) if question else None,
        label_names=task.labels,
    )
    train = build_examples(rows.train, mapping, "train")
    test = build_examples(rows.test, mapping, "test")
    unlabelled = build_examples(rows.unlabelled, mapping, "unlabelled", labelled=False)
    unread = [finding for finding in rows.findings if finding.severity == "error"]
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
        findings=(*_language_note(spec, language), *rows.findings, *train.notes, *test.notes),
        clustered=task.clustered,
    )


def pin_dataset(spec: TaskSpec, *, offline: bool = True) -> TaskSpec:
    """The task at the commit of its hub dataset that is here; one read from files is returned.

    Args:
        offline: do not fetch the dataset.

    Raises:
        DataError: it is not here, and nothing may be fetched.
    """
    source = hub_source(spec)
    if source is None:
        return spec
    if not offline:
        hub.fetch_splits(source)
    return spec.model_copy(update={"revision": hub.pin_revision(source).revision})


def hub_source(spec: TaskSpec) -> TaskSpec | None:
    """The task with the hub dataset that it is read from; None where it is read from files."""
    if spec.has_own_data:
        return spec if spec.dataset is not None else None
    return get(spec.name).hub_spec(spec)


def _check_spec(spec: TaskSpec, task: Task) -> None:
    """Check that metric, split and languages are such as the task has; StudyError otherwise."""
    objective = objectives.get(task.kind)
    if spec.metric is not None and not objective.accepts(metrics.get(spec.metric)):
        raise StudyError(
            f"metric {spec.metric} does not fit task {spec.key}.",
            remedy=f"Fitting are {', '.join(objective.selectable_metrics)}.",
        )
    if spec.split not in task.splits:
        raise StudyError(
            f'task {spec.key} has no split "{spec.split}".',
            remedy="Remove it; its parts are fixed.",
        )
    if objective.between_languages and spec.languages is None:
        raise StudyError(
            f"task {spec.key} needs to know from which language into which.",
            remedy=f"Give it source_lang and target_lang, of {' and '.join(task.languages)}.",
        )
    if spec.languages is not None and not objective.between_languages:
        raise StudyError(
            f"task {spec.key} translates nothing.",
            remedy="Remove source_lang and target_lang; language names the task's language.",
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
