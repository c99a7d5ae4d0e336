"""Words of PEFT and of Trainer, and near misses: what is said to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from paretune import methods
from paretune.errors import MethodError, StudyError
from paretune.methods.core import registry
from paretune.methods.core.options import parse_options
from paretune.study import Generation, ModelSpec, Study, TaskSpec, Training, validation_errors

BASE: dict[str, Any] = {"study": "s", "tasks": "cb", "models": "m", "methods": "lora"}


def test_synonyms_name_something_that_is_there() -> None:
    models = (Training, TaskSpec, ModelSpec, Generation, methods.get("lora").options)
    keys = {key for model in models for key in model.model_fields}
    words = {*validation_errors.SYNONYMS, *validation_errors.KEY_HINTS}
    assert set(validation_errors.SYNONYMS.values()) <= keys and not words & keys
    names = set(methods.available())
    assert set(registry.SYNONYMS.values()) <= names
    assert not {*registry.SYNONYMS, *registry.METHOD_HINTS} & names


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training": {"num_train_epochs": 3}}, 'key "num_train_epochs". Did you mean epochs?'),
        ({"training": {"epoch": 3}}, 'training: unknown key "epoch". Did you mean epochs?'),
        ({"training": {"lr": 1e-3}}, 'unknown key "lr": learning rates belong to a method'),
        ({"models": [{"name": "m", "load_in_4bit": True}]}, "write quantisation: nf4 beside"),
        ({"training": {"colour": 3}}, 'unknown key "colour". There are: batch_size, '),
    ],
)
def test_keys_that_are_not_there(values: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        Study.parse({**BASE, **values})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LoRA", "Did you mean lora?"),
        ("lorra", "Did you mean lora?"),
        ("bit_fit", "Did you mean bitfit?"),
        ("prompt-tuning", "Did you mean prompt?"),
        ("QLoRA", "take lora, and write quantisation: nf4 beside the model's name."),
        ("rslora", "write {name: lora, use_rslora: true}"),
        ("vera", "Did you mean peft:vera?"),
        ("peft:vara", "Did you mean peft:vera?"),
        ("xyz", "Known methods: "),
    ],
)
def test_methods_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(MethodError) as caught:
        methods.get(name)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "option", "message"),
    [
        ("lora", "rnak", 'method lora: unknown key "rnak". Did you mean rank?'),
        ("lora", "r", "Did you mean rank?"),
        ("loha", "lora_alpha", "Did you mean alpha?"),
        ("lora", "learning_rate", "learning rates belong to a method"),
        ("lora", "use_dora", "take the method dora"),
        ("prompt", "rank", "There are: num_virtual_tokens"),
        ("full", "rank", "There are: none."),
        ("peft:lora", "rank", "write r."),
        ("peft:lora", "alpha", "write lora_alpha."),
    ],
)
def test_options_that_are_not_there(method: str, option: str, message: str) -> None:
    module = methods.get(method)
    with pytest.raises(MethodError) as caught:
        parse_options(module.name, module.options, {option: 3})
    assert message in str(caught.value) and "\n" not in str(caught.value)
