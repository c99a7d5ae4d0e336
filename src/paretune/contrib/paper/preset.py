"""``protocol: {preset: paper}``: every run with the settings that the paper's authors used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from ruamel.yaml import YAML

from paretune.analysis.cells import methods_with_probe, model_free_baselines
from paretune.errors import StudyError
from paretune.planning.context import NO_MODEL
from paretune.study import MethodSpec, ModelSpec, Run, Stage, Study, TaskSpec, Training


@cache
def load_preset() -> Mapping[str, Any]:
    """The preset that the project ships, as plain values."""
    text = (files("paretune.planning") / "paper.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = YAML(typ="safe", pure=True).load(text)
    return loaded


def list_departures() -> list[str]:
    """Where the preset departs from the paper on purpose, in sentences."""
    return [str(sentence).strip() for sentence in load_preset()["departures"]]


def expand_preset(study: Study) -> list[Run]:
    """The paper's runs for the tasks, models and methods that the study names.

    Raises:
        StudyError: a task or method that the paper did not have, or a setting of the study's own.
    """
    _nothing_of_its_own(study)
    runs = list(_runs(study))
    order = {"tune": 0, "final": 1, "cost": 2}
    return sorted(runs, key=lambda run: order[run.stage])


def _runs(study: Study) -> Iterator[Run]:
    preset = load_preset()
    for asked in study.tasks:
        if asked.has_own_data or asked.name not in preset["tasks"]:
            known = ", ".join(preset["tasks"])
            raise StudyError(
                f"protocol paper has no task {asked.name}.", remedy=f"Its tasks: {known}."
            )
        own = preset["tasks"][asked.name]
        changes = {
            "template": own.get("template", "paper"),
            "limit": own.get("limit"),
            "split": own.get("split", asked.split),
        }
        task = asked.model_copy(update=changes)
        for name in model_free_baselines(task):
            yield _baseline(study, task, preset, name)
        for model in study.models:
            for method in methods_with_probe(study, task):
                if method.name not in preset["methods"]:
                    known = ", ".join(preset["methods"])
                    raise StudyError(
                        f"protocol paper has no method {method.name}.",
                        remedy=f"Its methods: {known}.",
                    )
                yield from _cell(study, task, model, method)


def _nothing_of_its_own(study: Study) -> None:
    """Refuse settings that would be passed over, since the preset has every run's own."""
    given = [f"training.{name}" for name in sorted(study.training.model_fields_set)]
    fixed = study.protocol.model_fields_set - {"preset", "as_run"}
    given += [f"protocol.{name}" for name in sorted(fixed)]
    for method in study.methods:
        names = [*method.options, *(["learning_rates"] if method.learning_rates else [])]
        given += [f"{name} of method {method.key}" for name in names]
    if given:
        raise StudyError(
            f"protocol paper has settings for every run, and the study gives {', '.join(given)}.",
            remedy="Remove them, or use the fair protocol.",
        )


def _baseline(study: Study, task: TaskSpec, preset: Mapping[str, Any], name: str) -> Run:
    return Run(
        stage="final",
        task=task,
        model=NO_MODEL,
        method=MethodSpec(name=name),
        learning_rate=None,
        seed=preset["seed"],
        selection="test",
        training=Training(**preset["training"]),
        generation=study.generation if task.is_translation else None,
    )


def _cell(study: Study, task: TaskSpec, model: ModelSpec, method: MethodSpec) -> Iterator[Run]:
    preset = load_preset()
    known = {hub: short for short, names in preset["models"].items() for hub in names}
    settings_of = known.get(model.name, preset["other_models"])
    rate = preset["learning_rate"]
    options = dict(preset["methods"][method.name])
    training = preset["training"] | preset["tasks"][task.name].get("training", {})
    entries = [*preset["exceptions"], *(preset["as_run"] if study.protocol.as_run else ())]
    for entry in entries:
        here = {"task": task.name, "model": settings_of, "method": method.name}
        if all(entry.get(key, value) == value for key, value in here.items()):
            rate = entry.get("learning_rate", rate)
            options |= entry.get("options", {})
            training = training | entry.get("training", {})
    named = MethodSpec(name=method.name, label=method.label, **options)
    stages: tuple[Stage, ...] = ("final", "cost")
    for stage in stages:
        yield Run(
            stage=stage,
            task=task,
            model=model,
            method=named,
            learning_rate=None if method.name == "untuned" else rate,
            seed=preset["seed"],
            selection="test",
            training=Training(**training),
            generation=study.generation if task.is_translation else None,
        )
