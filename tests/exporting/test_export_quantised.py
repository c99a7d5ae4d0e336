"""Exports of runs on a quantised base: the card's program holds the base as it was trained on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_study import finish, small
from transformers import LlamaConfig, LlamaForCausalLM

import paretune
from paretune.exporting import loading_snippets
from paretune.models.quantised import require_backend
from paretune.verbs.export import export

TEXTS = ["The cat sat on the mat.", "Ice"]


def widened(folder: Path) -> Path:
    """The model with 64 inputs in each layer: bitsandbytes' kernels want whole blocks of them."""
    config = LlamaConfig.from_pretrained(folder)
    config.update({"hidden_size": 64, "intermediate_size": 128, "head_dim": 16})
    (folder / "model.safetensors").unlink()
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["head", "label_words"])
def nf4_study(request: Any, tmp_path_factory: Any, tiny_model: Any) -> tuple[Any, Path]:
    pytest.importorskip("bitsandbytes", reason="nf4 needs bitsandbytes: pip install bitsandbytes")
    require_backend("nf4", "here")
    folder = tmp_path_factory.mktemp("nf4")
    model = widened(tiny_model("llama", folder / "model"))
    study = small(
        folder,
        model,
        models=[{"name": str(model), "label": "tiny", "quantisation": "nf4"}],
        methods=[{"name": "lora", "rank": 2, "readout": request.param}],
        protocol={"trials": 1, "folds": 1, "seeds": [1], "outer": "split"},
    )
    finish(study, folder / "store", costs=0).close()
    return study, folder / "store"


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        scores: torch.Tensor = model.eval()(**inputs).logits.float()
    return scores if scores.ndim == 2 else scores[inputs["attention_mask"].bool()]


@pytest.mark.slow
def test_the_program_opens_the_base_in_4_bits(
    nf4_study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By bitsandbytes' own layers, which on some processors compute in bf16."""
    study, store = nf4_study
    asked: dict[str, Any] = {"store": store, "method": "lora", "allow_collapsed": True}
    export(study, form="paretune", to=tmp_path / "own", **asked)
    expected = logits(*paretune.load(tmp_path / "own"))
    card = export(study, form="peft", to=tmp_path / "peft", **asked).card
    assert "trained with its linear layers in nf4, and the program opens it so" in card
    program = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    monkeypatch.chdir(tmp_path / "peft")
    names: dict[str, Any] = {}
    exec(compile(program, "card", "exec"), names)  # noqa: S102 (the card's own program)
    found = logits(names["model"], names["tokenizer"])
    plain = loading_snippets.NF4.splitlines()[0] in program
    assert plain and type(names["base"].model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    near = (found - expected).abs().mean() / expected.abs().mean()
    assert near < 0.03
    export(study, form="merged", to=tmp_path / "merged", **asked)


def test_int8_says_that_its_rounding_is_paretunes_own(tmp_path: Path, tiny_model: Any) -> None:
    study = small(
        tmp_path,
        tiny_model("bert"),
        models=[{"name": str(tiny_model("bert")), "label": "tiny", "quantisation": "int8"}],
        protocol={"trials": 1, "folds": 1, "seeds": [1], "outer": "split"},
    )
    finish(study, tmp_path / "store", costs=0).close()
    asked: dict[str, Any] = {"store": tmp_path / "store", "method": "lora", "allow_collapsed": True}
    card = export(study, form="peft", to=tmp_path / "peft", **asked).card
    assert "those of the run are those of `--form paretune`" in card
    assert "quantization_config" not in card
