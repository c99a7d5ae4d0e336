"""Exports of decoders: opened by PEFT's own classes and by transformers, with equal logits."""

from __future__ import annotations

import ast
import json
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from support.cards import run_program
from support.tiny_study import say_numbers, small, train
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import paretune
from paretune.errors import MethodError
from paretune.verbs.export import export as export_if_learnt

export = partial(export_if_learnt, allow_collapsed=True)
"""Two steps: some of the runs have learnt nothing, which is no matter here."""
TEXTS = ["The cat sat on the mat.", "Ice"]
METHODS = [
    *({"name": name, "rank": 2} for name in ("lora", "dora", "loha")),
    *({"name": name} for name in ("ia3", "full")),
]
TRAINING = {
    **{"max_steps": 2, "eval_every": 2, "max_length": 32, "precision": "fp32"},
    "backend": "plain",
}
MERGED_ONLY = ("full",)


def run_study(folder: Path, model: Path, readout: str) -> tuple[Any, Path]:
    study = small(
        folder,
        model,
        methods=[{**method, "readout": readout} for method in METHODS],
        protocol={"trials": 1, "folds": 1, "seeds": [1], "outer": "split"},
        training=TRAINING,
    )
    return train(study, folder / "store")


@pytest.fixture(scope="module")
def head_study(tmp_path_factory: Any, tiny_model: Any) -> tuple[Any, Path]:
    """Of a model without a token for padding."""
    return run_study(tmp_path_factory.mktemp("head"), tiny_model("llama"), "head")


@pytest.fixture(scope="module")
def words_study(tmp_path_factory: Any, tiny_model: Any) -> tuple[Any, Path]:
    """Of a model whose layers are written as Conv1D, and whose LM head is tied."""
    return run_study(tmp_path_factory.mktemp("words"), tiny_model("gpt2"), "label_words")


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        scores: torch.Tensor = model.eval()(**inputs).logits
    return scores if scores.ndim == 2 else scores[inputs["attention_mask"].bool()]


def ours(study: Any, store: Path, method: str, folder: Path) -> torch.Tensor:
    export(study, store=store, method=method, form="paretune", output=folder)
    return logits(*paretune.load(folder))


@pytest.mark.parametrize("method", ["lora", "dora", "loha", "ia3", "full"])
@pytest.mark.parametrize("readout", ["head", "label_words"])
def test_they_open_with_peft_and_transformers(
    readout: str, method: str, request: Any, tmp_path: Path
) -> None:
    classifies = readout == "head"
    study, store = request.getfixturevalue("head_study" if classifies else "words_study")
    expected = ours(study, store, method, tmp_path / "own")
    export(study, store=store, method=method, form="merged", output=tmp_path / "merged")
    opener = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    merged = opener.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    if classifies:
        assert merged.config.id2label == {0: "no", 1: "yes"}
        assert merged.config.pad_token_id == tokenizer.pad_token_id
    else:
        assert merged.lm_head.weight is merged.transformer.wte.weight
        assert type(merged.transformer.h[0].mlp.c_fc).__name__ == "Conv1D"
    torch.testing.assert_close(logits(merged, tokenizer), expected, rtol=0, atol=1e-5)
    # PEFT's LoHa is for linear layers, and those of a GPT-2 are Conv1D.
    if method in MERGED_ONLY or (method == "loha" and not classifies):
        with pytest.raises(MethodError, match="It can be"):
            export(study, store=store, method=method, form="peft", output=tmp_path / "peft")
        return
    export(study, store=store, method=method, form="peft", output=tmp_path / "peft")
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["task_type"] == ("SEQ_CLS" if classifies else "CAUSAL_LM")
    assert ("score" in config["modules_to_save"]) if classifies else not config["modules_to_save"]
    opened = open_adapter(tmp_path / "peft", readout)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "peft")
    torch.testing.assert_close(logits(opened, tokenizer), expected, rtol=0, atol=1e-5)


