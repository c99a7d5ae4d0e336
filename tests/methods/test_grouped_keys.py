"""Encoders in which several heads of queries share one of keys: a prefix is shared likewise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from paretune.testing.tiny_models import encoder_tokenizer
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.caches import ProcessCache
from paretune.training.prepare import prepare
from paretune.training.trainer import train_run

METHODS = ("prefix", "unipelt", "mam")


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: Any) -> Path:
    """A EuroBERT with four heads of queries and two of keys."""
    if not hasattr(transformers, "EuroBertConfig"):
        pytest.skip(f"transformers {transformers.__version__} has no EuroBert")
    folder: Path = tmp_path_factory.mktemp("grouped")
    tokenizer = encoder_tokenizer("bert")
    special = {
        role: tokenizer.convert_tokens_to_ids(token)
        for role, token in (
            ("pad_token_id", "[PAD]"), ("bos_token_id", "[CLS]"),
            ("eos_token_id", "[SEP]"), ("mask_token_id", "[MASK]"),
        )
    }  # fmt: skip
    config = transformers.EuroBertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=48, max_position_embeddings=130,
        initializer_range=0.2, **special,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.EuroBertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_it_trains_in_both_precisions(
    grouped: Path, tmp_path: Path, method: str, precision: str
) -> None:
    run = tiny_run(tiny_task(tmp_path), grouped, method, training={"precision": precision})
    left = train_run(run, checkpoint=tmp_path / "checkpoint", report=lambda progress: None)
    assert left.result["outcome"] in ("ok", "collapsed")


@pytest.mark.parametrize("method", METHODS)
def test_both_ways_of_attention_agree(grouped: Path, tmp_path: Path, method: str) -> None:
    run, bench = tiny_run(tiny_task(tmp_path), grouped, method), ProcessCache()
    loaded = bench.model(run.model, bench.dataset(run.task))
    inputs = loaded.tokenizer(["The cat sat on the mat", "dog"], padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    prepared, logits = prepare(run, loaded, "cpu"), []
    for attention in ("paretune_sdpa", "paretune_eager"):
        loaded.model.set_attn_implementation(attention)
        with torch.inference_mode():
            logits.append(loaded.model.eval()(**inputs).logits)
    prepared.undo()
    assert (logits[0] - logits[1]).abs().max() < 1e-5
