"""Methods that PEFT lacks, beside the plain way to write them; and LoRA+ beside PEFT's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from peft.optimizers import create_loraplus_optimizer
from tiny_tasks import tiny_run, tiny_task
from torch import nn

from paretune.data.batch import pad
from paretune.models.load import Loaded, load, reset_head
from paretune.models.resolve import resolve
from paretune.study import ModelSpec, Run
from paretune.training.loop import adamw
from paretune.training.prepare import Prepared, prepare
from paretune.training.workbench import Workbench

STEPS = 10


class Case:
    """One run, prepared by us, and batches for it."""

    def __init__(self, run: Run, *, double: bool = True) -> None:
        bench = Workbench()
        self.run, self.data = run, bench.dataset(run.task)
        self.source = resolve(ModelSpec(name=run.model.name))
        self.ours: Prepared = prepare(run, self.fresh())
        self.double = double
        if double:
            self.ours.loaded.model.double()
        encoded = bench.encode(list(self.data.train), self.ours.loaded, self.source, 64)
        self.batches = []
        for step in range(STEPS):
            rows = [(step * 7 + i) % len(encoded.labels) for i in range(6)]
            batch = {n: torch.from_numpy(v) for n, v in pad(encoded, rows, 0).items()}
            self.batches.append((batch, torch.tensor([encoded.labels[i] for i in rows])))

    def fresh(self) -> Loaded:
        loaded = load(self.source, kind=self.data.kind, num_labels=len(self.data.labels))
        reset_head(loaded, self.run.seed)
        for module in loaded.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return loaded

    def losses(self, model: Any, optimizer: torch.optim.Optimizer, rate: float) -> list[float]:
        model.train()
        found = []
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)
        for batch, labels in self.batches:
            self.ours.fleet.rows = []
            loss = F.cross_entropy(model(**batch).logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found


@pytest.fixture
def case(tiny_model: Any, tmp_path: Path) -> Any:
    def make(method: str, family: str = "bert", *, double: bool = True, **options: Any) -> Case:
        run = tiny_run(tiny_task(tmp_path, "pair"), tiny_model(family), method, options=options)
        still = run.training.model_copy(update={"dropout": 0.0})
        return Case(run.model_copy(update={"training": still}), double=double)

    return make


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "distilbert"])
def test_bitfit_is_training_the_biases(case: Any, family: str) -> None:
    mine = case("bitfit", family)
    plain = mine.fresh()
    plain.model.double()
    for name, parameter in plain.model.named_parameters():
        # A pooler that comes with the checkpoint lies behind the backbone and stays as it is.
        behind = any(name.startswith(f"{module}.") for module in plain.anatomy.head)
        parameter.requires_grad_(name in plain.head or (name.endswith(".bias") and not behind))
    biases = [n for n, p in plain.model.named_parameters() if p.requires_grad]
    assert len(mine.ours.trained) == len(biases)
    trained = {n: p for n, p in plain.model.named_parameters() if p.requires_grad}
    theirs = mine.losses(plain.model, adamw(trained, 0.01), 1e-2)
    ours = mine.losses(mine.ours.loaded.model, adamw(mine.ours.trained, 0.01), 1e-2)
    assert abs(ours[-1] - ours[0]) > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_loraplus_is_pefts(case: Any) -> None:
    mine = case("lora", double=False, rank=4, loraplus_lr_ratio=16.0)
    base = mine.fresh()
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=list(mine.ours.injection.parts),
        modules_to_save=["classifier"],
    )  # fmt: skip
    theirs = peft.get_peft_model(base.model, config)
    with torch.no_grad():
        for name, ours in mine.ours.injection.parameters.items():
            place, _, own = name.rpartition(".lora.")
            layer = theirs.base_model.model.get_submodule(place)
            getattr(layer, f"lora_{own}")["default"].weight.copy_(ours[0])
    # PEFT gives every vector the fast rate, biases of the head too: those are left out of both.
    for parameter in theirs.parameters():
        parameter.requires_grad_(parameter.requires_grad and parameter.ndim > 1)
    trained = {n: p for n, p in mine.ours.trained.items() if p.ndim > 1}
    optimizer = create_loraplus_optimizer(
        theirs, torch.optim.AdamW, lr=5e-3, loraplus_lr_ratio=16.0, weight_decay=0.0,
        loraplus_weight_decay=0.0,
    )  # fmt: skip
    ours = adamw(trained, 0.0, mine.ours.injection.rate_factors)
    assert sorted({g["rate_factor"] for g in ours.param_groups}) == [1.0, 16.0]
    mine.ours.loaded.model.train(), theirs.train()
    told = mine.losses(mine.ours.loaded.model, ours, 5e-3)
    expected = []
    for batch, labels in mine.batches:
        loss = F.cross_entropy(theirs(**batch).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    torch.testing.assert_close(told, expected, rtol=0, atol=1e-5)
