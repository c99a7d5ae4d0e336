"""What is special to packed batches; that they give what padded ones give is in test_plain.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from paretune.models.dropout import DropoutRng, set_dropout
from paretune.models.load import load_model
from paretune.objectives import LossOptions
from paretune.objectives.encoding import Encoded
from paretune.objectives.objective import HeadSpec
from paretune.testing.method_walk import unsettle
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.training import trainer
from paretune.training.caches import ProcessCache
from paretune.training.forward.passes import Compute, MicroBatch
from paretune.training.forward.select import enable_packing, forward_for
from paretune.training.prepare import PreparedModel, prepare
from paretune.training.trainer import train_run

ROWS = [3, 17, 8, 0, 21, 11, 5, 30, 2]


def with_gaps(data: Encoded) -> Encoded:
    """Texts whose last one to four tokens are scored, by their place; of four all but the second.

    So a part that is not scored stands between two that are, as between two answers.
    """
    starts = [[max(1, len(ids) - 1 - i % 4)] for i, (ids,) in enumerate(data.ids)]
    places = zip(data.ids, starts, strict=True)
    unscored = [[[start + 1] if len(ids) - start == 4 else []] for (ids,), (start,) in places]
    return replace(data, completion_starts=starts, unscored=unscored)


@pytest.mark.parametrize(("family", "method"), [("llama", "lora"), ("gemma3", "prefix")])
def test_scored_parts_with_gaps_have_the_losses_and_gradients_of_a_padded_batch(
    family: str, method: str, tmp_path: Path, tiny_model: Any
) -> None:
    run = tiny_run(tiny_task(tmp_path, "pair"), tiny_model(family), method)
    bench = ProcessCache()
    loaded = load_model(bench.source(run.model), HeadSpec("causal_lm", "causal lm", 0))
    prepared = prepare(run, loaded)
    set_dropout(loaded.model.train(), 0.0)
    unsettle(prepared.injection.parameters.values())
    data = with_gaps(bench.encode(bench.parts(run).train, loaded, bench.source(run.model), 64))

    def compute() -> tuple[dict[Any, Tensor], tuple[Tensor, ...]]:
        outputs = forward_for(loaded, prepared.context, Compute())(MicroBatch(data, ROWS))
        lengths = [data.scored_length(text) for text in outputs.texts]
        losses = outputs.evaluation_losses()[1].split(lengths)
        gradients = torch.autograd.grad(outputs.summed_loss(0.0), [*prepared.trained.values()])
        return dict(zip(outputs.texts, losses, strict=True)), gradients

    padded = compute()
    assert enable_packing(prepared)
    packed = compute()
    assert packed[0].keys() == padded[0].keys() and 2 in map(len, padded[0].values())
    torch.testing.assert_close(packed, padded, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(filled_up(prepared, compute), packed, rtol=1e-4, atol=1e-4)


def filled_up(prepared: PreparedModel, compute: Callable[[], Any]) -> Any:
    """What a function of a packed model gives with filler rows in each batch."""
    packing = prepared.context.packing
    assert packing is not None
    # A prime multiple, so that no batch has such a number of rows by itself.
    packing.row_multiple = 1009
    # New memory is NaN now, so that a row that nobody has written shows.
    torch.use_deterministic_algorithms(True)
    try:
        values = compute()
    finally:
        torch.use_deterministic_algorithms(False)
    assert packing.layout.filler_rows > 100
    return values


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("family", "method"),
    [("bert", "full"), ("bert", "lora"), ("bert", "prompt"), ("bert", "prefix"),
     ("modernbert", "ia3"), ("marian", "lora"), ("marian", "prefix")],
)  # fmt: skip
def test_filler_rows_change_nothing(
    family: str, method: str, precision: Literal["fp32", "bf16"], tmp_path: Path, tiny_model: Any
) -> None:
    """Losses, and gradients of all that is trained; nothing is NaN, whatever memory holds."""
    if family == "marian":
        task, folder = tiny_pairs(tmp_path / "data"), translator_folder(family, tmp_path / family)
    else:
        task, folder = tiny_task(tmp_path), tiny_model(family)
    run = tiny_run(task, folder, method, training={"dropout": 0.0, "precision": precision})
    bench = ProcessCache()
    objective = bench.objective(run)
    loaded = bench.run_model(run, bf16=False)
    prepared = prepare(run, loaded)
    source = bench.source(run.model)
    data = bench.encode(bench.parts(run).train, loaded, source, 64, objective.encode)
    unsettle(prepared.injection.parameters.values(), by=0.01)
    set_dropout(loaded.model.train(), 0.0)
    assert enable_packing(prepared)
    compute = Compute("cpu", precision)

    def losses_and_gradients() -> tuple[Tensor, tuple[Tensor | None, ...]]:
        with compute.autocast():
            outputs = forward_for(loaded, prepared.context, compute)(MicroBatch(data, ROWS))
            loss = objective.loss(outputs, data, ROWS, LossOptions())
        trained = [*prepared.trained.values()]
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        return loss.detach(), gradients

    loss, gradients = losses_and_gradients()
    filled_loss, filled = filled_up(prepared, losses_and_gradients)
    within = 1e-5 if precision == "fp32" else 0.05
    torch.testing.assert_close(filled_loss, loss, rtol=within, atol=within)
    for gradient, plain in zip(filled, gradients, strict=True):
        if plain is None or gradient is None:
            assert plain is gradient
        else:
            scale = float(plain.abs().max()) + 1e-6
            torch.testing.assert_close(gradient, plain, rtol=within, atol=within * scale)


def test_what_cannot_be_packed_is_padded(tmp_path: Path, tiny_model: Any) -> None:
    for family, method in (("deberta-v2", "lora"), ("bert", "unipelt"), ("bert", "peft:vera")):
        run = tiny_run(tiny_task(tmp_path), tiny_model(family), method)
        bench = ProcessCache()
        prepared = prepare(run, bench.model(run.model, bench.dataset(run.task)))
        assert not enable_packing(prepared) and prepared.context.packing is None


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
