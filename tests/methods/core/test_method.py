"""What a study file may say to a method, and what it is told when it says something else."""

from __future__ import annotations

import math
import pkgutil
from typing import Any

import pytest

from paretune import methods
from paretune.errors import MethodError, StudyError
from paretune.methods import lora, prompt
from paretune.methods.core import registry, titles
from paretune.methods.core.options import parse_options
from paretune.study import Generation, ModelSpec, Study, TaskSpec, Training, validation_errors

BASE: dict[str, Any] = {"study": "s", "tasks": "cb", "models": "m", "methods": "lora"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "method lora, option rank: 0 is less than 1."),
        ({"rank": 1025}, "1025 is more than 1024."),
        ({"rank": "8"}, 'method lora, option rank: "8" is not a whole number.'),
        ({"rank": 8.0}, "8.0 is not a whole number."),
        ({"rank": True}, "true is not a whole number."),
        ({"rank": None}, "null is not a whole number."),
        ({"alpha": True}, "true is not a number."),
        ({"alpha": math.nan}, "nan is not a finite number."),
        ({"alpha": math.inf}, "inf is not a finite number."),
        ({"alpha": -1}, "-1 is less than 0.01."),
        ({"dropout": 1.0}, "1.0 is more than 0.9."),
        ({"allow_unmatched": 1}, "1 is neither true nor false."),
        ({"target_modules": 3}, "option target_modules: 3 is not a text."),
        ({"target_modules": ["query", 3]}, "option target_modules.1: 3 is not a text."),
        ({"target_modules": []}, "option target_modules: is empty."),
    ],
)
def test_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError) as caught:
        parse_options("lora", lora.LoraOptions, values)
    assert message in str(caught.value)
    assert caught.value.exit_code == 5


def test_a_word_that_is_not_among_the_choices() -> None:
    with pytest.raises(MethodError, match='option init: "zeros" is not one of vocabulary, random'):
        parse_options("prompt", prompt.PromptOptions, {"init": "zeros"})


def test_what_is_given_is_taken() -> None:
    options_by_name = {"rank": 4, "alpha": 8, "target_modules": "key"}
    options = parse_options("lora", lora.LoraOptions, options_by_name)
    assert options == lora.LoraOptions(rank=4, alpha=8.0, target_modules=("key",))
    assert isinstance(options.alpha, float) and options.scaling == 2.0
    assert parse_options("lora", lora.LoraOptions, {}).scaling == 2.0  # alpha is twice the rank
    assert parse_options("lora", lora.LoraOptions, {"alpha": None}) == lora.LoraOptions()
    assert parse_options("lora", lora.LoraOptions, {"rank": 1024, "alpha": 0.01}).rank == 1024


def test_defaults_are_within_their_own_range() -> None:
    for module in methods.available().values():
        defaults = module.options().model_dump()
        assert parse_options(module.name, module.options, defaults) == module.options()


def test_the_folder_is_the_list() -> None:
    files = {module.name for module in pkgutil.iter_modules(methods.__path__) if not module.ispkg}
    assert files - {"baselines"} == set(titles.TITLES)
    modules = methods.available()
    assert {"full", "head_only", "lora", "loha", "prompt", "majority", "tfidf"} <= set(modules)
    for name, module in modules.items():
        assert name == module.name and module.code_epoch >= 1
        assert module.title == methods.title_of(name)
        if isinstance(module, methods.Method) and module.learning_rates is not None:
            for rates in (module.learning_rates, module.decoder_learning_rates):
                low, middle, high = rates or module.learning_rates
                assert 0 < low < middle < high
    without_rates = [
        name
        for name, method in modules.items()
        if isinstance(method, methods.Method) and method.learning_rates is None
    ]
    assert without_rates == ["untuned", "few_shot"]


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
        ({"models": [{"name": "m", "load_in_4bit": True}]}, "write quantisation: nf4"),
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
