"""Packed batches give what padded ones give; only dropout draws otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from paretune import methods, objectives
from paretune.models.dropout import DropoutRng
from paretune.models.load import reset_head
from paretune.models.packing.apply import PACKED_ENCODERS
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.training import trainer
from paretune.training.caches import ProcessCache
from paretune.training.forward.passes import Compute, MicroBatch
from paretune.training.forward.select import enable_packing, forward_for
from paretune.training.prepare import prepare
from paretune.training.trainer import train_run

ROWS = [3, 17, 8, 0, 21, 11, 5, 30, 2]
METHODS = tuple(
    n
    for n, m in methods.available().items()
    if isinstance(m, methods.Method)
    and not methods.refusal(m, objectives.get("classification"), tabular=False)
    and (m.learning_rates is not None)
)
PLACES = (
    *(("bert", method, "pair") for method in METHODS if method != "unipelt"),
    *((family, "lora", "pair") for family in PACKED_ENCODERS if family != "bert"),
    *((family, "prefix", "classification") for family in ("modernbert", "distilbert", "roberta")),
    *((family, "prompt", "multiple_choice") for family in ("bert", "roberta", "modernbert")),
    ("electra", "full", "multiple_choice"),
    ("bert", "lora", "regression"),
)


@pytest.mark.parametrize(("family", "method", "kind"), PLACES)
def test_a_packed_batch_gives_the_same_logits_and_gradients(
    family: str, method: str, kind: str, tmp_path: Path, tiny_model: Any
) -> None:
    """float64, every text of its own length, against the padded batch; then as it was before."""
    run = tiny_run(tiny_task(tmp_path, kind), tiny_model(family), method, training={"dropout": 0.0})
    bench = ProcessCache()
    loaded = bench.model(run.model, bench.dataset(run.task))
    prepared = prepare(run, loaded)
    draw = torch.Generator().manual_seed(3)
    if method != "full":
        with torch.no_grad():
            for parameter in prepared.injection.parameters.values():
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.2)
    model = loaded.model.double().train()
    data = bench.encode(bench.parts(run).train, loaded, bench.source(run.model), 64)
    objective = objectives.get(kind)
    options = objective.loss_options(bench.parts(run).train)

    def compute() -> tuple[Tensor, list[Tensor]]:
        forward = forward_for(loaded, prepared.fleet, Compute())
        (logits,) = forward([MicroBatch(data, ROWS)])
        loss = objective.loss(logits, data, ROWS, options)
        parameters = list(prepared.trained.values())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return logits, [torch.zeros(1) if g is None else g for g in gradients]

    padded = compute()
    assert enable_packing(prepared)
    packed_outputs = compute()
    torch.testing.assert_close(packed_outputs[0], padded[0], rtol=0, atol=1e-10)
    assert any(g.abs().max() > 1e-3 for g in padded[1])
    for name, one, other in zip(prepared.trained, packed_outputs[1], padded[1], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10, msg=name)
    prepared.undo()
    if method != "full":
        assert prepared.fleet.packing is None
        reset_head(loaded, 1)
        assert "forward" not in {name for m in model.modules() for name in vars(m)}


def test_what_cannot_be_packed_is_padded(tmp_path: Path, tiny_model: Any) -> None:
    for family, method in (("deberta-v2", "lora"), ("bert", "unipelt"), ("bert", "peft:vera")):
        run = tiny_run(tiny_task(tmp_path), tiny_model(family), method)
        bench = ProcessCache()
        prepared = prepare(run, bench.model(run.model, bench.dataset(run.task)))
        assert not enable_packing(prepared) and prepared.fleet.packing is None


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_prompt_leaves_the_text_where_it_was(
    family: str, tmp_path: Path, tiny_model: Any
) -> None:
    """Where the study asks for it, packed as padded: (a translation asks for it by itself)."""
    options = {"num_virtual_tokens": 4, "text_positions": "kept"}
    run = tiny_run(tiny_task(tmp_path), tiny_model(family), "prompt", options=options)
    bench = ProcessCache()
    prepared = prepare(run, bench.model(run.model, bench.dataset(run.task)))
    prepared.loaded.model.double().eval()
    data = bench.encode(bench.parts(run).train, prepared.loaded, bench.source(run.model), 64)

    def logits() -> Tensor:
        forward = forward_for(prepared.loaded, prepared.fleet, Compute())
        return forward([MicroBatch(data, ROWS)])[0]  # type: ignore[no-any-return]

    padded = logits()
    assert enable_packing(prepared)
    torch.testing.assert_close(logits(), padded, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", ["lora", "loha", "prompt", "prefix", "houlsby"])
def test_a_base_held_in_bf16_gives_the_same_bits(
    method: str, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose matrices autocast casts in every step."""
    task = tiny_task(tmp_path)
    run = tiny_run(task, tiny_model("bert"), method, training={"precision": "bf16"})
    in_bf16 = train_run(run, checkpoint=tmp_path / "x", report=silent)
    monkeypatch.setattr(trainer, "allows_bf16_weights", lambda run: False)
    cast = train_run(run, checkpoint=tmp_path / "x", report=silent)
    assert (in_bf16.result, in_bf16.blobs) == (cast.result, cast.blobs)


@pytest.mark.parametrize("family", ["deberta-v2", pytest.param("t5", marks=pytest.mark.wide)])
def test_padded_batches_draw_their_dropout_from_the_seed_too(
    family: str, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every dropout of a forward pass, also those that are no module; the same bits again."""
    rates: list[float] = []
    drop = DropoutRng.drop
    monkeypatch.setattr(
        DropoutRng,
        "drop",
        lambda rng, x, p: rates.append(p) or drop(rng, x, p),  # type: ignore[func-returns-value]
    )
    if family == "t5":
        task, model = tiny_pairs(tmp_path / "data"), translator_folder("t5", tmp_path / "t5")
        run = tiny_run(task, model, training={"dropout": 0.1})
    else:
        run = tiny_run(tiny_task(tmp_path), tiny_model(family))
    outcomes = [train_run(run, checkpoint=tmp_path / "x", report=silent) for _ in range(2)]
    assert outcomes[0].result["curve"] == outcomes[1].result["curve"]
    assert len(rates) > 2 * 3 * 6 and {0.1} <= set(rates)
