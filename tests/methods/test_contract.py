"""The contract of every method on every model family and task kind (design.md, "Contract").

Each combination is walked through once (contract_walk.py); the tests look at what was seen, and
take it up where they need more. By default every method walks on BERT, on Marian, and on one family
and kind of the day, LoRA and prompt tuning on all encoders; ``make guarantees`` walks the rest, and
every method on real models, and writes docs/guarantees.md from what these tests found
(guarantees.py). A test that passes because the method may not do a thing says so with ``excused``:
the reason is on the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load as from_bytes
from support.contract_places import REFUSED, combinations, refused, unserved
from support.contract_walk import (
    IN_PEFT,
    MERGED,
    TRANSLATION,
    Walk,
    objective,
    told,
    unsettle,
    walk_of,
    walked,
)
from support.guarantees import CLAUSES, EXCUSED, NOTE, UNSERVED
from support.peft_tensors import into_ours
from support.tiny_models import FAMILIES
from support.translator_folders import TRANSLATORS, translator_folder
from support.two_runs import Both
from support.zero_effect import ZERO, without_effect
from torch import Tensor

from paretune import methods
from paretune.errors import MethodError
from paretune.exporting import formats
from paretune.planning.context import StudyContext
from paretune.study import MethodSpec
from paretune.training.caches import ProcessCache
from paretune.training.prepare import prepare

NOTHING = "trains nothing"


@pytest.fixture(scope="module")
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint of a family, or of a real model."""
    made: dict[str, Path] = {}

    def give(family: str) -> Path:
        if family in FAMILIES:
            return Path(request.getfixturevalue("tiny_model")(family))
        if family in TRANSLATORS and family not in made:
            made[family] = translator_folder(family, tmp_path_factory.mktemp("tiny") / family)
        if family in made:
            return made[family]
        model: Path = request.getfixturevalue("shared") / "models" / family
        if not model.is_dir():
            pytest.skip(f"needs the model {family} in the development data folder ../shared")
        return model

    return give


@pytest.fixture(scope="module")
def bench() -> ProcessCache:
    """Models are kept from one walk to the next, so a method that leaves a trace is found."""
    return ProcessCache()


