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


@pytest.mark.parametrize("family", ["bert", "modernbert", "distilbert"])
def test_layer_norm_is_training_the_norms(case: Any, family: str) -> None:
    mine = case("layer_norm", family)
    plain = mine.fresh()
    plain.model.double()
    norms = {
        f"{name}.{own}"
        for name, module in plain.model.named_modules()
        if isinstance(module, nn.LayerNorm)
        and not any(f"{name}.".startswith(f"{head}.") for head in plain.anatomy.head_modules)
        for own, _ in module.named_parameters()
    }
    trained = {}
    for name, parameter in plain.model.named_parameters():
        parameter.requires_grad_(name in norms or name in plain.head_parameters)
        if parameter.requires_grad:
            trained[name] = parameter
    assert len(mine.ours.trained) == len(trained)
    theirs = mine.losses(plain.model, make_adamw(trained, 0.0), 1e-2)
    ours = mine.losses(mine.ours.loaded.model, make_adamw(mine.ours.trained, 0.0), 1e-2)
    assert abs(ours[-1] - ours[0]) > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "distilbert"])
def test_bitfit_is_training_the_biases(case: Any, family: str) -> None:
    mine = case("bitfit", family)
    plain = mine.fresh()
    plain.model.double()
    for name, parameter in plain.model.named_parameters():
        # A pooler that comes with the checkpoint lies behind the backbone and stays as it is.
        behind = any(name.startswith(f"{module}.") for module in plain.anatomy.head_modules)
        parameter.requires_grad_(
            name in plain.head_parameters or (name.endswith(".bias") and not behind)
        )
    biases = [n for n, p in plain.model.named_parameters() if p.requires_grad]
    assert len(mine.ours.trained) == len(biases)
    trained = {n: p for n, p in plain.model.named_parameters() if p.requires_grad}
    theirs = mine.losses(plain.model, make_adamw(trained, 0.01), 1e-2)
    ours = mine.losses(mine.ours.loaded.model, make_adamw(mine.ours.trained, 0.01), 1e-2)
    assert abs(ours[-1] - ours[0]) > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


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


def bert_by_the_paper(model: Any, batch: dict[str, torch.Tensor], method: str) -> torch.Tensor:
    """Logits of a BERT with adapters, every sublayer written out."""

    def bottleneck(part: Any, act: Any, h: torch.Tensor) -> torch.Tensor:
        low = act(h @ part.D[0].T + part.D_bias[0])
        return low @ part.U[0].T + part.U_bias[0]

    bert = model.bert
    h = bert.embeddings(input_ids=batch["input_ids"], token_type_ids=batch["token_type_ids"])
    seen = batch["attention_mask"][:, None, None, :].bool()
    for depth, layer in enumerate(bert.encoder.layer):
        attention = layer.attention.self(h, seen)[0]
        dense = layer.attention.output.dense
        a = attention @ dense.weight.T + dense.bias
        if method == "houlsby":
            a = a + bottleneck(dense.houlsby, F.silu, a)
        h1 = layer.attention.output.LayerNorm(a + h)
        inner = F.gelu(layer.intermediate.dense(h1))
        f = inner @ layer.output.dense.weight.T + layer.output.dense.bias
        norm = layer.output.LayerNorm.forward  # without what hooks do before it
        if method == "houlsby":
            f = f + bottleneck(layer.output.dense.houlsby, F.silu, f)
        elif method == "parallel":
            f = f + 4.0 * bottleneck(layer.output.dense.parallel, F.relu, h1)
        elif method == "pfeiffer" or (method == "adapterdrop" and depth >= 1):
            f = f + bottleneck(getattr(layer.output.dense, method), F.relu, norm(f + h1))
        h = norm(f + h1)
    return model.classifier(bert.pooler(h))


