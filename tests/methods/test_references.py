"""Methods that PEFT lacks, beside the plain way to write them; and LoRA+ beside PEFT's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from peft.optimizers import create_loraplus_optimizer
from torch import nn

from paretune import objectives
from paretune.errors import MethodError
from paretune.methods import prefix
from paretune.methods.core.run_axis import Fleet
from paretune.models.load import LoadedModel, load_model, reset_head
from paretune.models.sources.resolve import resolve_source
from paretune.objectives.encoding import pad_batch
from paretune.study import ModelSpec, Run
from paretune.testing.tiny_models import FAMILIES
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.caches import ProcessCache
from paretune.training.prepare import PreparedModel, prepare
from paretune.training.run_state import make_adamw

STEPS = 10


class Case:
    """One run, prepared by us, and batches for it."""

    def __init__(self, run: Run, *, double: bool = True) -> None:
        bench = ProcessCache()
        self.run, self.data = run, bench.dataset(run.task)
        self.source = resolve_source(ModelSpec(name=run.model.name))
        self.ours: PreparedModel = prepare(run, self.fresh())
        self.double = double
        if double:
            self.ours.loaded.model.double()
        encoded = bench.encode(list(self.data.train), self.ours.loaded, self.source, 64)
        self.batches = []
        for step in range(STEPS):
            rows = [(step * 7 + i) % len(encoded.labels) for i in range(6)]
            batch = {n: torch.from_numpy(v) for n, v in pad_batch(encoded, rows, 0).items()}
            self.batches.append((batch, torch.tensor([encoded.labels[i] for i in rows])))

    def fresh(self) -> LoadedModel:
        loaded = load_model(self.source, objectives.get(self.data.kind).head_spec(self.data.labels))
        reset_head(loaded, self.run.seed)
        for module in loaded.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return loaded

    def losses(self, model: Any, optimizer: torch.optim.Optimizer, rate: float) -> list[float]:
        model.train()
        losses = []
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)
        for batch, labels in self.batches:
            self.ours.fleet.row_partitions = []
            loss = F.cross_entropy(model(**batch).logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses


@pytest.fixture
def case(tiny_model: Any, tmp_path: Path) -> Any:
    def make(method: str, family: str = "bert", *, double: bool = True, **options: Any) -> Case:
        run = tiny_run(tiny_task(tmp_path, "pair"), tiny_model(family), method, options=options)
        still = run.training.model_copy(update={"dropout": 0.0})
        return Case(run.model_copy(update={"training": still}), double=double)

    return make


def list_trained(method: str, model: Any) -> set[str]:
    """Names of all biases, or of all that layer normalisations have."""
    if method == "bitfit":
        return {name for name, _ in model.named_parameters() if name.endswith(".bias")}
    norms = ((n, m) for n, m in model.named_modules() if isinstance(m, nn.LayerNorm))
    return {f"{name}.{own}" for name, norm in norms for own, _ in norm.named_parameters()}


@pytest.mark.parametrize(
    ("method", "family"),
    [
        *(("bitfit", family) for family in ("bert", "deberta-v2", "distilbert")),
        *(("layer_norm", family) for family in ("bert", "modernbert", "distilbert")),
    ],
)
def test_it_is_training_parameters_of_the_model(case: Any, method: str, family: str) -> None:
    mine = case(method, family)
    plain = mine.fresh()
    plain.model.double()
    # A pooler that comes with the checkpoint lies behind the backbone and stays as it is.
    heads = tuple(f"{module}." for module in plain.anatomy.head_modules)
    names = {n for n in list_trained(method, plain.model) if not n.startswith(heads)}
    trained = {}
    for name, parameter in plain.model.named_parameters():
        parameter.requires_grad_(name in names or name in plain.head_parameters)
        if parameter.requires_grad:
            trained[name] = parameter
    assert len(mine.ours.trained) == len(trained)
    # Our change of a norm would decay apart from the norm itself.
    decay = 0.01 if method == "bitfit" else 0.0
    expected = mine.losses(plain.model, make_adamw(trained, decay), 1e-2)
    losses = mine.losses(mine.ours.loaded.model, make_adamw(mine.ours.trained, decay), 1e-2)
    assert abs(losses[-1] - losses[0]) > 1e-3
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-9)


def test_loraplus_is_pefts(case: Any) -> None:
    mine = case("lora", double=False, rank=4, loraplus_lr_ratio=16.0)
    base = mine.fresh()
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=list(mine.ours.injection.adapters),
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
    ours = make_adamw(trained, 0.0, mine.ours.injection.learning_rate_factors)
    assert sorted({g["rate_factor"] for g in ours.param_groups}) == [1.0, 16.0]
    mine.ours.loaded.model.train(), theirs.train()
    losses = mine.losses(mine.ours.loaded.model, ours, 5e-3)
    expected = []
    for batch, labels in mine.batches:
        loss = F.cross_entropy(theirs(**batch).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-5)


def test_where_a_layer_normalises_first_the_adapter_reads_the_feed_forward_output(
    case: Any,
) -> None:
    mine = case("pfeiffer", "modernbert", reduction_factor=8)
    model = mine.ours.loaded.model.eval()
    assert {layer.output_norm for layer in mine.ours.loaded.anatomy.layers} == {None}
    torch.manual_seed(5)
    for parameter in mine.ours.injection.parameters.values():
        nn.init.normal_(parameter, 0, 0.5)
    batch, _ = mine.batches[0]
    whole = model(**batch).logits
    parts = mine.ours.injection.adapters
    mine.ours.injection.undo()
    for layer in mine.ours.loaded.anatomy.layers:
        part = parts[layer.down]
        model.get_submodule(layer.down).register_forward_hook(
            lambda module, inputs, out, part=part: out + part.compute_change(out)
        )
    torch.testing.assert_close(model(**batch).logits, whole, rtol=0, atol=1e-12)


def test_robust_adapterdrop_leaves_out_one_random_depth_a_step(case: Any) -> None:
    mine = case("adapterdrop", reduction_factor=8, robust=True, drop=1)
    parts = list(mine.ours.injection.adapters.values())
    assert len(parts) == 2  # in all layers
    fleet, drawn = mine.ours.fleet, set()
    for step in range(20):
        fleet.step_seed = step
        depths = {part.train().count_dropped() for part in parts}
        assert len(depths) == 1  # one draw for the whole step
        drawn |= depths
        assert {part.eval().count_dropped() for part in parts} == {1}
    assert drawn == {0, 1}
    first, last = parts
    h = torch.randn(2, 3, 32, dtype=torch.float64)
    for parameter in mine.ours.injection.parameters.values():
        nn.init.normal_(parameter)
    assert torch.equal(first(h, h), h) and not torch.equal(last(h, h), h)


def test_adapterdrop_that_drops_everything_is_refused(case: Any) -> None:
    with pytest.raises(MethodError, match=r"2 layers dropped leave none of 2\. Drop 1 at most"):
        case("adapterdrop", drop=2)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_prefix_is_the_base(case: Any, tiny_model: Any, family: str) -> None:
    """DeBERTa's attention, written out, is its own; so is what goes through the interface."""
    mine = case("lora", family, rank=1)
    loaded, batch = mine.fresh(), mine.batches[0][0]
    loaded.model.double().eval()
    base = loaded.model(**batch).logits
    options = prefix.PrefixOptions.model_construct(num_virtual_tokens=0)
    injection = prefix.inject(loaded.model, loaded.anatomy, options, Fleet(), [1])
    loaded.model.double()
    # transformers rounds DeBERTa's scale sqrt(3 d) to fp32.
    atol = 1e-7 if family == "deberta-v2" else 1e-12
    torch.testing.assert_close(loaded.model(**batch).logits, base, rtol=0, atol=atol)
    injection.undo()
    assert torch.equal(loaded.model(**batch).logits, base)
