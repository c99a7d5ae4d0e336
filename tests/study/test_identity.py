"""Identities on disk: a change of one of these hashes makes every stored study and run a
stranger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune.study import (
    Generation,
    MethodSpec,
    ModelSpec,
    Run,
    Study,
    TaskSpec,
    Training,
    compute_run_id,
    derive_seed,
    digest,
)

OWN = {"train": "train.csv", "test": "test.csv", "text": "text", "label": "label"}
TASKS: dict[str, dict[str, Any]] = {
    "built_in": {"name": "cb", "language": "sl"},
    "paper_split": {"name": "boolq", "language": "sl", "split": "paper", "template": "paper"},
    "classification": {"name": "topics", "kind": "classification", **OWN, "labels": ["a", "b"]},
    "pair": {"name": "nli", "kind": "pair", **OWN, "text_pair": "hypothesis"},
    "choice": {
        "name": "quiz",
        "kind": "multiple_choice",
        **OWN,
        "choices": ["c1", "c2"],
        "question": "question",
    },
    "regression": {"name": "price", "kind": "regression", **OWN, "metric": "r2"},
    "table": {
        "name": "houses",
        "kind": "regression",
        "train": "train.csv",
        "features": ["rooms", "year"],
        "label": "price",
        "template": "{rooms} rooms, built in {year}.",
    },
    "translation": {
        "name": "news",
        "kind": "translation",
        "train": "train.tsv",
        "source_lang": "sl",
        "target_lang": "en",
    },
}
STUDIES = {
    "built_in": "370acbc2c3399213",
    "paper_split": "bee94045a32452c7",
    "classification": "458bef5428e391be",
    "pair": "422ad232464413e2",
    "choice": "d75f3a3aba10d493",
    "regression": "d26f98b600da1fc8",
    "table": "d09d936463185413",
    "translation": "931d62cc6e836189",
}
RUNS = {
    "built_in": "4b8ec969d38b399a90aa",
    "paper_split": "dbec4c0632326e361f4d",
    "classification": "04e01bca386298b82c3a",
    "pair": "1ab46e3ab340775d566c",
    "choice": "354351275bf822b20bac",
    "regression": "3e59cbc81003149af426",
    "table": "ec6a88911d326fd3423e",
    "translation": "ff4d6bf935a69f628152",
}


def study_of(task: str) -> Study:
    raw = {
        "study": "golden",
        "tasks": [TASKS[task]],
        "models": [{"name": "./encoder", "label": "tiny"}, "org/model"],
        "methods": ["full", {"name": "lora", "rank": 4, "target_modules": "all_linear"}],
        "protocol": {"preset": "trials", "seeds": [1, 2], "trials": 1},
        "training": {"max_steps": 3},
    }
    return Study.parse(raw, base=Path("/nowhere"))


def run_of(task: str) -> Run:
    spec = TaskSpec.model_validate(TASKS[task])
    return Run(
        stage="final",
        task=spec,
        model=ModelSpec(name="org/model", revision="abc"),
        method=MethodSpec.model_validate({"name": "lora", "rank": 4}),
        learning_rate=3e-4,
        seed=7,
        training=Training(batch_size=8, precision="fp32"),
        generation=Generation(num_beams=2) if spec.target_lang else None,
    )


def identify(run: Run) -> str:
    return compute_run_id(run, data_hash="d" * 64, weights_hash="w" * 64, code_epoch=1)


@pytest.mark.parametrize("task", TASKS)
def test_the_hash_of_a_study_is_what_it_was(task: str) -> None:
    assert study_of(task).study_hash == STUDIES[task]


@pytest.mark.parametrize("task", TASKS)
def test_the_identity_of_a_run_is_what_it_was(task: str) -> None:
    assert identify(run_of(task)) == RUNS[task]


@pytest.mark.parametrize(
    "setting",
    [
        {"label_smoothing": 0.1},
        {"activation_checkpointing": True},
        {"max_steps": 3},
        {"dropout": 0.0},
    ],
)
def test_a_setting_that_changes_results_changes_the_identity(setting: dict[str, Any]) -> None:
    run = run_of("classification")
    changed = run.model_copy(update={"training": run.training.model_copy(update=setting)})
    assert identify(changed) != identify(run)


def test_names_for_display_and_places_of_files_are_no_part_of_an_identity() -> None:
    run = run_of("classification")
    moved = run.task.model_copy(update={"train": "/elsewhere/train.csv", "licence": "CC0-1.0"})
    labelled = run.method.model_copy(update={"label": "mine"})
    assert identify(run.model_copy(update={"task": moved, "method": labelled})) == identify(run)


def test_private_seeds_and_digests_are_what_they_were() -> None:
    assert derive_seed(1, "init") == 5267816590608909949
    assert derive_seed(1, "order", 3) == 5263713049995906136
    assert digest({"b": [1, 0.1, None], "a": "č"}) == (
        "3fe84dac5f59af357c6f080dc8bef7848544a2869acfed501895d41c2e630559"
    )


@pytest.mark.parametrize("task", TASKS)
def test_what_a_head_reads_is_no_prompt(task: str) -> None:
    run = run_of(task)
    head_task = run.task.model_copy(update={"prompt": "{text} ->", "readout": "head"})
    assert identify(run.model_copy(update={"task": head_task})) == RUNS[task]


def test_another_readout_is_another_run() -> None:
    run = run_of("built_in")
    readouts = ("head", "label_words", "text")
    assert len({identify(run.model_copy(update={"readout": one})) for one in readouts}) == 3


def test_a_smoothed_reward_is_no_run_of_a_store_that_passed_it_over() -> None:
    run = run_of("built_in").model_copy(update={"readout": "reward"})
    form = run.canonical_form()
    smoothed = run.model_copy(update={"training": Training(batch_size=8, label_smoothing=0.1)})
    assert "loss" not in form and smoothed.canonical_form()["loss"] == "cdpo"
    assert "loss" not in smoothed.model_copy(update={"readout": "text"}).canonical_form()


@pytest.mark.parametrize(
    "changes",
    [
        {"tasks": [{**TASKS["built_in"], "readout": "label_words"}]},
        {"tasks": [{**TASKS["built_in"], "label_texts": ["a", "b", "c"]}]},
        {"methods": [{"name": "lora", "readout": "head"}]},
    ],
)
def test_readouts_and_prompts_are_part_of_a_study(changes: dict[str, Any]) -> None:
    raw = {
        "study": "golden",
        "tasks": [TASKS["built_in"]],
        "models": ["org/model"],
        "methods": ["lora"],
    }
    assert Study.parse(raw).study_hash != Study.parse({**raw, **changes}).study_hash


def test_a_quantised_model_is_another() -> None:
    plain = study_of("pair")
    quantised = plain.model_copy(
        update={"models": (plain.models[0].model_copy(update={"quantisation": "nf4"}),)}
    )
    assert quantised.study_hash != plain.study_hash
    model = ModelSpec(name="x/base")
    run = Run(
        stage="final", task=plain.tasks[0], model=model, method=MethodSpec(name="lora"),
        learning_rate=1e-3, seed=1,
    )  # fmt: skip
    other = run.model_copy(update={"model": ModelSpec(name="x/base", quantisation="nf4")})
    assert other.canonical_form() == {**run.canonical_form(), "quantisation": "nf4"}
    assert run.cell[1] == "base" and other.cell[1] == "base-nf4"
