"""Packed batches give what padded ones give: logits, losses and gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.chosen import chosen
from torch import Tensor

from paretune import methods, objectives
from paretune.models.dropout import DropoutRng
from paretune.models.load import load_model, reset_head
from paretune.models.packing.apply import PACKED_ENCODERS
from paretune.objectives.encoding import Encoded
from paretune.objectives.objective import HeadSpec
from paretune.testing.tiny_models import DECODERS
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.training import trainer
from paretune.training.caches import ProcessCache
from paretune.training.fleet import RunParameters, SharedModel
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
    and m.body_training is None  # its batches are padded
)
PLACES = (
    *(("bert", method, "pair") for method in METHODS if method != "unipelt"),
    *((family, "lora", "pair") for family in PACKED_ENCODERS if family != "bert"),
    *((family, "prefix", "classification") for family in ("modernbert", "distilbert", "roberta")),
    *((family, "prompt", "multiple_choice") for family in ("bert", "roberta", "modernbert")),
    ("electra", "full", "multiple_choice"),
    ("bert", "lora", "regression"),
    *((family, "lora", kind) for family in DECODERS for kind in ("pair", "completion")),
    *(("gemma3", method, "completion") for method in ("prefix", "ia3", "prompt", "full")),
    *(("opt", method, "pair") for method in ("prefix", "ia3", "prompt", "full")),
    *((family, "prefix", "completion") for family in ("gemma2", "mistral", "phi3", "gpt_neox")),
    ("llama", "lora", "multiple_choice"),
    ("bert", "kept prompt", "classification"),
    ("roberta", "kept prompt", "classification"),
)
"""Behind a kept prompt the text keeps its positions."""


def with_completions(data: Encoded) -> Encoded:
    """Texts whose last one to four tokens are scored, by their place; of four all but the second.

    So a part that is not scored stands between two that are, as between two answers.
    """
    ids = [[text if len(text) > 1 else text * 2 for text in choices] for choices in data.ids]
    starts = [[max(1, len(text) - 1 - i % 4) for text in choices] for i, choices in enumerate(ids)]
    return replace(
        data,
        ids=ids,
        lengths=[max(map(len, own)) for own in ids],
        completion_starts=starts,
        unscored=[
            [
                [start + 1] if len(text) - start == 4 else []
                for text, start in zip(*both, strict=True)
            ]
            for both in zip(ids, starts, strict=True)
        ],
    )


def by_text(data: Encoded, outputs: Any) -> dict[Any, Tensor]:
    """Losses of the scored tokens of each text."""
    lengths = [data.scored_length(text) for text in outputs.texts]
    if not lengths:
        return {}
    each = outputs.evaluation_losses()[1].split(lengths)
    return dict(zip(outputs.texts, each, strict=True))


@pytest.mark.parametrize(("family", "method", "kind"), PLACES)
def test_a_packed_batch_gives_the_same_logits_and_gradients(
    family: str, method: str, kind: str, tmp_path: Path, tiny_model: Any
) -> None:
    """Every text of its own length, against the padded batch; then as it was before.

    In float64, but where normalisations by the root mean square are computed in fp32 whatever
    comes.
    """
    task_kind = "pair" if kind == "completion" else kind
    task, changes = tiny_task(tmp_path, task_kind), dict[str, Any](training={"dropout": 0.0})
    if method == "kept prompt":
        method = "prompt"
        changes["options"] = {"num_virtual_tokens": 4, "text_positions": "kept"}
    run = tiny_run(task, tiny_model(family), method, **changes)
    bench = ProcessCache()
    if kind == "completion":
        loaded = load_model(bench.source(run.model), HeadSpec("causal_lm", "causal lm", 0))
    else:
        loaded = bench.model(run.model, bench.dataset(run.task))
    prepared = prepare(run, loaded)
    draw = torch.Generator().manual_seed(3)
    if method != "full":
        with torch.no_grad():
            for parameter in prepared.injection.parameters.values():
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.2)
    exact = family not in DECODERS or family in ("opt", "gpt2", "gpt_neox")
    tolerance = {"rtol": 0.0, "atol": 1e-10} if exact else {"rtol": 1e-4, "atol": 1e-4}
    model = loaded.model.to(torch.float64 if exact else torch.float32).train()
    data = bench.encode(bench.parts(run).train, loaded, bench.source(run.model), 64)
    objective = objectives.get(task_kind)
    options = objective.loss_options(bench.parts(run).train, run.training)
    if kind == "completion":
        data = with_completions(data)

    def compute() -> tuple[dict[Any, Tensor], list[Tensor]]:
        forward = forward_for(loaded, prepared.fleet, Compute())
        (outputs,) = forward([MicroBatch(data, ROWS)])
        if kind == "completion":
            loss = outputs.summed_loss(0.0)
            logits = by_text(data, outputs)
        else:
            loss = objective.loss(outputs, data, ROWS, options)
            logits = dict(enumerate(outputs))
        parameters = list(prepared.trained.values())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return logits, [torch.zeros(1) if g is None else g for g in gradients]

    padded = compute()
    assert enable_packing(prepared)
    packed = compute()
    assert packed[0].keys() == padded[0].keys()
    for text, logits in padded[0].items():
        torch.testing.assert_close(packed[0][text], logits, **tolerance, check_dtype=False)
    assert any(g.abs().max() > 1e-3 for g in padded[1])
    for name, *gradients in zip(prepared.trained, packed[1], padded[1], strict=True):
        torch.testing.assert_close(*gradients, **tolerance, msg=name)
    prepared.undo()
    if method != "full":
        assert prepared.fleet.packing is None
        reset_head(loaded, 1)
        assert "forward" not in {
            name for m in model.modules() for name in vars(m) if m is not model
        }


def test_what_cannot_be_packed_is_padded(tmp_path: Path, tiny_model: Any) -> None:
    for family, method in (("deberta-v2", "lora"), ("bert", "unipelt"), ("bert", "peft:vera")):
        run = tiny_run(tiny_task(tmp_path), tiny_model(family), method)
        bench = ProcessCache()
        prepared = prepare(run, bench.model(run.model, bench.dataset(run.task)))
        assert not enable_packing(prepared) and prepared.fleet.packing is None


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


@pytest.mark.parametrize(
    ("family", "method"),
    chosen(
        [(f, m) for f in ("gemma3", "opt", "gemma2") for m in ("prefix", "ia3", "prompt", "lora")],
        4,
    ),
)
@pytest.mark.parametrize("rows", [([3, 17, 8], [], [0, 21, 11, 5]), ([7, 2], [6, 2], [4])])
def test_completions_of_a_fleet_are_scored_as_alone(
    family: str, method: str, rows: tuple[list[int], ...], tmp_path: Path, tiny_model: Any
) -> None:
    """Losses and gradients of three runs, one of them without rows, and of fleets of one."""
    task, folder = tiny_task(tmp_path, "pair"), tiny_model(family)
    runs = [
        tiny_run(task, folder, method, training={"dropout": 0.0}, seed=seed) for seed in (1, 2, 3)
    ]
    bench = ProcessCache()
    loaded = load_model(bench.source(runs[0].model), HeadSpec("causal_lm", "causal lm"))
    examples, source = bench.parts(runs[0]).train, bench.source(runs[0].model)
    data = with_completions(bench.encode(examples, loaded, source, 64))

    def compute(places: list[int]) -> list[tuple[dict[Any, Tensor], dict[str, Tensor]]]:
        model = SharedModel(runs[0], loaded, "cpu", objectives.get("instruction"))
        states = [RunParameters(runs[place]) for place in places]
        assert model.place(states)
        for run in states:
            draw = torch.Generator().manual_seed(run.run.seed)
            for parameter in run.method.values():
                parameter.data += torch.randn(parameter.shape, generator=draw) * 0.2
        outputs = model.forward([MicroBatch(data, rows[place]) for place in places])
        losses = [one.summed_loss(0.0) for one, place in zip(outputs, places, strict=True)]
        torch.stack([loss for loss in losses if loss.requires_grad]).sum().backward()
        model.distribute_gradients()
        each = [by_text(data, one) for one in outputs]
        gradients = [
            {name: p.grad for name, p in run.method.items() if p.grad is not None} for run in states
        ]
        model.remove_all()
        return list(zip(each, gradients, strict=True))

    for place, (losses, gradients) in enumerate(compute([0, 1, 2])):
        if not rows[place]:
            assert not losses
            continue
        ((expected, expected_gradients),) = compute([place])
        assert losses.keys() == expected.keys() and gradients.keys() == expected_gradients.keys()
        for text, own in losses.items():
            torch.testing.assert_close(own, expected[text], rtol=1e-5, atol=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(
                gradient, expected_gradients[name], rtol=1e-4, atol=1e-4, msg=name
            )
