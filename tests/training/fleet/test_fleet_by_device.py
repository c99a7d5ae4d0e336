"""Joint runs on architectures beside the tiny families: as alone, or never together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.joint_runs import assert_as_alone

from paretune.models.packing.apply import PACKED_ENCODERS
from paretune.planning.predicted_cost import CostPredictor
from paretune.testing.tiny_models import encoder_tokenizer, unsettle_vectors
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_marian, tiny_pairs
from paretune.training.caches import ProcessCache
from paretune.training.forward import select
from paretune.training.forward.passes import Compute
from paretune.training.forward.select import SHAREABLE, make_forward, make_shared_forward
from paretune.training.prepare import PreparedModel, prepare

CLASSES = {
    "albert": ("Albert", {"embedding_size": 16}),
    "data2vec-text": ("Data2VecText", {}),
    "ernie": ("Ernie", {}),
    "eurobert": ("EuroBert", {"num_key_value_heads": 4}),
    "megatron-bert": ("MegatronBert", {}),
    "mpnet": ("MPNet", {}),
    "nomic_bert": ("NomicBert", {}),
    "rembert": ("RemBert", {"input_embedding_size": 16, "output_embedding_size": 16}),
    "roberta-prelayernorm": ("RobertaPreLayerNorm", {}),
    "roformer": ("RoFormer", {}),
}
ELSEWHERE = [name for name in SHAREABLE if name not in (*PACKED_ENCODERS, "deberta-v2")]


def checkpoint(family: str, folder: Path) -> Path:
    """A tiny checkpoint of an architecture, with BERT's tokenizer."""
    name, options = CLASSES[family]
    config_of = getattr(transformers, f"{name}Config", None)
    if config_of is None:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    tokenizer = encoder_tokenizer("bert")
    config = config_of(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        initializer_range=0.2,
        max_position_embeddings=130,
        **options,
    )
    assert config.model_type == family
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = getattr(transformers, f"{name}ForMaskedLM")(config).eval()
        unsettle_vectors(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", ELSEWHERE)
@pytest.mark.parametrize("method", ["lora", "layer_norm", "prompt"])
def test_each_run_as_alone(family: str, method: str, tmp_path: Path) -> None:
    """Twenty steps with dropout, losses within 1e-5."""
    training = {"max_steps": 20, "eval_every": 10, "dropout": 0.1, "batch_size": 4}
    task, model = tiny_task(tmp_path, "pair"), checkpoint(family, tmp_path / "model")
    runs = [
        tiny_run(task, model, method, training=training, seed=seed, learning_rate=1e-3)
        for seed in (1, 2)
    ]
    assert CostPredictor(ProcessCache()).predict_fleet_size(runs[0], 2, 1 << 30)[0] == 2
    assert_as_alone(runs, tmp_path)


def test_where_it_was_not_tested_runs_train_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "SHAREABLE", ())
    model = checkpoint("albert", tmp_path / "model")
    run: Any = tiny_run(tiny_task(tmp_path), model, "lora")
    assert CostPredictor(ProcessCache()).predict_fleet_size(run, 8, 1 << 30)[0] == 1


@pytest.mark.parametrize("family", ["bert", "marian"])
def test_each_run_draws_for_itself_on_any_device(
    family: str, tmp_path: Path, tiny_model: Any
) -> None:
    """Off a CPU a run alone has torch's own dropout, which knows one seed for all who are there."""
    translates, bench = family == "marian", ProcessCache()
    task = tiny_pairs(tmp_path / "data") if translates else tiny_task(tmp_path)
    model = tiny_marian(tmp_path / "marian") if translates else tiny_model(family)
    run = tiny_run(task, model, training={"dropout": 0.1})

    def draws(ready: Callable[[PreparedModel, Compute], Any]) -> bool:
        bench.drop_model()
        prepared = prepare(run, bench.model(run.model, bench.dataset(task)), "cpu")
        prepared.loaded.model.to("meta")
        assert ready(prepared, Compute()) and prepared.fleet.packing is not None
        return prepared.fleet.dropout_rng is prepared.fleet.packing.dropout_rng

    assert not draws(make_forward)
    assert draws(make_shared_forward)
