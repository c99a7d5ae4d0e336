"""The contract of a method as a test suite (clauses: :mod:`paretune.testing.clauses`).

A plug-in runs it by subclassing::

    class TestSsf(MethodContract):
        method = METHOD

Each place (a family of models and a kind of task) is walked through once
(:mod:`paretune.testing.method_walk`); the tests look at what was seen, and go on from there. The
models are tiny, have random weights and are made on the spot. A test that passes because the method
need not do a thing records the reason: properties ``excused`` and ``note``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import peft
import pytest
import torch
from safetensors.torch import load as from_bytes
from torch import Tensor

from paretune import plugins
from paretune.errors import MethodError
from paretune.exporting import formats
from paretune.exporting.export_selection import select_form
from paretune.methods import Method, Trains
from paretune.methods.core.injection import Injection
from paretune.models.dropout import read_dropout_rates
from paretune.preparation import ProcessCache
from paretune.testing.clauses import EXCUSED, NOTE, clause
from paretune.testing.float64 import compute_in_float64
from paretune.testing.method_walk import (
    TRANSLATION,
    Walk,
    objective,
    select_logits,
    unsettle,
    walk_of,
    walked,
)
from paretune.testing.tiny_models import tiny_model
from paretune.testing.translator_folders import TRANSLATORS, translator_folder
from paretune.testing.without_effect import without_effect

NOTHING = "trains nothing"


class MethodContract:
    """Subclass it as ``Test...`` and set ``method``; pytest does the rest.

    Attributes:
        method: the value to test; it need not be installed.
        options: options of the method, small enough for models of width 32.
        places: families of models and kinds of task.
        starts_as_base: until the first step the model answers as the base does, bit for bit.
        neutral: names of tensors with which, at their initial values, the model answers as the
            base does, whatever the others are; None: only a method as it starts is without effect.
    """

    method: ClassVar[Method]
    options: ClassVar[Mapping[str, Any]] = {}
    places: ClassVar[tuple[tuple[str, str], ...]] = (
        ("bert", "pair"),
        ("modernbert", "multiple_choice"),
        ("deberta-v2", "regression"),
        ("marian", TRANSLATION),
    )
    starts_as_base: ClassVar[bool] = True
    neutral: ClassVar[tuple[str, ...] | None] = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Walk through every place, unless a subclass has a ``walk`` of its own."""
        if "place" in metafunc.fixturenames:
            metafunc.parametrize("place", self.places, ids="-".join, scope="class")

    @pytest.fixture(scope="class")
    @classmethod
    def caches(cls) -> ProcessCache:
        """Models are kept from one walk to the next: a method that leaves a trace is found."""
        return ProcessCache()

    @pytest.fixture(scope="class")
    @classmethod
    def walk(
        cls, place: tuple[str, str], caches: ProcessCache, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Walk]:
        """The walk of the method in one place."""
        family, kind = place
        model = tmp_path_factory.mktemp(family)
        (translator_folder if family in TRANSLATORS else tiny_model)(family, model)
        run = walk_of(cls.method.name, kind, model, tmp_path_factory.mktemp("walk"), cls.options)
        with plugins.registered(plugins.METHODS, cls.method):
            yield walked(run, caches, tmp_path_factory.mktemp("run"))

    @pytest.fixture
    def float64(self, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
        """``transformers`` rounds some tensors to fp32 on the way; here it does not."""
        compute_in_float64(monkeypatch)
        return torch.float64

    def is_base_at_start(self, walk: Walk) -> bool:
        """See ``starts_as_base``."""
        return self.starts_as_base

    def neutral_tensors(self, walk: Walk) -> tuple[str, ...] | None:
        """See ``neutral``."""
        return self.neutral

    def hold_constants(self, injection: Injection) -> str:
        """Hold still what the method's gradient takes as constant; says what, or ""."""
        return ""

    def check_peft_refusal(self, walk: Walk) -> None:
        """Look at a place in which the method is not exported to PEFT."""

    def check_return_from_peft(self, walk: Walk, model: Any, record_property: Any) -> None:
        """Load what PEFT saved into paretune's own method; a subclass knows which is which."""

    @clause("S")
    def test_it_starts_where_it_says(self, walk: Walk) -> None:
        assert any(walk.texts["base"]) == walk.task.objective.generates
        if self.is_base_at_start(walk):
            assert torch.equal(walk.start, walk.base)
            assert walk.texts["start"] == walk.texts["base"]
        else:
            assert not torch.allclose(walk.start, walk.base, atol=1e-3)

    @clause("T")
    def test_what_it_trains_is_declared_and_counted(self, walk: Walk) -> None:
        assert sum(walk.trained.values()) == walk.count
        result = walk.outcome.result
        assert result["method_parameters"] == walk.count
        kept = from_bytes(walk.outcome.blobs["weights"])
        assert set(kept) == {*walk.trained, *walk.head}
        assert result["trained_parameters"] == sum(t.numel() for t in kept.values())

    @clause("H")
    def test_the_whole_head_is_trained_and_kept(self, walk: Walk, record_property: Any) -> None:
        kept = from_bytes(walk.outcome.blobs["weights"])
        if walk.task.objective.generates:
            assert walk.head == () and walk.outcome.result["head_parameters"] == 0
            record_property(EXCUSED, "a translation model comes whole: it has no head")
            return
        assert walk.head and set(walk.head) <= set(kept)
        assert not set(walk.head).intersection(walk.unmoved)
        assert walk.outcome.result["head_parameters"] == sum(kept[n].numel() for n in walk.head)

    @clause("F")
    def test_frozen_tensors_keep_their_bits(self, walk: Walk) -> None:
        assert walk.moved_frozen == []

    @clause("G")
    def test_every_trained_tensor_gets_a_gradient_and_moves(
        self, walk: Walk, record_property: Any
    ) -> None:
        if walk.value.trains is Trains.NOTHING:
            assert walk.trained == {}
            record_property(EXCUSED, NOTHING)
        assert walk.without_gradient == []
        assert walk.unmoved == []

    @clause("N")
    def test_gradients_are_those_of_finite_differences(
        self, walk: Walk, float64: torch.dtype, record_property: Any
    ) -> None:
        """Compare slopes of the whole model along random directions of all trained parameters."""
        if walk.value.trains is Trains.NOTHING:
            assert walk.trained == {}
            record_property(EXCUSED, NOTHING)
            return
        prepared = walk.prepared(walk.copied())
        model, batch = prepared.loaded.model.to(float64).eval(), walk.batch(prepared.loaded)
        trained = list(prepared.trained.values())
        unsettle(trained, by=0.1)
        if note := self.hold_constants(prepared.injection):
            record_property(NOTE, note)
        # The row of padding in each trained table of words: what is looked up there moves nothing.
        padding = {
            part.weight: part.padding_idx
            for part in model.modules()
            if isinstance(part, torch.nn.Embedding) and part.padding_idx is not None
        }
        still = {i: padding[p] for i, p in enumerate(trained) if p in padding}
        if (
            still
            and getattr(model.config, "decoder_start_token_id", None) == prepared.loaded.pad_id
        ):
            record_property(
                NOTE, "the row of the padding token, which starts every target, held still"
            )
        gradients = torch.autograd.grad(
            objective(select_logits(model(**batch).logits, batch)), trained
        )
        draw = torch.Generator().manual_seed(11)
        for _ in range(3):
            # Every tensor's direction is of length about 1, so small tensors count as much as
            # large.
            directions = [
                torch.randn(p.shape, generator=draw, dtype=float64).to(p) / p.numel() ** 0.5
                for p in trained
            ]
            for place, row in still.items():
                directions[place][row] = 0
            parts = [(g * d).sum() for g, d in zip(gradients, directions, strict=True)]
            size = torch.stack(parts).abs().sum()
            assert size > 1e-2
            errors = []
            # Where the kink of a ReLU lies within the first step, a shorter one does not reach it.
            for step in (1e-6, 1e-7):
                ends = []
                with torch.no_grad():
                    for way in (step, -2 * step, step):  # ahead, behind, and back again
                        for parameter, direction in zip(trained, directions, strict=True):
                            parameter.add_(direction, alpha=way)
                        ends.append(objective(select_logits(model(**batch).logits, batch)))
                slope = (ends[0] - ends[1]) / (2 * step)
                # What float64 rounds off a large loss counts for more, the smaller the step.
                rounding = torch.finfo(float64).eps * ends[0] / step
                errors.append(abs(slope - torch.stack(parts).sum()) / (1e-7 * size + rounding))
                if errors[-1] < 1:
                    break
            assert min(errors) < 1

    @clause("L")
    def test_saved_and_loaded_it_answers_the_same(self, walk: Walk) -> None:
        kept = json.loads(walk.outcome.blobs["predictions"])["test"]
        if walk.task.objective.generates:
            assert walk.texts["packed"] == kept["prediction"]
            assert walk.loss == walk.outcome.result["scores"]["test"]["loss"]
        elif walk.task.objective.scales_targets:  # what was kept answers in the label's unit
            numbers = torch.tensor(kept["prediction"]).reshape(walk.again.shape)
            torch.testing.assert_close(walk.packed, numbers, rtol=1e-6, atol=1e-6)
        else:
            assert [[float(f"{s:.8g}") for s in row] for row in walk.scores] == kept["scores"]
        torch.testing.assert_close(walk.packed, walk.again, rtol=0, atol=1e-5)
        assert _as_base(walk, walk.again) == (walk.value.trains is Trains.NOTHING)

    @clause("M")
    def test_merged_equals_unmerged(self, walk: Walk, tmp_path: Path, record_property: Any) -> None:
        """Merge into a checkpoint on disk, which transformers opens without us."""
        source, restored, value = walk.bench.source(walk.run.model), walk.restored(), walk.value
        reasons, whole = formats.explain_forms(walk.run, walk.task), "merged"
        of_method = reasons["merged"]
        cannot = value.trains is Trains.ADAPTER and value.merge is None
        assert bool(of_method) == (cannot or value.to_sentence_transformers is not None)
        if of_method:
            with pytest.raises(MethodError, match=of_method):
                select_form("merged", reasons, walk.run)
            whole = "sentence_transformers"
        if reason := formats.explain_forms(walk.run, walk.task, source)[whole]:
            record_property(EXCUSED, of_method or reason)
            return
        formats.WRITERS[whole](walk.run, walk.task, source, restored, tmp_path)
        opened = formats.open_export(whole, walk.task, source, tmp_path)
        batch = walk.batch(restored.loaded)
        logits = select_logits(formats.compute_logits(opened, batch), batch)
        torch.testing.assert_close(logits, walk.again, rtol=0, atol=1e-5)
        assert _as_base(walk, logits) == (value.trains is Trains.NOTHING)
        if of_method:
            record_property(EXCUSED, of_method)
            return
        names = dict(restored.loaded.model.named_parameters())
        assert list(names) == [name for name, _ in walk.copied().model.named_parameters()]
        assert read_dropout_rates(opened) == walk.copied().dropout_rates
        assert walk.beams(restored.loaded, opened, batch) == walk.texts["again"]

    @clause("U")
    def test_undo_restores_the_base(self, walk: Walk, record_property: Any) -> None:
        if walk.value.trains is Trains.EVERYTHING:
            record_property(NOTE, "cannot be undone: the next run is given a model loaded anew")
        assert walk.same_names
        assert walk.pristine[0] == walk.pristine[1]
        assert torch.equal(walk.undone, walk.base)
        assert walk.texts["undone"] == walk.texts["base"]

    @clause("X")
    def test_the_export_opens_in_peft_and_comes_back(
        self, walk: Walk, tmp_path: Path, record_property: Any
    ) -> None:
        source = walk.bench.source(walk.run.model)
        reason = formats.explain_forms(walk.run, walk.task, source)["peft"]
        if reason:
            if reason != formats.explain_forms(walk.run, walk.task, source)["merged"]:
                self.check_peft_refusal(walk)
            record_property(EXCUSED, reason)
            return
        restored = walk.restored()
        batch = walk.batch(restored.loaded)
        formats.write_peft_adapter(walk.run, walk.task, source, restored, tmp_path / "once")
        opened = formats.open_export("peft", walk.task, source, tmp_path / "once")
        assert isinstance(opened, peft.PeftModel)
        logits = select_logits(formats.compute_logits(opened, batch), batch)
        torch.testing.assert_close(logits, walk.again, rtol=0, atol=1e-5)
        assert walk.beams(restored.loaded, opened, batch) == walk.texts["again"]
        opened.save_pretrained(tmp_path / "twice")
        again = formats.open_export("peft", walk.task, source, tmp_path / "twice")
        assert torch.equal(
            formats.compute_logits(again, batch), formats.compute_logits(opened, batch)
        )
        self.check_return_from_peft(walk, again, record_property)

    @clause("Z")
    def test_without_effect_it_is_the_base(
        self, walk: Walk, float64: torch.dtype, record_property: Any
    ) -> None:
        """Bit for bit where a tensor is at its start; without virtual tokens, in float64."""
        neutral = self.neutral_tensors(walk)
        virtual = neutral is not None and "K" in neutral
        dtype = float64 if virtual else torch.float32
        plain = walk.copied()
        batch = walk.batch(plain)
        base = select_logits(plain.model.to(dtype)(**batch).logits, batch)
        prepared = walk.prepared(walk.copied())
        model = prepared.loaded.model.to(dtype)
        if neutral is None and not self.is_base_at_start(walk):
            record_property(EXCUSED, "it reads the hidden states otherwise than the base's head")
            return
        note = "as it starts" if neutral is None else without_effect(prepared.injection, neutral)
        record_property(NOTE, note)
        logits = select_logits(model(**batch).logits, batch)
        assert walk.translated(prepared.loaded, prepared.context) == walk.translated(plain)
        if virtual:
            # transformers rounds the scale of DeBERTa's attention to fp32; beside a prefix it is
            # exact.
            atol = 1e-7 if model.config.model_type == "deberta-v2" else 1e-10
            torch.testing.assert_close(logits, base, rtol=0, atol=atol)
        else:
            assert torch.equal(logits, base)

    @clause("P")
    def test_padding_and_batch_size_do_not_change_logits(self, walk: Walk) -> None:
        torch.testing.assert_close(walk.single, walk.batched, rtol=0, atol=1e-5)
        torch.testing.assert_close(walk.padded, walk.batched, rtol=0, atol=1e-5)
        for stage in ("single", "padded"):
            assert walk.texts[stage] == walk.texts["batched"]


def _as_base(walk: Walk, logits: Tensor) -> bool:
    return torch.allclose(logits, walk.base, atol=1e-3)
