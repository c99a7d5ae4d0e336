"""The contract of every method on every model family and task kind (design.md, "Contract").

Each combination is walked through once (contract_walk.py); the tests look at what was seen, and
take it up where they need more. By default every method walks on BERT and on one family and kind
of the day, LoRA and prompt tuning on all families; ``make guarantees`` walks the rest, and every
method on a real model, and writes docs/guarantees.md from what these tests found (guarantees.py).
A test that passes because the method may not do a thing says so with ``excused``: the reason is on
the page.
"""

from __future__ import annotations

import datetime
import json
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from contract_walk import IN_PEFT, MERGED, METHODS, Walk, objective, unsettle, walk_of, walked
from guarantees import CLAUSES, EXCUSED, NOTE, REAL
from peft_tensors import into_ours
from safetensors.torch import load as from_bytes
from tiny_models import FAMILIES
from tiny_tasks import KINDS, tiny_run, tiny_task
from torch import Tensor
from two_runs import Both
from zero_effect import ZERO, without_effect

from paretune.errors import MethodError
from paretune.export import formats
from paretune.study import MethodSpec
from paretune.training.prepare import prepare
from paretune.training.workbench import Workbench

TODAY = datetime.date.today().toordinal()
ROTATING = FAMILIES[1:][TODAY % (len(FAMILIES) - 1)], KINDS[TODAY % len(KINDS)]
REFUSED = {("bitfit", "modernbert"): "has no biases"}
"""Pairs that a method cannot do, and what its refusal says."""
BESIDE_PROJECTIONS = (
    "bitfit", "dora", "ia3", "layer_norm", "loha", "lokr", "lora", "stack", "unipelt",
)  # fmt: skip
"""Methods that meet DeBERTa's table of relative positions, which belongs to no run."""


def combinations() -> list[Any]:
    found = []
    for family in FAMILIES:
        for kind in KINDS:
            for method in METHODS:
                always = (family, kind) == ROTATING or (
                    # One segment or two makes no difference to a model's classes.
                    (family == "bert" or method in ("lora", "prompt")) and kind != "classification"
                )
                marks = () if always else pytest.mark.slow
                if (method, family) not in REFUSED:
                    found.append(_named(method, family, kind, marks))
    return found + [_named(method, REAL, KINDS[0], pytest.mark.slow) for method in METHODS]


def _named(method: str, family: str, kind: str, marks: Any = ()) -> Any:
    return pytest.param((method, family, kind), id=f"{method}-{family}-{kind}", marks=marks)


@pytest.fixture(scope="module")
def bench() -> Workbench:
    """Models are kept from one walk to the next, so a method that leaves a trace is found."""
    return Workbench()