def open_adapter(folder: Path, readout: str) -> Any:
    """The adapter by PEFT's own class for what it answers."""
    pad_id = AutoTokenizer.from_pretrained(folder).pad_token_id
    if readout == "head":
        of_head = peft.AutoPeftModelForSequenceClassification
        return of_head.from_pretrained(folder, num_labels=2, pad_token_id=pad_id)
    return peft.AutoPeftModelForCausalLM.from_pretrained(folder, pad_token_id=pad_id)


@pytest.mark.wide
@pytest.mark.parametrize("readout", ["head", "label_words"])
def test_loha_becomes_a_lora_adapter(readout: str, request: Any, tmp_path: Path) -> None:
    study, store = request.getfixturevalue("head_study" if readout == "head" else "words_study")
    expected = ours(study, store, "loha", tmp_path / "own")
    done = export(study, store=store, method="loha", form="lora", output=tmp_path / "lora")
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == config["lora_alpha"] <= 4
    assert not config["rank_pattern"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "lora")
    opened = open_adapter(tmp_path / "lora", readout)
    torch.testing.assert_close(logits(opened, tokenizer), expected, rtol=0, atol=5e-3)
    assert "This is a LoRA adapter that PEFT made of another one" in done.card
    serves = "--lora-modules words-tiny-loha=. --max-lora-rank 8" in done.card
    assert serves == (readout == "label_words")
    with pytest.raises(MethodError, match="LoRA already"):
        export(study, store=store, method="lora", form="lora", output=tmp_path / "x")
    with pytest.raises(MethodError, match="does not convert"):
        export(study, store=store, method="ia3", form="lora", output=tmp_path / "x")


@pytest.mark.wide
def test_cards_say_how_to_serve(words_study: Any, head_study: Any, tmp_path: Path) -> None:
    study, store = words_study
    adapter = export(study, store=store, method="lora", form="peft", output=tmp_path / "a").card
    assert "vllm serve BASE_FOLDER --enable-lora --lora-modules words-tiny-lora=." in adapter
    assert "convert_lora_to_gguf.py . --base BASE_FOLDER" in adapter
    merged = export(study, store=store, method="ia3", form="merged", output=tmp_path / "m").card
    assert "vllm serve . --served-model-name words-tiny-ia3" in merged
    assert "convert_hf_to_gguf.py . --outfile words-tiny-ia3.gguf" in merged
    other = export(study, store=store, method="ia3", form="peft", output=tmp_path / "i").card
    assert "take LoRA adapters only" in other
    study, store = head_study
    card = export(study, store=store, method="lora", form="peft", output=tmp_path / "h").card
    assert "Serving it" not in card


@pytest.mark.parametrize("form", ["peft", "merged", "paretune"])
@pytest.mark.parametrize("readout", ["head", "label_words"])
def test_the_program_on_the_card_runs(
    form: str, readout: str, request: Any, tmp_path: Path
) -> None:
    study, store = request.getfixturevalue("head_study" if readout == "head" else "words_study")
    export(study, store=store, method="lora", form=form, output=tmp_path / "out")
    _, printed = run_program(tmp_path / "out")
    assert printed in ("['no']", "['yes']")


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param((), id="to the end"),
        pytest.param(("\n",), id="with a stop", marks=pytest.mark.slow),
    ],
)
def test_a_model_of_instructions_is_exported_and_its_card_writes(
    stop: tuple[str, ...], tmp_path: Path, tiny_model: Any
) -> None:
    study = small(
        tmp_path,
        tiny_model("llama"),
        tasks=[say_numbers(tmp_path).model_dump(exclude_none=True)],
        methods=[{"name": "lora", "rank": 2}],
        protocol={"trials": 1, "folds": 1, "seeds": [1], "outer": "split"},
        generation={"max_new_tokens": 4, "stop": list(stop)},
    )
    _, store = train(study, tmp_path / "store")
    for form in ("peft", "merged", "paretune"):
        exported = export(study, store=store, method="lora", form=form, output=tmp_path / form)
        assert exported.largest_difference < 1e-5
        (answer,) = ast.literal_eval(run_program(tmp_path / form)[1])
        assert isinstance(answer, str)
        assert ("for end in" in exported.card) == bool(stop)
        assert "None" not in exported.card.split("```")[2]
    model = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "peft")
    assert model.peft_config["default"].r == 2
