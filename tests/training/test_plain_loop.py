"""The loop is what it promises: transformers' schedules, Trainer's decay, a plain loop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from transformers import (
    Trainer,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from paretune import objectives
from paretune.data.batch import shuffle_order
from paretune.models.dropout import set_dropout
from paretune.models.load import load_model, reset_head
from paretune.models.sources.resolve import resolve_source
from paretune.study import ModelSpec
from paretune.testing.tiny_models import FAMILIES
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.caches import ProcessCache
from paretune.training.prepare import prepare
from paretune.training.run_state import learning_rate_factor, make_adamw
from paretune.training.trainer import train_run

SCHEDULES = {
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
    "constant": lambda optimizer, warmup, total: get_constant_schedule_with_warmup(
        optimizer, warmup
    ),
}


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.1, 0.25, 0.99])
@pytest.mark.parametrize("total", [1, 7, 20, 400])
def test_the_schedule_is_transformers(kind: Any, warmup_fraction: float, total: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = SCHEDULES[kind](optimizer, math.ceil(warmup_fraction * total), total)
    for step in range(total):
        assert learning_rate_factor(step, total, warmup_fraction, kind) == pytest.approx(
            schedule.get_last_lr()[0], abs=1e-12
        )
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("method", ["full", "lora", "prompt"])
@pytest.mark.parametrize("family", FAMILIES)
def test_weight_decay_is_on_what_trainer_decays(
    method: str, family: str, tmp_path: Path, tiny_model: Any
) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model(family), method)
    bench = ProcessCache()
    loaded = bench.model(run.model, bench.dataset(run.task))
    prepared = prepare(run, loaded)
    expected = set(Trainer.get_decay_parameter_names(None, loaded.model)) & set(prepared.trained)
    names = {id(p): n for n, p in prepared.trained.items()}
    groups = make_adamw(prepared.trained, 0.01).param_groups
    decayed = {names[id(p)] for g in groups if g["weight_decay"] == 0.01 for p in g["params"]}
    plain = {names[id(p)] for g in groups if g["weight_decay"] == 0.0 for p in g["params"]}
    assert decayed == expected
    assert decayed | plain == set(prepared.trained) and not decayed & plain
    assert plain  # the head has a bias at least


def test_the_whole_loop_is_a_plain_loop(tmp_path: Path, tiny_model: Any) -> None:
    """transformers + peft: whole padded batches, AdamW, linear warm-up and decay, clipped at 1."""
    settings = {"max_steps": 20, "dropout": 0.0, "batch_size": 8, "patience": None}
    run = tiny_run(
        tiny_task(tmp_path, "pair"),
        tiny_model("bert"),
        learning_rate=2e-2,
        training=settings,
        options={"rank": 4, "alpha": 8},
    )
    ours: list[float] = []
    bench = ProcessCache()
    train_run(run, checkpoint=tmp_path / "x", report=lambda p: ours.append(p["loss"]), caches=bench)
    examples = bench.parts(run).train
    labels = torch.tensor([e.label for e in examples])
    source = resolve_source(ModelSpec(name=run.model.name))
    start = prepare(run, load_model(source, objectives.get("pair").head_spec(("a", "b", "c"))))
    base = load_model(source, objectives.get("pair").head_spec(("a", "b", "c")))
    set_dropout(base.model, 0.0)
    reset_head(base, run.seed)
    model = peft.get_peft_model(
        base.model,
        peft.LoraConfig(
            r=4, lora_alpha=8, target_modules=["query", "value"], modules_to_save=["classifier"]
        ),
    )
    with torch.no_grad():
        for name, parameter in start.injection.parameters.items():
            place, _, own = name.rpartition(".lora.")
            layer = model.base_model.model.get_submodule(place)
            getattr(layer, f"lora_{own}")["default"].weight.copy_(parameter)
    matrices = [p for n, p in model.named_parameters() if p.requires_grad and "bias" not in n]
    biases = [p for n, p in model.named_parameters() if p.requires_grad and "bias" in n]
    groups = [{"params": matrices}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-2, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, 20)
    model.train()
    theirs: list[float] = []
    norms: list[float] = []
    for epoch in range(5):
        shuffled = shuffle_order(len(examples), run.seed, epoch)
        for start_at in range(0, len(shuffled), 8):
            rows = shuffled[start_at : start_at + 8]
            texts = [examples[i].segments[0] for i in rows]
            batch = base.tokenizer(
                [a for a, _ in texts], [b for _, b in texts], padding=True, return_tensors="pt"
            )
            loss = F.cross_entropy(model(**batch).logits, labels[rows])
            loss.backward()
            norms.append(torch.nn.utils.clip_grad_norm_([*matrices, *biases], 1.0).item())
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            theirs.append(loss.item())
    assert len(ours) == len(theirs) == 20
    assert max(norms) > 1 and len(set(theirs)) == 20  # clipping did something
    assert ours == pytest.approx(theirs, abs=1e-5)
