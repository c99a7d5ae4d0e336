"""Exports of runs on a quantised base: the card's program holds the base as it was trained on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_study import finish, small
from torch import nn

import paretune
from paretune.models.quantised import require_backend
from paretune.verbs.export import export


@pytest.fixture(scope="module", params=["head", "label_words"])
def nf4_study(request: Any, tmp_path_factory: Any, tiny_model: Any) -> tuple[Any, Path]:
    pytest.importorskip("bitsandbytes", reason="nf4 needs bitsandbytes: pip install bitsandbytes")
    require_backend("nf4", "here")
    folder = tmp_path_factory.mktemp("nf4")
    model = str(tiny_model("llama"))
    study = small(
        folder,
        tiny_model("llama"),
        models=[{"name": model, "label": "tiny", "quantisation": "nf4"}],
        methods=[{"name": "lora", "rank": 2, "readout": request.param}],
        protocol={"trials": 1, "folds": 1, "seeds": [1], "outer": "split"},
    )
    finish(study, folder / "store", costs=0).close()
    return study, folder / "store"


@pytest.mark.slow
def test_the_program_opens_the_base_in_4_bits(
    nf4_study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every frozen weight is the one that the run trained beside; the head is not quantised.

    Logits are not compared: bitsandbytes multiplies by kernels that round to bf16, and on some
    processors want larger layers than these. There it would pack the weights anew.
    """
    functional = pytest.importorskip("bitsandbytes.functional")
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    study, store = nf4_study
    asked: dict[str, Any] = {"store": store, "method": "lora", "allow_collapsed": True}
    export(study, form="paretune", to=tmp_path / "own", **asked)
    ours, _ = paretune.load(tmp_path / "own")
    card = export(study, form="peft", to=tmp_path / "peft", **asked).card
    assert "trained with its linear layers in nf4, and the program opens it so" in card
    program = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    monkeypatch.chdir(tmp_path / "peft")
    names: dict[str, Any] = {}
    exec(compile(program, "card", "exec"), names)  # noqa: S102 (the card's own program)
    opened = names["base"]
    head = opened.score if hasattr(opened, "score") else opened.lm_head
    assert type(getattr(head, "original_module", head)) is nn.Linear
    for number, layer in enumerate(opened.model.layers):
        for part in ("gate_proj", "up_proj", "down_proj"):
            weight = layer.mlp.get_submodule(part).weight
            theirs = functional.dequantize_4bit(weight.data, weight.quant_state)
            own = ours.get_submodule(f"model.layers.{number}.mlp.{part}").weight
            torch.testing.assert_close(theirs.float(), own.float(), rtol=0, atol=1e-6)
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
