"""Packed translations give what padded ones give: logits, gradients, losses, the same search."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as from_bytes
from support.plain_loss import SEQ2SEQ, plain_loss
from support.seq2seq_walk import Case, case, traces
from torch import Tensor

from paretune.methods.core.run_axis import Fleet
from paretune.models.dropout import DropoutRng, set_dropout
from paretune.models.load import LoadedModel
from paretune.objectives.encoding import Encoded, pad_batch
from paretune.study import Generation
from paretune.testing.tiny_tasks import silent, tiny_run
from paretune.testing.tiny_translators import WORDS
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.training.forward.packed import PackedSeq2SeqForward
from paretune.training.forward.passes import Compute, MicroBatch, to_tensors
from paretune.training.forward.select import (
    PassSplitter,
    enable_packing,
    packing_disabled,
)
from paretune.training.prepare import PreparedModel
from paretune.training.trainer import train_run

PACKED = ("marian", "bart", "mbart", "m2m100")
COUNT = 9


def pairs_of(count: int, seed: int = 0) -> Encoded:
    """Sources and targets of every length, down to one token."""
    rng = random.Random(seed)  # noqa: S311 (a toy's words, no secret)

    def text(most: int) -> list[int]:
        return [rng.randrange(4, WORDS) for _ in range(rng.randint(1, most))]

    ids, targets = [[text(20)] for _ in range(count)], [text(18) for _ in range(count)]
    lengths = [len(one[0]) + len(other) for one, other in zip(ids, targets, strict=True)]
    return Encoded(ids, None, lengths, [None] * count, [False] * count, targets)


def prepared(one: Case, fleet: Fleet | None = None) -> PreparedModel:
    """The method inside the model, moved from where it starts."""
    fleet = fleet or Fleet()
    injection = one.inject(fleet)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in injection.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
    loaded = LoadedModel(one.model, None, one.anatomy, head_parameters=(), notes=())
    trained = dict(injection.parameters)
    return PreparedModel(loaded, one.method, injection, fleet, trained, 64)


def scored(one: Case, batches: list[MicroBatch], fleet: Fleet) -> list[tuple[Tensor, Tensor]]:
    """Scores and tokens of each run's pairs, packed."""
    forward = PackedSeq2SeqForward(one.model, fleet, Compute(), 0, PassSplitter(fleet, "cpu"))
    return [
        (torch.nn.functional.linear(own.hidden, own.weight, own.bias), own.labels)
        for own in forward(batches)
    ]


@pytest.mark.parametrize("family", [*PACKED, "t5"])
def test_the_decoder_is_told_what_transformers_tells_it(family: str) -> None:
    """Also M2M100's, which has no function for it."""
    one, data = case("untuned", family), pairs_of(5)
    pad_id = one.anatomy.pad_id or 0
    with torch.no_grad():
        ours = plain_loss(one.model, pad_id, data, range(5))
        expected = one.model(**to_tensors(pad_batch(data, range(5), pad_id), "cpu")).loss
    torch.testing.assert_close(ours / SEQ2SEQ.weight(data, range(5)), expected)


def test_what_cannot_be_packed_is_padded() -> None:
    for family, method in (("t5", "lora"), ("mt5", "lora"), ("marian", "unipelt")):
        prepared_model = prepared(case(method, family))
        assert not enable_packing(prepared_model) and prepared_model.fleet.packing is None
    told_padding = case("lora", "m2m100")
    told_padding.model.config.decoder_start_token_id = told_padding.anatomy.pad_id
    assert not enable_packing(prepared(told_padding))


def test_a_search_that_fails_leaves_the_model_packed() -> None:
    """It goes step by step in the model as it was."""
    one = case("lora", "marian")
    ready = prepared(one)
    before = traces(one.model)
    assert enable_packing(ready)
    inside = traces(one.model)
    with pytest.raises(ZeroDivisionError), packing_disabled(ready.loaded, ready.fleet):
        assert traces(one.model) == before != inside
        raise ZeroDivisionError
    assert traces(one.model) == inside and ready.fleet.packing is not None
    ready.undo()
    assert ready.fleet.packing is None and ready.fleet.dropout_rng is None


