"""``protocol: {preset: paper}``: the settings of every run that the paper's authors made."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from paretune.errors import StudyError
from paretune.study import Run, Study
from paretune_slovene.paper.preset import expand_preset

MODELS = {
    "sloberta": "EMBEDDIA/sloberta",
    "croslo": "EMBEDDIA/crosloengual-bert",
    "xlm": "FacebookAI/xlm-roberta-base",
}
METHODS = ("full", "lora", "loha", "prompt")


def ask(**changes: Any) -> Study:
    raw: dict[str, Any] = {
        "study": "paper",
        "tasks": [{"name": n, "language": "sl"} for n in ("boolq", "cb", "copa", "rte")],
        "models": list(MODELS.values()),
        "methods": list(METHODS),
        "protocol": {"preset": "paper"},
    }
    return Study.parse({**raw, **changes})


def find(runs: list[Run], task: str, model: str, method: str, stage: str = "final") -> Run:
    key = (task, MODELS.get(model, model), method, stage)
    (match,) = (
        run for run in runs if (run.task.name, run.model.name, run.method.name, run.stage) == key
    )
    return match


def test_every_cell_has_one_run_and_one_cost() -> None:
    runs = expand_preset(ask())
    assert len(runs) == 4 * (2 + 3 * 5 * 2)  # baselines, then three models by four and the probe
    assert {run.seed for run in runs} == {42} and {run.selection for run in runs} == {"test"}
    order = [run.stage for run in runs]
    assert order == sorted(order, key=["final", "cost"].index)
    for run in runs:
        assert run.task.template == "paper"
        assert (run.training.max_steps, run.training.precision) == (400, "fp32")
        assert (run.training.patience, run.training.eval_every) == (None, 50)
    for model in MODELS:
        for method in METHODS:
            one, cost = (find(runs, "cb", model, method, stage) for stage in ("final", "cost"))
            assert cost == one.model_copy(update={"stage": "cost"})


def test_settings_of_single_runs() -> None:
    runs = expand_preset(ask())
    run = find(runs, "cb", "sloberta", "loha")
    assert (run.learning_rate, run.training.weight_decay) == (2e-3, 0.02)
    assert run.method.options == {"rank": 16, "alpha": 32, "target_modules": ["query", "value"]}
    assert find(runs, "rte", "croslo", "full").learning_rate == 1e-5
    assert find(runs, "rte", "sloberta", "full").training.weight_decay == 0.005
    assert find(runs, "rte", "croslo", "lora").learning_rate == 2e-5
    assert find(runs, "cb", "croslo", "prompt").training.batch_size == 1
    assert find(runs, "cb", "sloberta", "prompt").training.batch_size == 8
    options = find(runs, "cb", "xlm", "prompt").method.options
    assert options == {"num_virtual_tokens": 12, "init": "random"}
    assert find(runs, "boolq", "sloberta", "lora").method.options["dropout"] == 0.1
    assert find(runs, "rte", "croslo", "head_only").learning_rate == 5e-3


def test_settings_of_tasks() -> None:
    runs = expand_preset(ask())
    for run in runs:
        assert run.task.limit == ({"train": 110, "test": 22} if run.task.name == "cb" else None)
        if run.model.name != "-":
            assert run.training.max_length == (400 if run.task.name == "boolq" else 512)


def test_translation_has_its_own_settings() -> None:
    rsdo4 = {"name": "rsdo4", "source_lang": "sl", "target_lang": "en"}
    runs = expand_preset(ask(tasks=[rsdo4], models=["Helsinki-NLP/opus-mt-sla-en"]))
    methods = [run.method.name for run in runs if run.stage == "final"]
    assert sorted(methods) == ["copy_source", "full", "loha", "lora", "prompt", "untuned"]
    for run in runs:
        assert (run.task.split, run.task.template) == ("paper", "pair")
        assert run.generation is not None and run.selection == "test"
    lora, loha, prompt, full = (
        find(runs, "rsdo4", "Helsinki-NLP/opus-mt-sla-en", name)
        for name in ("lora", "loha", "prompt", "full")
    )
    settings = lora.training
    assert (settings.batch_size, settings.epochs, settings.max_steps) == (16, 1, None)
    assert lora.method.options["dropout"] == 0.1 and settings.label_smoothing == 0
    assert (loha.training.batch_size, loha.training.max_steps) == (8, 400)
    assert (prompt.learning_rate, prompt.method.options["num_virtual_tokens"]) == (3e-3, 10)
    assert (full.learning_rate, full.training.max_length) == (2e-5, 128)


def test_as_run_takes_even_the_target_names_that_matched_nothing() -> None:
    changes = {"protocol": {"preset": "paper", "as_run": True}}
    plain, as_run = expand_preset(ask()), expand_preset(ask(**changes))
    changed = [a for a, b in zip(plain, as_run, strict=True) if a != b]
    differing = [(run.task.name, run.model.name, run.method.name) for run in changed]
    assert differing == [("boolq", MODELS["sloberta"], "loha")] * 2
    options = find(as_run, "boolq", "sloberta", "loha").method.options
    assert options["target_modules"] == ["k_proj", "q_proj", "v_proj", "out_proj", "fc1", "fc2"]
    assert options["allow_unmatched"] is True


def test_another_model_gets_the_settings_of_crosloengual() -> None:
    other = expand_preset(ask(models=["some/other-bert"], methods=["loha"]))
    known = expand_preset(ask(models=[MODELS["croslo"]], methods=["loha"]))
    for one, two in zip(other, known, strict=True):
        assert one.training == two.training and one.learning_rate == two.learning_rate


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["wsc"]}, "protocol paper has no task wsc. Its tasks: boolq, cb, copa, rte"),
        ({"methods": ["bitfit"]}, "protocol paper has no method bitfit"),
        ({"training": {"batch_size": 4}}, "the study gives training.batch_size"),
        ({"protocol": {"preset": "paper", "seeds": [1]}}, "the study gives protocol.seeds"),
        ({"methods": [{"name": "lora", "rank": 8}]}, "the study gives rank of method lora"),
        (
            {"methods": [{"name": "lora", "learning_rates": [1e-3]}]},
            "gives learning_rates of method",
        ),
    ],
)
def test_what_the_preset_cannot_follow_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        expand_preset(ask(**changes))
    assert message in str(caught.value)


def test_every_run_of_the_paper_is_planned_as_it_was(shared: Path) -> None:
    """Against the table that was read from the authors' notebooks."""
    table = shared / "paper" / "runs.csv"
    names = {"XML-bert": "xlm", "XLM-bert": "xlm", "croslo": "croslo", "sloberta": "sloberta"}
    methods = {"FT": "full", "LoRa": "lora", "LoRA": "lora", "LoHa": "loha", "prompt": "prompt"}
    runs = expand_preset(ask(protocol={"preset": "paper", "as_run": True}))
    compared = 0
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["model"] not in names:  # translation
                continue
            task, method = row["task"].lower(), methods[row["method"]]
            run = find(runs, task, names[row["model"]], method)
            where = f"{task} {row['model']} {method}"
            assert run.learning_rate == float(row["learning_rate"]), where
            assert run.training.batch_size == int(row["per_device_train_batch_size"]), where
            assert run.training.weight_decay == float(row["weight_decay"]), where
            assert run.training.max_steps == int(row["max_steps"]), where
            assert run.training.max_length == int(row["max_length"] or 512), where
            options = run.method.options
            if method in ("lora", "loha"):
                assert f"r={options['rank']} " in row["peft"], where
                assert f"alpha={options['alpha']}" in row["peft"], where
                assert ("lora_dropout=0.1" in row["peft"]) == ("dropout" in options), where
                assert ("fc1" in row["peft"]) == ("fc1" in options["target_modules"]), where
            if method == "prompt":
                assert f"num_virtual_tokens={options['num_virtual_tokens']}" in row["peft"], where
            compared += 1
    assert compared == 45
