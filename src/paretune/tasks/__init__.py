"""Tasks: built-in samples (:mod:`.samples`), and the user's data (:mod:`.readers`).

:mod:`.infer` guesses a task from a file, which is what ``paretune new`` writes.

Installed packages add theirs by the entry point group ``paretune.tasks``, each pointing to a
:class:`paretune.data.task.Task`; a built-in name wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from paretune import metrics, objectives, plugins
from paretune.data import hub
from paretune.data.example import Dataset
from paretune.data.language import NAMES, language_code
from paretune.data.prompt import choose_prompt
from paretune.data.task import Task
from paretune.errors import StudyError
from paretune.objectives import Objective
from paretune.objectives.prompt import Prompt
from paretune.study import TaskSpec
from paretune.tasks import samples
from paretune.tasks.readers import READERS, TASK_READERS, load_built_in

__all__ = [
    "READERS",
    "Task",
    "available",
    "get",
    "load_dataset",
    "names",
    "objective_of",
    "pin_dataset",
]

_REGISTRY = plugins.Registry(plugins.TASKS, "task", Task, samples.TASKS)
names = _REGISTRY.names
get: Callable[[str], Task] = _REGISTRY.get


def available() -> dict[str, Task]:
    """Every task by name: the built-in ones, then those of installed packages that can be used."""
    return {**plugins.load_all(plugins.TASKS, Task)[0], **_REGISTRY.built_in}


def objective_of(spec: TaskSpec) -> Objective:
    """The objective of a task that a study or a run names; no data are read.

    Records outlive the package that brought a task: one that is not installed any more is taken
    for what its languages say.
    """
    if spec.kind is not None:  # of own data, or of answers that are judged
        return objectives.get(spec.kind)
    if spec.name in names():
        return objectives.get(get(spec.name).kind)
    return objectives.guess(between_languages=spec.languages is not None)


def load_dataset(spec: TaskSpec, data_home: Path | None = None) -> Dataset:
    """Read a task's files and build its examples.

    Args:
        spec: a built-in task, or the user's data.
        data_home: where fetched data lies; the default is
            :func:`paretune.files.data_home`.

    Raises:
        StudyError: no such task, language or template, or a prompt that does not go with it.
        DataError: the files are missing or unreadable, a hub dataset was never fetched, or rows
            cannot become examples; all such rows are named at once.
    """
    task = None if spec.has_own_data else get(spec.name)
    _check_spec(spec, task)
    prompt: Prompt | None = None
    if task is None:
        dataset = READERS[objectives.get(str(spec.kind)).reader](spec)
    else:
        load = TASK_READERS.get(objectives.get(task.kind).reader, load_built_in)
        dataset = load(spec, task, data_home)
        prompt = task.prompt(spec.template, dataset.language)
    if not dataset.objective.readouts:
        return dataset
    prompt = prompt or dataset.prompt
    if prompt is None and dataset.objective.between_languages:
        # lm-evaluation-harness asks so for a translation (its tasks of WMT).
        source, target = (NAMES.get(language_code(code), code) for code in dataset.languages)
        prompt = Prompt(template=f"{source} phrase: {{text}}\n{target} phrase:")
    labels = dataset.labels if dataset.objective.predicts_labels else ()
    prompt = choose_prompt(spec, prompt, dataset.train, labels, dataset.language)
    return replace(dataset, prompt=prompt)


def pin_dataset(spec: TaskSpec, *, offline: bool = True) -> TaskSpec:
    """The task at the commit of its hub dataset that is here; one read from files is returned.

    Args:
        offline: do not fetch the dataset.

    Raises:
        DataError: it is not here, and nothing may be fetched.
    """
    source = spec if spec.has_own_data else get(spec.name).hub_spec(spec)
    if source is None or source.dataset is None:
        return spec
    if not offline:
        hub.fetch_splits(source)
    return spec.model_copy(update={"revision": hub.pin_revision(source).revision})


def _check_spec(spec: TaskSpec, task: Task | None) -> None:
    """Check that template, metric, split and languages are such as the task has.

    Raises:
        StudyError: one is not.
    """
    templates = tuple(task.templates) if task else ()
    # The template of a table is a sentence of the user's own.
    if not spec.features and spec.template not in (templates or ("pair",)):
        remedy = f"It has {', '.join(templates)}."
        if not templates:
            remedy = (
                "Its texts are taken as they are: remove template. What stands around them is "
                "prompt: '... {text} ...'."
            )
        raise StudyError(f'task {spec.key} has no template "{spec.template}".', remedy=remedy)
    if task is None:
        return
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