@pytest.mark.parametrize(
    ("family", "method"), [("marian", "lora"), ("marian", "full"), ("mbart", "lora")]
)
def test_dropout_is_the_same_twice_and_where_activations_are_computed_again(
    family: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, model = tiny_pairs(tmp_path / "data"), translator_folder(family, tmp_path / family)
    rates: list[float] = []
    drop = DropoutRng.drop
    monkeypatch.setattr(
        DropoutRng,
        "drop",
        lambda rng, x, p: rates.append(p) or drop(rng, x, p),  # type: ignore[func-returns-value]
    )

    def trained(**training: Any) -> tuple[Any, dict[str, Tensor]]:
        settings = {"dropout": 0.1, **training}
        run = tiny_run(
            task, model, method, training=settings, generation=Generation(max_new_tokens=4)
        )
        outcome = train_run(run, checkpoint=tmp_path / "x", report=silent)
        return outcome.result["curve"], from_bytes(outcome.blobs["weights"])

    plain = trained()
    # In each of three steps: two before the layers, three in each of three of the encoder, four in
    # each of two of the decoder.
    assert len(rates) == 3 * (2 + 3 * 3 + 2 * 4) and {*rates} == {0.1}
    for other in (trained(), trained(activation_checkpointing=True)):
        assert other[0] == plain[0]
        for name, tensor in plain[1].items():
            assert torch.equal(tensor, other[1][name]), name
    assert trained(dropout=0.0)[0] != plain[0]


@pytest.mark.parametrize("method", ["lora", "prompt", "prefix"])
def test_runs_whose_rows_do_not_tell_whose_they_are_have_their_own_losses(method: str) -> None:
    """As many tokens in all sources as in all targets, but not in each run; with dropout."""
    data = same_rows(pairs_of(COUNT, seed=4), 5, prompts=3 if method == "prompt" else 0)
    shares = [MicroBatch(data, [4, 0, 2, 1, 3]), MicroBatch(data, [8, 6, 7, 5])]
    one = case(method, "marian")
    fleet = Fleet(2)
    prepared_model = prepared(one, fleet)
    assert enable_packing(prepared_model)
    set_dropout(one.model, 0.2)
    one.model.train()
    fleet.seed_dropout([11, 12])
    with fleet.dropout_context():
        both = scored(one, shares, fleet)
        packing = fleet.packing
        assert packing is not None and packing.layout.run_sequences[0] == 0
        loss = sum(s.logsumexp(-1).sum() for s, _ in both)
        torch.autograd.backward(loss)
    values = {n: (p.detach().clone(), p.grad) for n, p in prepared_model.trained.items()}
    prepared_model.undo()
    for run, seed in enumerate((11, 12)):
        alone = prepared(one)
        for name, parameter in alone.trained.items():
            parameter.data.copy_(values[name][0][run : run + 1])
        assert enable_packing(alone)
        set_dropout(one.model, 0.2)
        alone.fleet.seed_dropout([seed])
        with alone.fleet.dropout_context():
            ((scores, tokens),) = scored(one, [shares[run]], alone.fleet)
            torch.autograd.backward(scores.logsumexp(-1).sum())
        assert torch.equal(tokens, both[run][1])
        torch.testing.assert_close(scores, both[run][0], rtol=0, atol=1e-5)
        for name, parameter in alone.trained.items():
            expected = values[name][1]
            assert expected is not None and parameter.grad is not None
            torch.testing.assert_close(
                parameter.grad, expected[run : run + 1], rtol=1e-5, atol=1e-5, msg=name
            )
        alone.undo()


def same_rows(data: Encoded, other_run: int, prompts: int) -> Encoded:
    """Targets so long that all have as many tokens as all sources, but not those of each run."""
    ids = data.ids
    targets = [[*one[0], *[9] * prompts] for one in ids]
    targets[0] += [9, 9]
    targets[other_run] = targets[other_run][:-2]
    assert targets[other_run]
    lengths = [len(one[0]) + len(other) for one, other in zip(ids, targets, strict=True)]
    return Encoded(ids, None, lengths, data.labels, data.truncated, targets)