@pytest.fixture(scope="module", params=combinations())
def walk(
    request: pytest.FixtureRequest, bench: Workbench, tmp_path_factory: pytest.TempPathFactory
) -> Walk:
    method, family, kind = request.param
    if family == REAL:
        model = request.getfixturevalue("shared") / "models" / family
        if not model.is_dir():
            pytest.skip(f"needs the model {family} in the development data folder ../shared")
    else:
        model = request.getfixturevalue("tiny_model")(family)
    folder = tmp_path_factory.mktemp("walk")
    return walked(walk_of(method, kind, model, folder), bench, folder)


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """transformers rounds ModernBERT's rotated queries and keys to fp32; here nothing does."""
    from transformers.models.modernbert import modeling_modernbert as theirs

    def rotated(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Any:
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return tuple(one * cos + theirs.rotate_half(one) * sin for one in (q, k))

    monkeypatch.setattr(theirs, "apply_rotary_pos_emb", rotated)
    return torch.float64


def test_every_clause_has_a_test() -> None:
    given = [
        mark.args[0]
        for name, test in globals().items()
        if name.startswith("test_")
        for mark in getattr(test, "pytestmark", [])
        if mark.name == "guarantee"
    ]
    assert sorted(given) == sorted([*CLAUSES, "*"])


@pytest.mark.guarantee("*")
@pytest.mark.parametrize(
    "place", [_named(*pair, kind) for pair in REFUSED for kind in KINDS if pair[0] in METHODS]
)
def test_what_it_cannot_do_it_refuses(
    place: tuple[str, str, str], bench: Workbench, tiny_model: Any, tmp_path: Path,
    record_property: Any,
) -> None:  # fmt: skip
    method, family, kind = place
    run = tiny_run(tiny_task(tmp_path, kind), tiny_model(family), method)
    loaded = bench.model(run.model, bench.dataset(run.task))
    names = list(dict(loaded.model.named_parameters()))
    with pytest.raises(MethodError, match=REFUSED[method, family]):
        prepare(run, loaded)
    assert list(dict(loaded.model.named_parameters())) == names
    record_property(EXCUSED, f"the model {REFUSED[method, family]}, and the method says so")


@pytest.mark.guarantee("S")
def test_it_starts_where_it_says(walk: Walk) -> None:
    if walk.module.STARTS_AS_BASE:
        assert torch.equal(walk.start, walk.base)
    else:
        assert not torch.allclose(walk.start, walk.base, atol=1e-3)


@pytest.mark.guarantee("T")
def test_what_it_trains_is_declared_and_counted(walk: Walk) -> None:
    assert sum(walk.trained.values()) == walk.count
    result = walk.outcome.result
    assert result["method_parameters"] == walk.count
    kept = from_bytes(walk.outcome.blobs["weights"])
    assert set(kept) == {*walk.trained, *walk.head}
    assert result["trained_parameters"] == sum(t.numel() for t in kept.values())


@pytest.mark.guarantee("H")
def test_the_whole_head_is_trained_and_kept(walk: Walk) -> None:
    kept = from_bytes(walk.outcome.blobs["weights"])
    assert walk.head and set(walk.head) <= set(kept)
    assert not set(walk.head).intersection(walk.unmoved)
    assert walk.outcome.result["head_parameters"] == sum(kept[n].numel() for n in walk.head)


@pytest.mark.guarantee("F")
def test_frozen_tensors_keep_their_bits(walk: Walk) -> None:
    assert walk.moved_frozen == []


@pytest.mark.guarantee("G")
def test_every_trained_tensor_gets_a_gradient_and_moves(walk: Walk) -> None:
    assert walk.without_gradient == []
    assert walk.unmoved == []


@pytest.mark.guarantee("N")
def test_gradients_are_those_of_finite_differences(
    walk: Walk, float64: torch.dtype, record_property: Any
) -> None:
    """Through the whole model: the slope along random directions of all that is trained."""
    prepared = walk.prepared(walk.copied())
    model, batch = prepared.loaded.model.to(float64).eval(), walk.batch(prepared.loaded)
    trained = list(prepared.trained.values())
    unsettle(trained, by=0.1)
    if walk.method == "dora":
        record_property(NOTE, "DoRA's norms held constant, as its gradient has them")
        for part in prepared.injection.parts.values():
            part.lengths = partial(torch.Tensor.detach, part.lengths())
    gradients = torch.autograd.grad(objective(model(**batch).logits), trained)
    draw, step = torch.Generator().manual_seed(11), 1e-6
    for _ in range(3):
        # Every tensor's direction is of length about 1, so small tensors count as much as large.
        directions = [
            torch.randn(p.shape, generator=draw, dtype=float64) / p.numel() ** 0.5 for p in trained
        ]
        parts = [(g * d).sum() for g, d in zip(gradients, directions, strict=True)]
        ends = []
        with torch.no_grad():
            for way in (step, -2 * step, step):  # ahead, behind, and back again
                for parameter, direction in zip(trained, directions, strict=True):
                    parameter.add_(direction, alpha=way)
                ends.append(objective(model(**batch).logits))
        slope = (ends[0] - ends[1]) / (2 * step)
        size = torch.stack(parts).abs().sum()
        assert size > 1e-2
        assert abs(slope - torch.stack(parts).sum()) < 1e-7 * size


@pytest.mark.guarantee("L")
def test_saved_and_loaded_it_answers_the_same(walk: Walk) -> None:
    told = json.loads(walk.outcome.blobs["predictions"])["test"]
    if walk.task.kind == "regression":  # what was kept answers in the label's unit
        numbers = torch.tensor(told["prediction"]).reshape(walk.again.shape)
        torch.testing.assert_close(walk.again, numbers, rtol=1e-6, atol=1e-6)
    else:
        assert torch.equal(walk.again, torch.tensor(told["scores"]).reshape(walk.again.shape))
    assert not torch.allclose(walk.again, walk.base, atol=1e-3)


@pytest.mark.guarantee("M")
def test_merged_equals_unmerged(walk: Walk, tmp_path: Path, record_property: Any) -> None:
    """On disk: a checkpoint that transformers opens without us."""
    ours, reason = walk.restored(), formats.choices(walk.run, walk.task)["merged"]
    assert bool(reason) == (walk.method not in (*MERGED, *formats.PLAIN))
    if reason:
        with pytest.raises(MethodError, match=reason):
            formats.as_merged(walk.run, ours, tmp_path)
        record_property(EXCUSED, reason)
        return
    formats.as_merged(walk.run, ours, tmp_path)
    names = dict(ours.loaded.model.named_parameters())
    assert list(names) == [name for name, _ in walk.copied().model.named_parameters()]
    opened = formats.opened("merged", walk.task, walk.bench.source(walk.run.model), tmp_path)
    found = formats.answers(opened, walk.batch(ours.loaded))
    torch.testing.assert_close(found, walk.again, rtol=0, atol=1e-5)
    assert not torch.allclose(found, walk.base, atol=1e-3)


@pytest.mark.guarantee("U")
def test_undo_restores_the_base(walk: Walk, record_property: Any) -> None:
    if walk.method == "full":
        record_property(NOTE, "cannot be undone: the next run is given a model loaded anew")
    assert walk.same_names
    assert walk.pristine[0] == walk.pristine[1]
    assert torch.equal(walk.undone, walk.base)


@pytest.mark.guarantee("X")
def test_the_export_opens_in_peft_and_comes_back(
    walk: Walk, tmp_path: Path, record_property: Any
) -> None:
    ours, source = walk.restored(), walk.bench.source(walk.run.model)
    reason = formats.choices(walk.run, walk.task)["peft"]
    if reason:
        several = walk.task.kind == "multiple_choice"
        assert walk.method not in IN_PEFT or (several and walk.method in ("prompt", "p_tuning"))
        record_property(EXCUSED, reason)
        return
    batch = walk.batch(ours.loaded)
    formats.as_peft(walk.run, walk.task, source, ours, tmp_path / "once")
    theirs = formats.opened("peft", walk.task, source, tmp_path / "once")
    assert isinstance(theirs, peft.PeftModel)
    torch.testing.assert_close(formats.answers(theirs, batch), walk.again, rtol=0, atol=1e-5)
    theirs.save_pretrained(tmp_path / "twice")
    again = formats.opened("peft", walk.task, source, tmp_path / "twice")
    assert torch.equal(formats.answers(again, batch), formats.answers(theirs, batch))
    as_what = walk.run.method
    if walk.method == "p_tuning":
        record_property(NOTE, "PEFT keeps the virtual tokens alone: they come back as a prompt's")
        as_what = MethodSpec.model_validate({"name": "prompt", **as_what.options})
    back = walk.prepared(walk.copied(), seed=7, method=as_what)
    into_ours(back, again)
    found = formats.answers(back.loaded.model, batch)
    torch.testing.assert_close(found, walk.again, rtol=0, atol=1e-5)


@pytest.mark.guarantee("Z")
def test_without_effect_it_is_the_base(
    walk: Walk, float64: torch.dtype, record_property: Any
) -> None:
    """Bit for bit where a tensor is at its start; without virtual tokens, in float64."""
    neutral = ZERO[walk.method]
    virtual = neutral is not None and "K" in neutral
    dtype = float64 if virtual else torch.float32
    plain = walk.copied()
    batch = walk.batch(plain)
    base = plain.model.to(dtype)(**batch).logits
    prepared = walk.prepared(walk.copied())
    model = prepared.loaded.model.to(dtype)
    said = "as it starts" if neutral is None else without_effect(prepared.injection, neutral)
    record_property(NOTE, said)
    found = model(**batch).logits
    if virtual:
        # transformers rounds the scale of DeBERTa's attention to fp32; beside a prefix it is exact.
        atol = 1e-7 if hasattr(model, "deberta") else 1e-10
        torch.testing.assert_close(found, base, rtol=0, atol=atol)
    else:
        assert torch.equal(found, base)


@pytest.mark.guarantee("P")
def test_padding_and_batch_size_do_not_change_logits(walk: Walk) -> None:
    torch.testing.assert_close(walk.single, walk.batched, rtol=0, atol=1e-5)
    torch.testing.assert_close(walk.padded, walk.batched, rtol=0, atol=1e-5)


@pytest.mark.guarantee("B")
def test_a_run_beside_it_changes_nothing(
    walk: Walk, float64: torch.dtype, record_property: Any
) -> None:
    """Logits and gradients of two runs in one pass, of equal shares or not, are those alone."""
    if walk.method == "full":
        assert len(walk.trained) == len(list(walk.copied().model.named_parameters()))
        record_property(EXCUSED, "trains the backbone itself, so every run needs its own")
        return
    data = walk.encoded(walk.loaded(), "train")
    pair = Both(walk.run, walk.copied, data, float64)
    pair.unsettle()
    if walk.method in BESIDE_PROJECTIONS and hasattr(pair.joint.model, "deberta"):
        with pytest.raises(ValueError, match=r"rows, but those of the runs are"):
            pair.together(pair.rows((5, 2)))
        record_property(EXCUSED, "DeBERTa's relative positions belong to no run: it runs alone")
        return
    for shares in ((4, 4), (5, 2)):
        pair.equal(shares, lambda logits, rows: objective(logits))
