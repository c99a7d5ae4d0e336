"""Packed translations give what padded ones give: logits, gradients, losses, the same search."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as from_bytes
from support.plain_loss import SEQ2SEQ, plain_loss
from support.seq2seq_walk import TRAINED, Case, case, traces
from torch import Tensor

from paretune.methods.core.run_axis import Fleet
from paretune.models.dropout import DropoutRng, set_dropout
from paretune.models.load import LoadedModel
from paretune.models.structure.heads import shift_right
from paretune.objectives.encoding import Encoded, pad_batch
from paretune.study import Generation
from paretune.testing.tiny_tasks import silent, tiny_run
from paretune.testing.tiny_translators import WORDS
from paretune.testing.translator_folders import tiny_marian, tiny_pairs, translator_folder
from paretune.training.caches import ProcessCache
from paretune.training.evaluation.predict import evaluate_alone, generate
from paretune.training.forward.packed import PackedSeq2SeqForward, is_ambiguous
from paretune.training.forward.passes import Compute, MicroBatch, to_tensors
from paretune.training.forward.select import (
    PassSplitter,
    enable_packing,
    forward_for,
    packing_disabled,
)
from paretune.training.prepare import PreparedModel, prepare
from paretune.training.trainer import train_run

PACKED = ("marian", "bart", "mbart", "m2m100")
METHODS = tuple(name for name in TRAINED if name not in ("unipelt", "untuned"))
EVERYWHERE = ("full", "lora", "prefix", "prompt")
PLACES = [
    pytest.param(
        family,
        method,
        id=f"{family}-{method}",
        marks=() if family == "marian" or method in EVERYWHERE else pytest.mark.slow,
    )
    for family in PACKED
    for method in METHODS
]
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


def in_rows(one: Case, data: Encoded, order: list[int]) -> tuple[Tensor, Tensor]:
    """Scores and tokens of a padded batch, one target after another, without its padding."""
    inputs = to_tensors(pad_batch(data, order, one.anatomy.pad_id or 0), "cpu")
    labels = inputs.pop("labels")
    logits = one.model(**inputs, decoder_input_ids=shift_right(one.model, labels)).logits
    return logits[labels >= 0], labels[labels >= 0]


def scored(one: Case, batches: list[MicroBatch], fleet: Fleet) -> list[tuple[Tensor, Tensor]]:
    """Scores and tokens of each run's pairs, packed."""
    forward = PackedSeq2SeqForward(one.model, fleet, Compute(), 0, PassSplitter(fleet, "cpu"))
    return [
        (torch.nn.functional.linear(own.hidden, own.weight, own.bias), own.labels)
        for own in forward(batches)
    ]


def longest_first(data: Encoded) -> list[int]:
    each = range(len(data.ids))
    return sorted(each, key=lambda i: (-data.lengths[i], -len(data.ids[i][0])))


@pytest.mark.parametrize(("family", "method"), PLACES)
def test_packed_pairs_give_the_same_logits_and_gradients(family: str, method: str) -> None:
    """float64; then, in fp32, the logits; then everything is as it was before."""
    one, data = case(method, family), pairs_of(COUNT)
    before = traces(one.model)
    prepared_model = prepared(one)
    one.model.double()
    parameters = list(prepared_model.trained.values())

    def compute() -> tuple[Tensor, Tensor, list[Tensor]]:
        if prepared_model.fleet.packing is None:
            prepared_model.fleet.set_row_counts([COUNT])
            scores, tokens = in_rows(one, data, longest_first(data))
        else:
            ((scores, tokens),) = scored(
                one, [MicroBatch(data, range(COUNT))], prepared_model.fleet
            )
        # In its own precision: ours is taken in fp32.
        loss = torch.nn.functional.cross_entropy(
            scores, tokens, reduction="sum", label_smoothing=0.1
        )
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return scores.detach(), tokens, [torch.zeros(1) if g is None else g for g in gradients]

    padded = compute()
    assert enable_packing(prepared_model)
    packed = compute()
    assert torch.equal(packed[1], padded[1])
    torch.testing.assert_close(packed[0], padded[0], rtol=0, atol=1e-10)
    assert any(g.abs().max() > 1e-3 for g in padded[2])
    for name, mine, other in zip(prepared_model.trained, packed[2], padded[2], strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10, msg=name)
    one.model.float()
    near = scored(one, [MicroBatch(data, range(COUNT))], prepared_model.fleet)[0][0]
    torch.testing.assert_close(near, packed[0].float(), rtol=0, atol=1e-5)
    prepared_model.undo()
    assert prepared_model.fleet.packing is None and prepared_model.fleet.dropout_rng is None
    assert traces(one.model) == before


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


@pytest.mark.parametrize("method", ["lora", "prompt", "prefix"])
def test_evaluation_and_search_do_not_depend_on_packing(method: str, tmp_path: Path) -> None:
    """And a packed model is packed again after its search, which goes step by step."""
    task, model = tiny_pairs(tmp_path / "data"), tiny_marian(tmp_path / "marian")
    run, bench = tiny_run(task, model, method), ProcessCache()
    loaded = bench.model(run.model, bench.dataset(task))
    prepared_model = prepare(run, loaded)
    with torch.no_grad():
        for parameter in prepared_model.injection.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    data = bench.encode(
        bench.parts(run).test, loaded, bench.source(run.model), prepared_model.max_length
    )
    settings = Generation(max_new_tokens=9)

    def token_loss() -> Any:
        return evaluate_alone(
            forward_for(loaded, prepared_model.fleet, Compute()), data, SEQ2SEQ.collector
        )

    def texts() -> list[str]:
        return generate(loaded, prepared_model.fleet, Compute(), data, settings)

    loss, expected = token_loss(), texts()
    before = traces(loaded.model)
    assert enable_packing(prepared_model)
    inside = traces(loaded.model)
    assert inside != before
    packed = token_loss()
    assert packed.mean == pytest.approx(loss.mean, abs=1e-5)
    for one, other in zip(packed.tokens, loss.tokens, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert texts() == expected
    assert traces(loaded.model) == inside
    assert token_loss().mean == pytest.approx(loss.mean, abs=1e-5)
    with pytest.raises(ZeroDivisionError), packing_disabled(loaded, prepared_model.fleet):
        assert traces(loaded.model) == before
        raise ZeroDivisionError
    assert traces(loaded.model) == inside and prepared_model.fleet.packing is not None


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


@pytest.mark.parametrize("method", ["lora", "ia3", "prompt", "prefix", "houlsby"])
@pytest.mark.parametrize("equal", [False, True], ids=["told-apart", "as-many-rows"])
def test_runs_in_one_pass_are_as_alone(equal: bool, method: str) -> None:
    """Losses and gradients, with dropout; also where rows do not tell whose they are."""
    data = pairs_of(COUNT, seed=4)
    if equal:  # as many tokens in all sources as in all targets, but not in each run
        data = same_rows(data, 5, prompts=3 if method == "prompt" else 0)
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
        assert packing is not None and (packing.layout.run_sequences[0] == 0) == equal
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


def test_ways_that_tell_rows_apart() -> None:
    assert not is_ambiguous([[5, 3], [1, 1], [4, 6]])
    assert not is_ambiguous([[5, 3], [1, 1], [5, 3]])
    assert is_ambiguous([[5, 3], [1, 1], [4, 4]])