@pytest.fixture(scope="module", params=combinations())
def walk(
    request: pytest.FixtureRequest, bench: ProcessCache, checkpoint: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Walk:  # fmt: skip
    method, family, kind = request.param
    folder = tmp_path_factory.mktemp("walk")
    return walked(walk_of(method, kind, checkpoint(family), folder), bench, folder)


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """transformers rounds ModernBERT's rotations and T5's norms to fp32; here nothing does."""
    from transformers.models.modernbert import modeling_modernbert as theirs
    from transformers.models.t5.modeling_t5 import T5LayerNorm

    def rotated(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Any:
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return tuple(one * cos + theirs.rotate_half(one) * sin for one in (q, k))

    def scaled(norm: Any, x: Tensor) -> Any:
        variance = x.square().mean(-1, keepdim=True)
        return norm.weight * (x * torch.rsqrt(variance + norm.variance_epsilon))

    monkeypatch.setattr(theirs, "apply_rotary_pos_emb", rotated)
    monkeypatch.setattr(T5LayerNorm, "forward", scaled)
    return torch.float64


def test_every_clause_has_a_test() -> None:
    given = [
        mark.args[0]
        for name, test in globals().items()
        if name.startswith("test_")
        for mark in getattr(test, "pytestmark", [])
        if mark.name == "guarantee"
    ]
    assert sorted(given) == sorted([*CLAUSES, "*", "*"])


@pytest.mark.guarantee("*")
@pytest.mark.parametrize("place", refused())
def test_what_it_cannot_do_it_refuses(
    place: tuple[str, str, str], bench: ProcessCache, checkpoint: Any, tmp_path: Path,
    record_property: Any,
) -> None:  # fmt: skip
    method, family, kind = place
    run = walk_of(method, kind, checkpoint(family), tmp_path)
    loaded = bench.model(run.model, bench.dataset(run.task))
    names = list(dict(loaded.model.named_parameters()))
    with pytest.raises(MethodError, match=REFUSED[method, family]):
        prepare(run, loaded)
    assert list(dict(loaded.model.named_parameters())) == names
    record_property(EXCUSED, f"the model {REFUSED[method, family]}, and the method says so")


@pytest.mark.guarantee("*")
@pytest.mark.parametrize("place", unserved())
def test_a_plan_refuses_what_it_does_not_serve(
    place: tuple[str, str, str], tmp_path: Path, record_property: Any
) -> None:
    method, _, kind = place
    run = walk_of(method, kind, tmp_path, tmp_path)
    with pytest.raises(
        MethodError, match=f" needs a head .*, and {kind.replace('_', ' ')} "
    ) as refusal:
        StudyContext().check_method_serves(run.method, run.task)
    record_property(UNSERVED, str(refusal.value.what).partition(", and ")[0])


@pytest.mark.guarantee("S")
def test_it_starts_where_it_says(walk: Walk) -> None:
    assert any(walk.texts["base"]) == (walk.task.kind == TRANSLATION)
    if walk.module.starts_as_base:
        assert torch.equal(walk.start, walk.base)
        assert walk.texts["start"] == walk.texts["base"]
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
def test_the_whole_head_is_trained_and_kept(walk: Walk, record_property: Any) -> None:
    kept = from_bytes(walk.outcome.blobs["weights"])
    if walk.task.kind == TRANSLATION:
        assert walk.head == () and walk.outcome.result["head_parameters"] == 0
        record_property(EXCUSED, "a translation model comes whole: it has no head")
        return
    assert walk.head and set(walk.head) <= set(kept)
    assert not set(walk.head).intersection(walk.unmoved)
    assert walk.outcome.result["head_parameters"] == sum(kept[n].numel() for n in walk.head)


@pytest.mark.guarantee("F")
def test_frozen_tensors_keep_their_bits(walk: Walk) -> None:
    assert walk.moved_frozen == []


@pytest.mark.guarantee("G")
def test_every_trained_tensor_gets_a_gradient_and_moves(walk: Walk, record_property: Any) -> None:
    if walk.method == "untuned":
        assert walk.trained == {}
        record_property(EXCUSED, NOTHING)
    assert walk.without_gradient == []
    assert walk.unmoved == []


@pytest.mark.guarantee("N")
def test_gradients_are_those_of_finite_differences(
    walk: Walk, float64: torch.dtype, record_property: Any
) -> None:
    """Through the whole model: the slope along random directions of all that is trained."""
    if walk.method == "untuned":
        assert walk.trained == {}
        record_property(EXCUSED, NOTHING)
        return
    prepared = walk.prepared(walk.copied())
    model, batch = prepared.loaded.model.to(float64).eval(), walk.batch(prepared.loaded)
    trained = list(prepared.trained.values())
    unsettle(trained, by=0.1)
    if walk.method == "dora":
        record_property(NOTE, "DoRA's norms held constant, as its gradient has them")
        for part in prepared.injection.adapters.values():
            part.row_norms = partial(torch.Tensor.detach, part.row_norms())
    still = _rows_without_gradient(model, trained)
    if still and getattr(model.config, "decoder_start_token_id", None) == prepared.pad_id:
        record_property(NOTE, "the row of the padding token, which starts every target, held still")
    gradients = torch.autograd.grad(objective(told(model(**batch).logits, batch)), trained)
    draw, step = torch.Generator().manual_seed(11), 1e-6
    for _ in range(3):
        # Every tensor's direction is of length about 1, so small tensors count as much as large.
        directions = [
            torch.randn(p.shape, generator=draw, dtype=float64) / p.numel() ** 0.5 for p in trained
        ]
        for place, row in still.items():
            directions[place][row] = 0
        parts = [(g * d).sum() for g, d in zip(gradients, directions, strict=True)]
        ends = []
        with torch.no_grad():
            for way in (step, -2 * step, step):  # ahead, behind, and back again
                for parameter, direction in zip(trained, directions, strict=True):
                    parameter.add_(direction, alpha=way)
                ends.append(objective(told(model(**batch).logits, batch)))
        slope = (ends[0] - ends[1]) / (2 * step)
        size = torch.stack(parts).abs().sum()
        assert size > 1e-2
        # What float64 rounds off a large loss counts for more, the smaller the step.
        rounding = torch.finfo(float64).eps * ends[0] / step
        assert abs(slope - torch.stack(parts).sum()) < 1e-7 * size + rounding


def _rows_without_gradient(model: torch.nn.Module, trained: list[Any]) -> dict[int, int]:
    """The row of padding in each trained table of words: what is looked up there moves nothing."""
    rows = {
        id(part.weight): part.padding_idx
        for part in model.modules()
        if isinstance(part, torch.nn.Embedding) and part.padding_idx is not None
    }
    return {i: rows[id(p)] for i, p in enumerate(trained) if id(p) in rows}


@pytest.mark.guarantee("L")
def test_saved_and_loaded_it_answers_the_same(walk: Walk) -> None:
    kept = json.loads(walk.outcome.blobs["predictions"])["test"]
    if walk.task.kind == TRANSLATION:
        assert walk.texts["packed"] == kept["prediction"]
        assert walk.loss == walk.outcome.result["scores"]["test"]["loss"]
    elif walk.task.kind == "regression":  # what was kept answers in the label's unit
        numbers = torch.tensor(kept["prediction"]).reshape(walk.again.shape)
        torch.testing.assert_close(walk.packed, numbers, rtol=1e-6, atol=1e-6)
    else:
        assert torch.equal(walk.packed, torch.tensor(kept["scores"]).reshape(walk.again.shape))
    torch.testing.assert_close(walk.packed, walk.again, rtol=0, atol=1e-5)
    assert _as_base(walk, walk.again) == (walk.method == "untuned")


def _as_base(walk: Walk, found: Tensor) -> bool:
    return torch.allclose(found, walk.base, atol=1e-3)


@pytest.mark.guarantee("M")
def test_merged_equals_unmerged(walk: Walk, tmp_path: Path, record_property: Any) -> None:
    """On disk: a checkpoint that transformers opens without us."""
    ours, reason = walk.restored(), formats.explain_forms(walk.run, walk.task)["merged"]
    assert bool(reason) == (
        walk.method not in MERGED and walk.module.trains is methods.Trains.ADAPTER
    )
    if reason:
        with pytest.raises(MethodError, match=reason):
            formats.write_merged_model(walk.run, ours, tmp_path)
        record_property(EXCUSED, reason)
        return
    formats.write_merged_model(walk.run, ours, tmp_path)
    names = dict(ours.loaded.model.named_parameters())
    assert list(names) == [name for name, _ in walk.copied().model.named_parameters()]
    opened = formats.open_export("merged", walk.task, walk.bench.source(walk.run.model), tmp_path)
    batch = walk.batch(ours.loaded)
    found = told(formats.compute_logits(opened, batch), batch)
    torch.testing.assert_close(found, walk.again, rtol=0, atol=1e-5)
    assert walk.beams(ours.loaded, opened, batch) == walk.texts["again"]
    assert _as_base(walk, found) == (walk.method == "untuned")


@pytest.mark.guarantee("U")
def test_undo_restores_the_base(walk: Walk, record_property: Any) -> None:
    if walk.method == "full":
        record_property(NOTE, "cannot be undone: the next run is given a model loaded anew")
    assert walk.same_names
    assert walk.pristine[0] == walk.pristine[1]
    assert torch.equal(walk.undone, walk.base)
    assert walk.texts["undone"] == walk.texts["base"]


@pytest.mark.guarantee("X")
def test_the_export_opens_in_peft_and_comes_back(
    walk: Walk, tmp_path: Path, record_property: Any
) -> None:
    source = walk.bench.source(walk.run.model)
    reason = formats.explain_forms(walk.run, walk.task, source)["peft"]
    if reason:
        # Marian reads embeddings unscaled; in both the text keeps positions that PEFT would move.
        kept = walk.loaded().model.config.model_type in ("marian", "mbart")
        no_prompts = kept or walk.task.kind == "multiple_choice"
        assert walk.method not in IN_PEFT or (no_prompts and walk.method in ("prompt", "p_tuning"))
        record_property(EXCUSED, reason)
        return
    ours = walk.restored()
    batch = walk.batch(ours.loaded)
    formats.write_peft_adapter(walk.run, walk.task, source, ours, tmp_path / "once")
    theirs = formats.open_export("peft", walk.task, source, tmp_path / "once")
    assert isinstance(theirs, peft.PeftModel)
    found = told(formats.compute_logits(theirs, batch), batch)
    torch.testing.assert_close(found, walk.again, rtol=0, atol=1e-5)
    assert walk.beams(ours.loaded, theirs, batch) == walk.texts["again"]
    theirs.save_pretrained(tmp_path / "twice")
    again = formats.open_export("peft", walk.task, source, tmp_path / "twice")
    assert torch.equal(formats.compute_logits(again, batch), formats.compute_logits(theirs, batch))
    as_what = walk.run.method
    if walk.method == "p_tuning":
        record_property(NOTE, "PEFT keeps the virtual tokens alone: they come back as a prompt's")
        as_what = MethodSpec.model_validate({"name": "prompt", **as_what.options})
    back = walk.prepared(walk.copied(), seed=7, method=as_what)
    into_ours(back, again)
    found = told(formats.compute_logits(back.loaded.model, batch), batch)
    torch.testing.assert_close(found, walk.again, rtol=0, atol=1e-5)
    assert walk.translated(back.loaded, back.fleet) == walk.texts["again"]


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
    base = told(plain.model.to(dtype)(**batch).logits, batch)
    prepared = walk.prepared(walk.copied())
    model = prepared.loaded.model.to(dtype)
    said = "as it starts" if neutral is None else without_effect(prepared.injection, neutral)
    record_property(NOTE, said)
    found = told(model(**batch).logits, batch)
    assert walk.translated(prepared.loaded, prepared.fleet) == walk.translated(plain)
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
    for stage in ("single", "padded"):
        assert walk.texts[stage] == walk.texts["batched"]


@pytest.mark.guarantee("B")
def test_a_run_beside_it_changes_nothing(
    walk: Walk, float64: torch.dtype, record_property: Any
) -> None:
    """Logits and gradients of two runs in one pass, of equal shares or not, are those alone."""
    if walk.method == "untuned":
        record_property(EXCUSED, NOTHING)
        return
    if walk.method == "full":
        whole = walk.copied()
        fixed = {*whole.anatomy.untrainable}  # what the architecture computes and nobody trains
        assert {*walk.trained} == {name for name, _ in whole.model.named_parameters()} - fixed
        record_property(EXCUSED, "trains the backbone itself, so every run needs its own")
        return
    data = walk.encoded(walk.loaded(), "train")
    pair = Both(walk.run, walk.copied, data, float64)
    pair.unsettle()
    for shares in ((4, 4), (5, 2)):
        pair.equal(shares, lambda logits, rows: objective(logits))
