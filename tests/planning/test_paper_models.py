"""The paper's models under any of their hub names are given the paper's own settings."""

from __future__ import annotations

import pytest

from paretune.planning import paper
from paretune.study import Run, Study


def runs(model: str, task: str = "cb", **protocol: bool) -> list[Run]:
    raw = {
        "study": "p",
        "tasks": [{"name": task, "language": "sl"}],
        "models": [model],
        "methods": ["full", "lora", "loha", "prompt"],
        "protocol": {"preset": "paper", **protocol},
    }
    return paper.expand(Study.parse(raw))


def final(model: str, method: str, task: str = "cb", **protocol: bool) -> Run:
    (found,) = (
        run
        for run in runs(model, task, **protocol)
        if run.stage == "final" and run.method.name == method
    )
    return found


@pytest.mark.parametrize("name", ["xlm-roberta-base", "FacebookAI/xlm-roberta-base"])
def test_both_names_of_xlm_r_are_the_papers(name: str) -> None:
    assert final(name, "prompt").training.batch_size == 1
    assert final(name, "loha", "rte").learning_rate == 3e-3
    assert final(name, "full", "rte").learning_rate == 2e-5


def test_each_model_has_settings_of_its_own() -> None:
    assert final("EMBEDDIA/sloberta", "loha").learning_rate == 2e-3
    assert final("EMBEDDIA/crosloengual-bert", "full", "rte").learning_rate == 1e-5
    assert final("someone/elses-model", "full", "rte").learning_rate == 1e-5


def test_the_preset_is_one_seed_selected_on_test() -> None:
    found = runs("EMBEDDIA/sloberta")
    assert {(run.seed, run.selection) for run in found} == {(42, "test")}
    assert {dict(run.task.limit or {})["train"] for run in found} == {110}
    assert [run.stage for run in found] == ["final"] * 6 + ["cost"] * 4


def test_as_run_takes_even_the_names_that_matched_nothing() -> None:
    names = final("EMBEDDIA/sloberta", "loha", "boolq", as_run=True).method.options
    assert "k_proj" in names["target_modules"] and names["allow_unmatched"] is True
    assert final("EMBEDDIA/sloberta", "loha", "boolq").method.options["target_modules"] == [
        "query",
        "value",
    ]