@pytest.mark.parametrize("method", ["houlsby", "pfeiffer", "parallel", "adapterdrop"])
def test_adapters_stand_where_their_papers_put_them(case: Any, method: str) -> None:
    """Logits and gradients in float64, beside every sublayer written out."""
    mine = case(method, reduction_factor=8)
    model = mine.ours.loaded.model.eval()
    torch.manual_seed(5)
    for parameter in mine.ours.injection.parameters.values():
        nn.init.normal_(parameter, 0, 0.5)
    batch, labels = mine.batches[0]
    gradients = []
    for logits in (model(**batch).logits, bert_by_the_paper(model, batch, method)):
        loss = F.cross_entropy(logits, labels)
        grads = torch.autograd.grad(loss, list(mine.ours.trained.values()))
        gradients.append((logits, *grads))
    assert len(gradients[0]) >= 7
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


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


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_prefix_tuning_is_the_papers_equation(case: Any, projected: bool, attention: str) -> None:
    """Attention over [P; K] and [P; V], written out beside a BERT in float64."""
    projection = {"prefix_projection": True, "encoder_hidden_size": 24} if projected else {}
    mine = case("lora", rank=1)
    loaded, (batch, labels) = mine.fresh(), mine.batches[0]
    loaded.model.set_attn_implementation(attention)
    options = prefix.PrefixOptions(num_virtual_tokens=5, **projection)
    count = prefix.count_parameters(loaded.model, loaded.anatomy, options)
    injection = prefix.inject(loaded.model, loaded.anatomy, options, Fleet(), [1])
    model = loaded.model.double().eval()
    parameters = injection.parameters
    assert sum(p.numel() for p in parameters.values()) == count
    torch.manual_seed(5)
    for parameter in parameters.values():
        nn.init.normal_(parameter, 0, 0.5)

    def own(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
        part = layer.attention.self.prefix
        if not projected:
            return part.K[0], part.V[0]
        front = model.prefix_front
        hidden = torch.tanh(front.Z[0] @ front.W1[0].T + front.W1_bias[0])
        return tuple((hidden @ part.W2[0].T + part.W2_bias[0]).chunk(2, dim=-1))

    def written_out() -> torch.Tensor:
        bert = model.bert
        h = bert.embeddings(input_ids=batch["input_ids"], token_type_ids=batch["token_type_ids"])
        for layer in bert.encoder.layer:
            at = layer.attention.self
            keys, values = own(layer)
            rows = []
            for row, seen in zip(h, batch["attention_mask"].bool(), strict=True):
                text = row[seen]  # padding is not there at all
                k = torch.cat([keys, at.key(text)]).unflatten(-1, (4, 8))
                v = torch.cat([values, at.value(text)]).unflatten(-1, (4, 8))
                q = at.query(row).unflatten(-1, (4, 8))
                shares = torch.softmax(torch.einsum("ihd,jhd->hij", q, k) / 8**0.5, dim=-1)
                rows.append(torch.einsum("hij,jhd->ihd", shares, v).flatten(-2))
            a = layer.attention.output.dense(torch.stack(rows))
            h1 = layer.attention.output.LayerNorm(a + h)
            h = layer.output.LayerNorm(
                layer.output.dense(F.gelu(layer.intermediate.dense(h1))) + h1
            )
        return model.classifier(bert.pooler(h))

    gradients = []
    for logits in (model(**batch).logits, written_out()):
        loss = F.cross_entropy(logits, labels)
        gradients.append((logits, *torch.autograd.grad(loss, list(parameters.values()))))
    assert len(gradients[0]) == (1 + 3 + 4 if projected else 1 + 4)
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.abs().max() > 1e-6
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_unipelt_is_the_papers_equations(case: Any) -> None:
    """Three gated methods in every layer of a BERT, written out in float64 row by row."""
    mine = case("unipelt", rank=2, num_virtual_tokens=4, reduction_factor=8)
    model, (batch, labels) = mine.ours.loaded.model.eval(), mine.batches[0]
    parameters = mine.ours.injection.parameters
    torch.manual_seed(5)
    for parameter in parameters.values():
        nn.init.normal_(parameter, 0, 0.5)

    def opened(gate: Any, h: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(h @ gate.w[0] + gate.c_bias[0]).mean()

    def gated_linear(layer: Any, x: torch.Tensor) -> torch.Tensor:
        part = layer.unipelt_lora
        plain = x @ layer.weight.T + layer.bias
        return plain + opened(part.gate, x) * (x @ part.A[0].T @ part.B[0].T)

    def of_row(h: torch.Tensor) -> torch.Tensor:
        for layer in model.bert.encoder.layer:
            at = layer.attention.self
            part = at.unipelt_prefix
            g = opened(part.gate, h)
            k = torch.cat([g * part.K[0], at.key(h)]).unflatten(-1, (4, 8))
            v = torch.cat([g * part.V[0], gated_linear(at.value, h)]).unflatten(-1, (4, 8))
            q = gated_linear(at.query, h).unflatten(-1, (4, 8))
            shares = torch.softmax(torch.einsum("ihd,jhd->hij", q, k) / 8**0.5, dim=-1)
            a = torch.einsum("hij,jhd->ihd", shares, v).flatten(-2)
            h1 = layer.attention.output.LayerNorm(layer.attention.output.dense(a) + h)
            dense = layer.output.dense
            f = F.gelu(layer.intermediate.dense(h1)) @ dense.weight.T + dense.bias
            part = dense.unipelt_adapter
            norm = layer.output.LayerNorm.forward  # without what hooks do before it
            read = norm(f + h1)
            low = F.relu(read @ part.D[0].T + part.D_bias[0])
            f = f + opened(part.gate, read) * (low @ part.U[0].T + part.U_bias[0])
            h = norm(f + h1)
        return h

    bert = model.bert
    start = bert.embeddings(input_ids=batch["input_ids"], token_type_ids=batch["token_type_ids"])
    seen = batch["attention_mask"].bool()
    assert not seen.all()  # some rows are padded, and padding opens no gate
    last = [of_row(row[own])[:1] for row, own in zip(start, seen, strict=True)]
    written_out = model.classifier(bert.pooler(torch.stack(last)))
    gradients = []
    for logits in (model(**batch).logits, written_out):
        loss = F.cross_entropy(logits, labels)
        gradients.append((logits, *torch.autograd.grad(loss, list(parameters.values()))))
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.abs().max() > 1e-8
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
