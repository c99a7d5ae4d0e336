"""A process holds the weights that it asked for, and on the way one tensor more."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

MEASURE = """
import gc, json, sys
from paretune import objectives
from paretune.measuring.memory import read_status_bytes
from paretune.models.load import load_model
from paretune.models.sources.resolve import resolve_source
from paretune.study import ModelSpec

def load(folder, bf16, quantisation):
    head = objectives.get("classification").head_spec(("a", "b"))
    spec = ModelSpec(name=folder, quantisation=quantisation)
    return load_model(resolve_source(spec), head, bf16=bf16)

bf16, quantisation = sys.argv[3] == "bf16", sys.argv[4] or None
load(sys.argv[1], bf16, quantisation)  # what comes with the first model: imports, buffers
gc.collect()
before = read_status_bytes("VmRSS")
with open("/proc/self/clear_refs", "w") as mark:
    mark.write("5")
loaded = load(sys.argv[2], bf16, quantisation)
peak = read_status_bytes("VmHWM") - before
gc.collect()
tensors = (*loaded.model.parameters(), *loaded.model.buffers())
size = sum(t.numel() * t.element_size() for t in tensors)
print(json.dumps({"peak": peak, "grown": read_status_bytes("VmRSS") - before, "held": size}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc/self/status")
@pytest.mark.parametrize("quantisation", ["", "int8"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shard", ["10GB", "40MB"])
def test_loading_takes_the_bytes_that_are_held(
    shard, stored, precision, quantisation, tiny_model, tmp_path
):
    """140 MB in fp32, a word table of 41 MB in it; four forms, of one file and of several."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    folder = tiny_model("roberta", tmp_path / "large")
    config = AutoConfig.from_pretrained(folder)
    config.update({"vocab_size": 20_000, "hidden_size": 512, "intermediate_size": 2048})
    config.update({"num_hidden_layers": 8, "num_attention_heads": 8})
    (folder / "model.safetensors").unlink()
    model = AutoModelForMaskedLM.from_config(config).to(stored)
    model.save_pretrained(folder, max_shard_size=shard)
    assert (len([*folder.glob("*.safetensors")]) > 1) == (shard == "40MB")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tiny_model("roberta")), str(folder), precision,
         quantisation],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert 60e6 < result["held"] < 150e6
    assert result["grown"] < result["held"] + 25e6
    largest = 20_000 * 512 * stored.itemsize  # read while its copy is made
    assert result["peak"] < 1.1 * result["held"] + largest + 25e6
