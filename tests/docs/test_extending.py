"""The code on docs/extend/index.md runs, and its values keep their contracts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.pages import DOCS, load_script
from support.tiny_study import as_file, command, small, train

from paretune import objectives, plugins, tasks
from paretune.objectives.example import Example
from paretune.study import TaskSpec
from paretune.testing import (
    MethodContract,
    MetricContract,
    ObjectiveContract,
    TaskContract,
)
from paretune.testing.tiny_tasks import tiny_task

PAGE = (DOCS / "extend" / "index.md").read_text(encoding="utf-8")


def code(section: str) -> dict[str, Any]:
    """What the blocks of a section define."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    values: dict[str, Any] = {"__name__": section}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, values)  # noqa: S102 (our own page)
    assert len(values) > 2
    return values


class TestMethod(MethodContract):
    method = code("A method")["METHOD"]
    places = (("bert", "pair"),)
    neutral = ("scale",)


class TestTask(TaskContract):
    task = code("A task")["TASK"]


class TestMetric(MetricContract):
    metric = code("A metric")["METRIC"]


class TestObjective(ObjectiveContract):
    objective = code("An objective")["OBJECTIVE"]
    num_labels = 0

    def examples(self) -> list[Example]:
        texts = ["water", "The cat sat on the mat, and the dog slept by the door. " * 2] * 5
        return [
            Example(f"train:{i}", ((text, None),), float(i), f"line {i}")
            for i, text in enumerate(texts)
        ]


def test_the_suites_that_the_page_shows_are_those() -> None:
    for section, suite in (
        ("A method", MethodContract),
        ("A task", TaskContract),
        ("A metric", MetricContract),
    ):
        assert any(
            isinstance(value, type) and issubclass(value, suite) and value is not suite
            for value in code(section).values()
        )


def test_the_task_is_read() -> None:
    task = code("A task")["TASK"]
    with plugins.registered(plugins.TASKS, task):
        data = tasks.load_dataset(TaskSpec(name="parcels", language="en"))
    assert (len(data.train), len(data.test)) == (30, 10)
    assert data.train[1].segments == (("You charged me twice.", None),)
    assert objectives.get(data.kind).title


@pytest.mark.wide
def test_a_study_of_the_objective_goes_from_check_to_export(
    tmp_path: Path, tiny_model: Any, capsys: Any
) -> None:
    """Nothing else in the package knows of its kind."""
    store = ("--store", tmp_path / "store")
    with plugins.registered(plugins.OBJECTIVES, code("An objective")["OBJECTIVE"]):
        task = tiny_task(tmp_path / "data", "regression").model_copy(update={"kind": "count"})
        study = small(tmp_path, tiny_model("bert"), tasks=[task.model_dump(exclude_none=True)])
        file = as_file(study, tmp_path / "s.yaml")
        assert "test (test.csv), a count" in command(capsys, "check", file)[1]
        assert "linear probe" in command(capsys, "plan", file, *store)[1]
        train(study, tmp_path / "store")
        assert "Score: R²" in command(capsys, "report", file, *store)[1]
        assert "tiny" in command(capsys, "recommend", file, *store)[1]
        lora = ("--method", "lora", "--allow-collapsed", "--output", tmp_path / "out")
        exit_code, out, err = command(capsys, "export", file, *store, *lora)
    assert exit_code == 0, out + err
    assert "logits[:, 0].exp().round()" in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_the_walk_goes_from_the_command_to_the_report(tmp_path: Path, tiny_model: Any) -> None:
    study = as_file(small(tmp_path, tiny_model("bert")), tmp_path / "s.yaml")
    calls = load_script(DOCS.parent / "dev" / "walk.py").trace_study(study, tmp_path / "store")
    functions = [f"{file.parent.name}/{file.stem}.{name}" for file, name, _ in calls]
    assert {"verbs/run.run", "training/trainer.train_run", "verbs/report.report"} <= {*functions}


def test_the_family_is_there() -> None:
    assert code("A family of models")["tiny_model"]
