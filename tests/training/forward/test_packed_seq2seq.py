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

from paretune.models.dropout import DropoutRng
from paretune.models.load import LoadedModel
from paretune.models.pass_context import PassContext
from paretune.objectives.encoding import Encoded, pad_batch
from paretune.study import Generation
from paretune.testing.tiny_tasks import silent, tiny_run
from paretune.testing.tiny_translators import WORDS
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.training.forward.passes import to_tensors
from paretune.training.forward.select import (
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


def prepared(one: Case) -> PreparedModel:
    """The method inside the model, moved from where it starts."""
    context = PassContext()
    injection = one.inject(context)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in injection.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
    loaded = LoadedModel(one.model, None, one.anatomy, head_parameters=(), notes=())
    trained = dict(injection.parameters)
    return PreparedModel(loaded, one.method, injection, context, trained, 64)


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
        assert not enable_packing(prepared_model) and prepared_model.context.packing is None
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
    with pytest.raises(ZeroDivisionError), packing_disabled(ready.loaded, ready.context):
        assert traces(one.model) == before != inside
        raise ZeroDivisionError
    assert traces(one.model) == inside and ready.context.packing is not None
    ready.undo()
    assert ready.context.packing is None and ready.context.dropout_rng is None


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
