"""A base held in bf16 keeps nothing of the weight file that it came from."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paretune import objectives
from paretune.models.bf16_weights import cast_to_bf16
from paretune.models.load import LoadedModel, load_model
from paretune.models.sources.resolve import resolve_source
from paretune.study import ModelSpec
from paretune.testing.translator_folders import tiny_marian

MAPS = Path("/proc/self/maps")


def opened(folder: Path) -> LoadedModel:
    return load_model(
        resolve_source(ModelSpec(name=str(folder))),
        objectives.get("classification").head_spec(("a", "b")),
    )


def translator(folder: Path) -> LoadedModel:
    source = resolve_source(ModelSpec(name=str(folder)))
    return load_model(source, objectives.get("translation").head_spec((), ("sl", "en")))


@pytest.mark.skipif(not MAPS.is_file(), reason="needs Linux's /proc/self/maps")
@pytest.mark.parametrize("family", ["bert", "modernbert", "marian"])
def test_the_weight_file_is_no_longer_mapped(tiny_model, tmp_path, family):
    if family == "marian":
        folder = tiny_marian(tmp_path / family)
        loaded = translator(folder)
    else:
        folder = tiny_model(family, tmp_path / family)
        loaded = opened(folder)
    weights = str(folder / "model.safetensors")
    assert weights in MAPS.read_text(encoding="utf-8")
    cast_to_bf16(loaded.model, loaded.anatomy)
    gc.collect()
    assert weights not in MAPS.read_text(encoding="utf-8")


def test_what_stays_in_fp32_has_the_same_bits(tiny_model):
    plain, in_bf16 = opened(tiny_model("bert")), opened(tiny_model("bert"))
    cast_to_bf16(in_bf16.model, in_bf16.anatomy)
    cast = {f"{name}.weight" for name in in_bf16.anatomy.linear_layers}
    assert cast
    for (name, expected), result in zip(
        plain.model.named_parameters(), in_bf16.model.parameters(), strict=True
    ):
        if name in cast:
            assert torch.equal(result, expected.to(torch.bfloat16)), name
        elif name not in in_bf16.head_parameters:
            assert result.dtype == torch.float32, name
            assert torch.equal(result, expected), name


def test_tied_tables_stay_tied(tmp_path):
    loaded = translator(tiny_marian(tmp_path / "marian"))
    cast_to_bf16(loaded.model, loaded.anatomy)
    words = loaded.model.get_input_embeddings().weight
    assert loaded.model.get_output_embeddings().weight is words


MEASURE = """
import gc, json, sys
from paretune import objectives
from paretune.measuring.counters import read_status_bytes
from paretune.models.bf16_weights import cast_to_bf16
from paretune.models.load import load_model
from paretune.models.sources.resolve import resolve_source
from paretune.study import ModelSpec

def load(folder):
    head = objectives.get("classification").head_spec(("a", "b"))
    loaded = load_model(resolve_source(ModelSpec(name=folder)), head)
    cast_to_bf16(loaded.model, loaded.anatomy)
    gc.collect()
    return loaded

load(sys.argv[1])  # what comes with the first model: imports, buffers of products
before = read_status_bytes("VmRSS")
loaded = load(sys.argv[2])
size = sum(p.numel() * p.element_size() for p in loaded.model.parameters())
print(json.dumps({"grown": read_status_bytes("VmRSS") - before, "parameters": size}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not MAPS.is_file(), reason="needs Linux's /proc/self/status")
def test_a_process_grows_by_the_bytes_of_the_parameters(tiny_model, tmp_path):
    """About 140 MB in fp32 (a word table of 41 MB in it), 93 MB as held."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    folder = tiny_model("roberta", tmp_path / "large")
    config = AutoConfig.from_pretrained(folder)
    config.update({"vocab_size": 20_000, "hidden_size": 512, "intermediate_size": 2048})
    config.update({"num_hidden_layers": 8, "num_attention_heads": 8})
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tiny_model("roberta")), str(folder)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert 80e6 < result["parameters"] < 110e6
    assert result["grown"] < result["parameters"] + 25e6  # before: 60 MB more, the mapped matrices
