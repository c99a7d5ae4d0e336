"""Exports of translation models: opened without paretune, they translate as the run did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.cards import run_program
from support.tiny_study import load_finals, small, train

from paretune.errors import MethodError
from paretune.tasks import load_dataset as load_task
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.verbs.export import export

FORMS = {
    "full": ("merged", "paretune"),
    "lora": ("peft", "merged", "paretune"),
    "prefix": ("paretune",),
    "prompt": ("paretune",),
    "untuned": ("merged", "paretune"),
}
"""The forms of each method on Marian, that which ``auto`` takes first."""
PREFIX = "from Slovene: "


def finished(folder: Path, models: list[Any], methods: list[Any]) -> Any:
    """A study of the tiny language, run once, and its store."""
    study = small(
        folder,
        folder,
        tasks=[tiny_pairs(folder / "data").model_dump(exclude_none=True)],
        models=models,
        methods=methods,
        protocol={"trials": 1, "folds": 1, "seeds": [1]},
        training={"max_steps": 6, "eval_every": 6, "precision": "fp32"},
        generation={"max_new_tokens": 9, "num_beams": 3, "length_penalty": 0.6},
    )
    return train(study, folder / "store")


@pytest.fixture(scope="module")
def marian(tmp_path_factory: Any) -> Any:
    folder = tmp_path_factory.mktemp("marian")
    base = translator_folder("marian", folder / "model")
    methods = [
        {"name": "lora", "rank": 4, "learning_rates": [1e-2]},
        {"name": "full", "learning_rates": [3e-4]},
        {"name": "prefix", "num_virtual_tokens": 3, "learning_rates": [3e-2]},
        {"name": "prompt", "num_virtual_tokens": 3, "learning_rates": [3e-2]},
    ]
    return finished(folder, [{"name": str(base), "label": "marian"}], methods)


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: Any) -> Any:
    """Two models that have to be told the languages, by a token and by words."""
    folder = tmp_path_factory.mktemp("multilingual")
    models = [
        {"name": str(translator_folder("mbart", folder / "mbart")), "label": "mbart"},
        {"name": str(translator_folder("t5", folder / "t5")), "label": "t5"}
        | {"source_prefix": PREFIX},
    ]
    return finished(folder, models, [{"name": "lora", "rank": 4, "learning_rates": [3e-3]}])


def kept(done: Any, model: str, method: str) -> list[str]:
    """What the run answered when it was scored."""
    (run,) = [r for r in load_finals(*done, method) if r.run.model.key == model]
    return list(run.predictions["test"].prediction)


def by_the_card(done: Any, folder: Path) -> dict[str, Any]:
    """What the code of the card in a folder makes of the test sentences."""
    texts = [e.segments[0][0] for e in load_task(done[0].tasks[0]).test]
    names, _ = run_program(folder)
    return {**names, "texts": texts, "translations": names["predict"](texts)}


def logits(model: Any, tokenizer: Any, done: Any) -> torch.Tensor:
    examples = load_task(done[0].tasks[0]).test[:6]
    batch = tokenizer([e.segments[0][0] for e in examples], padding=True, return_tensors="pt")
    target = tokenizer(text_target=[e.target for e in examples], padding=True, return_tensors="pt")
    with torch.inference_mode():
        scores: torch.Tensor = model(**batch, labels=target["input_ids"]).logits
    return scores


@pytest.mark.wide
@pytest.mark.parametrize("method", FORMS)
def test_every_form_that_can_be_translates_as_the_run_did(
    marian: Any, tmp_path: Path, method: str
) -> None:
    study, store = marian
    expected, seen = kept(marian, "marian", method), []
    assert any(expected)
    for form in ("peft", "merged", "paretune"):
        folder = tmp_path / form
        if form not in FORMS[method]:
            with pytest.raises(MethodError, match=r"It can be: .*paretune"):
                export(study, store=store, method=method, form=form, output=folder)
            continue
        assert export(study, store=store, method=method, form=form, output=folder).form == form
        names = by_the_card(marian, folder)
        assert names["translations"] == expected
        seen.append(logits(names["model"], names["tokenizer"], marian))
    for actual in seen:
        torch.testing.assert_close(actual, seen[-1], rtol=0, atol=2e-5)
    done = export(study, store=store, method=method, output=tmp_path / "auto")
    assert done.form == FORMS[method][0]


def test_the_adapter_and_its_card_say_what_they_are(marian: Any, tmp_path: Path) -> None:
    study, store = marian
    done = export(study, store=store, method="lora", output=tmp_path / "lora")
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["task_type"]) == ("LORA", "SEQ_2_SEQ_LM")
    assert not config["modules_to_save"]
    for part in (
        "# LoRA for words-sl-en",
        "base = AutoModelForSeq2SeqLM.from_pretrained(\n    base_folder, dtype=torch.float32,\n)",
        "score: BLEU",
        "| untuned model | ",
        "| copied source | ",
        "num_beams=3,\n            length_penalty=0.6,\n            max_new_tokens=9,",
        "--method lora --seed 1 --form peft",
    ):
        assert part in done.card


@pytest.mark.wide
@pytest.mark.parametrize("form", FORMS["lora"])
@pytest.mark.parametrize("model", ["mbart", "t5"])
def test_what_a_model_is_told_of_the_languages_is_on_the_card(
    multilingual: Any, tmp_path: Path, model: str, form: str
) -> None:
    study, store = multilingual
    expected = kept(multilingual, model, "lora")
    assert any(expected)
    done = export(study, store=store, model=model, method="lora", form=form, output=tmp_path / "x")
    names = by_the_card(multilingual, tmp_path / "x")
    assert names["translations"] == expected
    says = {"mbart": "tokenizer.src_lang = 'sl_SI'", "t5": f"[{PREFIX!r} + text for text in texts]"}
    assert says[model] in done.card
    if (model, form) == ("mbart", "merged"):  # and the merged model knows by itself
        english = names["tokenizer"].convert_tokens_to_ids("en_XX")
        inputs = names["tokenizer"](names["texts"], padding=True, return_tensors="pt")
        tokens = names["model"].generate(**inputs, max_new_tokens=3)
        assert tokens[:, 1].tolist() == [english] * len(names["texts"])
