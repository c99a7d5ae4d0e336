"""``protocol: {preset: paper}``: every run with the settings that the paper's authors used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib.resources import files
from typing import Any

from ruamel.yaml import YAML

from paretune.analysis.cell import NO_MODEL
from paretune.analysis.cells import methods_with_probe, model_free_baselines
from paretune.errors import StudyError
from paretune.study import MethodSpec, ModelSpec, Run, Study, TaskSpec, Training
from paretune.study.presets import Preset
from paretune.tasks import objective_of


@cache
def read_settings() -> Mapping[str, Any]:
    """The content of ``preset.yaml``."""
    text = (files("paretune_slovene.paper") / "preset.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = YAML(typ="safe", pure=True).load(text)
    return loaded


def list_departures() -> tuple[str, ...]:
    """Sentences on where the preset departs from the paper on purpose."""
    return tuple(" ".join(str(sentence).split()) for sentence in read_settings()["departures"])


def expand_preset(study: Study) -> list[Run]:
    """The paper's runs for the tasks, models and methods that the study names.

    Raises:
        StudyError: a task or method that the paper did not have, or a setting of the study's own.
    """
    _refuse_own_settings(study)
    order = {"tune": 0, "final": 1, "cost": 2}
    return sorted(_expand_tasks(study), key=lambda run: order[run.stage])


PRESET = Preset(
    name="paper",
    expand=expand_preset,
    departures=list_departures,
    description="Protocol of the paper: its own settings and one seed. The checkpoint was selected "
    "on the test part, so every score here is biased upwards.",
    final_runs=1,
    protocol_keys=("preset", "as_run"),
)


def _expand_tasks(study: Study) -> Iterator[Run]:
    settings = read_settings()
    for spec in study.tasks:
        if spec.has_own_data or spec.name not in settings["tasks"]:
            raise StudyError(
                f"protocol paper has no task {spec.name}.",
                remedy=f"Its tasks: {', '.join(settings['tasks'])}.",
            )
        of_task = settings["tasks"][spec.name]
        changes = {
            "template": of_task.get("template", "paper"),
            "limit": of_task.get("limit"),
            "split": of_task.get("split", spec.split),
        }
        task = spec.model_copy(update=changes)
        objective = objective_of(task)
        make = partial(
            Run,
            task=task,
            seed=settings["seed"],
            selection="test",
            learning_rate=None,
            training=Training(**settings["training"]),
            generation=study.generation if objective.generates else None,
        )
        for name in model_free_baselines(task, objective):
            yield make(stage="final", model=ModelSpec(name=NO_MODEL), method=MethodSpec(name=name))
        for model in study.models:
            for method in methods_with_probe(study, objective):
                if method.name not in settings["methods"]:
                    raise StudyError(
                        f"protocol paper has no method {method.name}.",
                        remedy=f"Its methods: {', '.join(settings['methods'])}.",
                    )
                yield from _expand_cell(make, study.protocol.as_run, task, model, method)


def _refuse_own_settings(study: Study) -> None:
    """Refuse settings that would have no effect, since the preset fixes those of every run."""
    names = [f"training.{name}" for name in sorted(study.training.model_fields_set)]
    fixed = study.protocol.model_fields_set - {"preset", "as_run"}
    names += [f"protocol.{name}" for name in sorted(fixed)]
    for method in study.methods:
        options = [*method.options, *(["learning_rates"] if method.learning_rates else [])]
        names += [f"{name} of method {method.key}" for name in options]
    if names:
        raise StudyError(
            f"protocol paper has settings for every run, and the study gives {', '.join(names)}.",
            remedy="Remove them, or use preset: trials.",
        )


def _expand_cell(
    make: Callable[..., Run], as_run: bool, task: TaskSpec, model: ModelSpec, method: MethodSpec
) -> Iterator[Run]:
    settings = read_settings()
    short_names = {hub: short for short, names in settings["models"].items() for hub in names}
    cell = {
        "task": task.name,
        "model": short_names.get(model.name, settings["other_models"]),
        "method": method.name,
    }
    rate = settings["learning_rate"]
    options = dict(settings["methods"][method.name])
    training = settings["training"] | settings["tasks"][task.name].get("training", {})
    for entry in [*settings["exceptions"], *(settings["as_run"] if as_run else ())]:
        if all(entry.get(key, value) == value for key, value in cell.items()):
            rate = entry.get("learning_rate", rate)
            options |= entry.get("options", {})
            training = training | entry.get("training", {})
    spec = MethodSpec(name=method.name, label=method.label, **options)
    for stage in ("final", "cost"):
        yield make(
            stage=stage,
            model=model,
            method=spec,
            learning_rate=None if method.name == "untuned" else rate,
            training=Training(**training),
        )
