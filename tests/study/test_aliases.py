"""Words of PEFT and of Trainer: the same study under either name, or what to write instead."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from paretune import methods, plugins
from paretune.errors import MethodError, StudyError
from paretune.methods.core.options import option_defaults, parse_options
from paretune.study import (
    Generation,
    MethodSpec,
    ModelSpec,
    Run,
    Study,
    TaskSpec,
    Training,
    aliases,
    compute_run_id,
)

BASE: dict[str, Any] = {"study": "s", "tasks": "cb", "models": "m", "methods": "lora"}


def identities(raw: dict[str, Any]) -> tuple[str, str]:
    """Of the study, and of a run of it."""
    study = Study.parse({**BASE, **raw})
    run = Run(
        stage="final",
        task=study.tasks[0],
        model=study.models[0],
        method=study.methods[0],
        learning_rate=1e-3,
        seed=1,
        training=study.training,
    )
    return study.study_hash, compute_run_id(run, data_hash="d", weights_hash="w", code_epoch=1)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"methods": [{"name": "LoRA", "r": 4}]}, {"methods": [{"name": "lora", "rank": 4}]}),
        ({"methods": "LoRA"}, {"methods": ["lora"]}),
        (
            {"methods": [{"name": "dora", "lora_rank": 4, "lora_alpha": 8, "lora_dropout": 0.1}]},
            {"methods": [{"name": "dora", "rank": 4, "alpha": 8, "dropout": 0.1}]},
        ),
        ({"methods": [{"name": "LoHa", "r": 4}]}, {"methods": [{"name": "loha", "rank": 4}]}),
        ({"methods": [{"name": "lokr", "r": 4}]}, {"methods": [{"name": "lokr", "rank": 4}]}),
        (
            {"methods": [{"name": "lora", "learning_rate": 1e-3}]},
            {"methods": [{"name": "lora", "learning_rates": [1e-3]}]},
        ),
        (
            {"methods": [{"name": "lora", "target_modules": "all-linear"}]},
            {"methods": [{"name": "lora", "target_modules": "all_linear"}]},
        ),
        ({"methods": "prompt-tuning"}, {"methods": "prompt"}),
        ({"methods": "Prefix_Tuning"}, {"methods": "prefix"}),
        ({"methods": "P-Tuning"}, {"methods": "p_tuning"}),
        ({"methods": "full-fine-tuning"}, {"methods": "full"}),
        (
            {"methods": [{"name": "stack", "methods": [{"name": "LoRA", "r": 2}, "BitFit"]}]},
            {"methods": [{"name": "stack", "methods": [{"name": "lora", "rank": 2}, "bitfit"]}]},
        ),
        (
            {
                "training": {
                    "num_train_epochs": 3,
                    "per_device_train_batch_size": 8,
                    "max_seq_length": 64,
                    "warmup_ratio": 0.2,
                    "gradient_checkpointing": True,
                    "label_smoothing_factor": 0.1,
                    "early_stopping_patience": 2,
                    "eval_steps": 5,
                }
            },
            {
                "training": {
                    "epochs": 3,
                    "batch_size": 8,
                    "max_length": 64,
                    "warmup_fraction": 0.2,
                    "activation_checkpointing": True,
                    "label_smoothing": 0.1,
                    "patience": 2,
                    "eval_every": 5,
                }
            },
        ),
        ({"models": [{"model_name_or_path": "m"}]}, {"models": "m"}),
    ],
)
def test_the_study_and_its_runs_are_the_same(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    assert identities(theirs) == identities(ours)


def test_aliases_name_something_that_is_there() -> None:
    tables = [
        (aliases.TRAINING_ALIASES, Training.model_fields),
        (aliases.TASK_ALIASES, TaskSpec.model_fields),
        (aliases.MODEL_ALIASES, ModelSpec.model_fields),
        (aliases.GENERATION_ALIASES, Generation.model_fields),
    ]
    for name, table in aliases.OPTION_ALIASES.items():
        tables.append((table, option_defaults(methods.get(name).options)))
    for table, fields in tables:
        assert set(table.values()) <= set(fields)
        assert not set(table) & set(fields)
    assert set(aliases.METHOD_ALIASES.values()) <= set(methods.available())
    assert not (set(aliases.METHOD_ALIASES) | set(aliases.METHOD_HINTS)) & set(methods.available())


@pytest.mark.parametrize("name", ["r", "lora_rank"])
def test_both_aliases_are_one_too_many(name: str) -> None:
    with pytest.raises(StudyError, match=f"{name} and rank mean the same"):
        Study.parse({**BASE, "methods": [{"name": "lora", name: 4, "rank": 4}]})
    with pytest.raises(StudyError, match="num_train_epochs and epochs mean the same"):
        Study.parse({**BASE, "training": {"num_train_epochs": 4, "epochs": 4}})


def test_a_plug_in_keeps_its_name() -> None:
    with plugins.registered(plugins.METHODS, SimpleNamespace(name="MyLoRA")):
        assert MethodSpec(name="MyLoRA").name == "MyLoRA"
    assert MethodSpec(name="LoRA").name == "lora"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lorra", "Did you mean lora?"),
        ("bit_fit", "Did you mean bitfit?"),
        ("qlora", "take lora, and write quantisation: nf4 beside the model's name."),
        ("QLoRA", "take lora, and write quantisation: nf4 beside the model's name."),
        ("rslora", "write {name: lora, use_rslora: true}"),
        ("vera", "Did you mean peft:vera?"),
        ("peft:vara", "Did you mean peft:vera?"),
    ],
)
def test_methods_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(MethodError) as caught:
        methods.get(MethodSpec(name=name).name)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "option", "message"),
    [
        ("lora", "rnak", "Did you mean rank?"),
        ("lora", "target_module", "Did you mean target_modules?"),
        ("lora", "use_dora", "take the method dora"),
        ("loha", "lora_alpha", "Did you mean alpha?"),
        ("prompt", "rank", "Its options: num_virtual_tokens"),
        ("prompt", "virtual_tokens", "Did you mean num_virtual_tokens?"),
        ("peft:lora", "rank", "Did you mean r?"),
        ("peft:lora", "alpha", "Did you mean lora_alpha?"),
    ],
)
def test_options_that_are_not_there(method: str, option: str, message: str) -> None:
    module = methods.get(method)
    with pytest.raises(MethodError) as caught:
        parse_options(module.name, module.options, {option: 3})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_task_that_is_not_there() -> None:
    from paretune import tasks

    with pytest.raises(StudyError, match="Did you mean boolq"):
        tasks.load_dataset(TaskSpec(name="bolq"), None)  # type: ignore[arg-type]
