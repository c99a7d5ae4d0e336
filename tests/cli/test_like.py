"""``paretune new --like``: the first row of a study from what another trainer has written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
from ruamel.yaml import YAML
from support.tiny_study import command, two_files
from transformers import TrainingArguments

from paretune.study import Study
from paretune.verbs.like import ABOUT_THE_FILE, LORA_OPTIONS, USUAL_LORA, read_settings
from paretune.verbs.new import new


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``train.csv`` in the present folder."""
    monkeypatch.chdir(tmp_path)
    two_files(tmp_path)


def write(name: str, **values: Any) -> str:
    Path(name).write_text(json.dumps(values), encoding="utf-8")
    return name


def row(**values: Any) -> str:
    return write("adapter_config.json", **{"peft_type": "LORA", **values})


def test_files_of_the_libraries_become_the_first_row() -> None:
    config = peft.LoraConfig(
        r=4,
        lora_alpha=12,
        lora_dropout=0.1,
        target_modules=["query", "value"],
        bias="all",
        task_type="SEQ_CLS",
        modules_to_save=["classifier", "score"],
        base_model_name_or_path="some/model",
    )
    config.save_pretrained(".")
    arguments = TrainingArguments(
        output_dir="out",
        learning_rate=3e-4,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=4,
        num_train_epochs=5,
        lr_scheduler_type="cosine",
        weight_decay=0.0,
        adam_beta2=0.95,
        use_cpu=True,
    )
    Path("training_args.json").write_text(arguments.to_json_string(), encoding="utf-8")
    result = new("train.csv", like=["adapter_config.json", "training_args.json"])
    study = Study.load(result.file)
    first = study.methods[0]
    assert (first.name, first.label, first.learning_rates) == ("lora", "given", (3e-4,))
    targets = sorted(first.options.pop("target_modules"))
    assert targets == ["query", "value"] and "modules_to_save" not in first.options
    assert {k: first.options[k] for k in ("rank", "alpha", "dropout")} == {
        "rank": 4,
        "alpha": 12,
        "dropout": 0.1,
    }
    training = study.training
    assert (training.batch_size, training.epochs, training.schedule) == (32, 5, "cosine")
    assert (training.weight_decay, training.max_steps) == (0.0, None)
    assert [model.name for model in study.models] == ["some/model"]
    assert [method.key for method in study.methods[1:3]] == ["full", "lora"]
    left_out = [doubt for doubt in result.doubts if "was not taken" in doubt]
    assert left_out == [
        'adapter_config.json: bias: "all" was not taken.',
        "training_args.json: adam_beta2: 0.95 was not taken.",
    ]
    text = result.file.read_text(encoding="utf-8")
    assert "# `paretune ls methods` lists all" in text and "# evaluations without a gain" in text


def test_what_peft_writes_by_itself_is_not_named() -> None:
    """Where a new version of peft writes more, that has to be looked at."""
    peft.LoraConfig(r=4).save_pretrained(".")
    settings = read_settings("adapter_config.json")
    assert settings.left_out == [] and settings.method["rank"] == 4
    fields = {*peft.LoraConfig.__dataclass_fields__}
    assert {*LORA_OPTIONS, *USUAL_LORA} <= fields
    assert ABOUT_THE_FILE - fields == set()


def test_words_of_peft_are_read_as_peft_means_them() -> None:
    settings = read_settings([row(r=2, target_modules="all-linear", use_dora=True)])
    assert settings.method == {
        "name": "dora", "label": "given", "rank": 2, "target_modules": ["all_linear"],
    }  # fmt: skip
    settings = read_settings([row(r=2, lora_dropout=0.0, init_lora_weights="pissa")])
    assert settings.method["dropout"] == 0.0
    assert settings.left_out == ['adapter_config.json: init_lora_weights: "pissa" was not taken.']


def test_a_trainer_alone_has_trained_all_weights() -> None:
    args = write(
        "args.json",
        learning_rate=2e-5,
        num_train_epochs=2.5,
        max_steps=-1,
        lr_scheduler_type="polynomial",
        warmup_steps=50,
        bf16=True,
    )
    settings = read_settings([args])
    assert settings.method == {"name": "full", "label": "given", "learning_rates": [2e-5]}
    assert settings.training == {"precision": "bf16"}
    assert settings.left_out == [
        "args.json: num_train_epochs: 2.5 was not taken.",
        'args.json: lr_scheduler_type: "polynomial" was not taken.',
        "args.json: warmup_steps: 50 was not taken.",
    ]
    steps = write("steps.json", learning_rate=2e-5, num_train_epochs=3, max_steps=40)
    assert read_settings([steps]).training == {"max_steps": 40}


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("{", 2, "adapter_config.json: is no JSON ("),
        ("[1]", 2, "adapter_config.json: holds no JSON object."),
        ('{"a": 1}', 2, "is neither an adapter_config.json of peft nor the arguments of a trainer"),
        ('{"peft_type": "IA3"}', 2, "is of peft_type IA3, and only a LoRA is taken. Write a row "
         "`peft:ia3` with"),
        ('{"peft_type": "MAGIC"}', 2, "is of peft_type MAGIC, and only a LoRA is taken.\n"),
        ('{"peft_type": "LORA", "r": 5000}', 5, "option rank"),
        ('{"peft_type": "LORA", "r": "eight"}', 5, "option rank"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    content: str, code: int, message: str, capsys: Any
) -> None:
    Path("adapter_config.json").write_text(content, encoding="utf-8")
    ended, out, err = command(capsys, "new", "train.csv", "--like", "adapter_config.json")
    assert (ended, out) == (code, "") and message in err and "Traceback" not in err
    assert not Path("train.yaml").exists()


def test_files_that_do_not_go_together_are_refused(capsys: Any) -> None:
    code, _, err = command(capsys, "new", "train.csv", "--like", "none.json")
    assert code == 2 and "none.json: no such file." in err
    args = [row(r=2), write("b.json", peft_type="LORA")]
    code, _, err = command(capsys, "new", "train.csv", "--like", args[0], "--like", args[1])
    assert code == 2 and "is a second file of an adapter, beside adapter_config.json" in err
    code, _, err = command(capsys, "new", "demo", "--like", args[0])
    assert code == 2 and "is a shipped study" in err
    for values, message in (
        ({"learning_rate": "fast"}, "is not a number"),
        ({"learning_rate": 1e-3, "per_device_train_batch_size": "8"}, '"8" as per_device_train'),
        ({"learning_rate": 1e-3, "num_train_epochs": [3]}, "[3] as num_train_epochs, which is no"),
        ({"learning_rate": 1e-3, "per_device_train_batch_size": 0}, "batch_size"),
    ):
        code, _, err = command(capsys, "new", "train.csv", "--like", write("w.json", **values))
        assert code == 2 and message in err and not Path("train.yaml").exists()


def test_the_file_is_yaml_with_the_row_on_one_line() -> None:
    file = new("train.csv", like=[row(r=2, lora_alpha=4)]).file
    lines = file.read_text(encoding="utf-8").splitlines()
    assert "- {name: lora, label: given, rank: 2, alpha: 4}" in lines
    assert YAML(typ="safe").load(file.read_text(encoding="utf-8"))["methods"][0]["rank"] == 2
