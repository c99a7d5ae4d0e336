"""The contract of an :class:`~paretune.objectives.Objective`, as tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from paretune import methods, metrics
from paretune.objectives import LossOptions, Objective
from paretune.objectives.encoding import Encoded, pad_batch
from paretune.objectives.example import Example
from paretune.testing.tiny_models import tiny_model

MAX_LENGTH = 16


class ObjectiveContract:
    """Tests of every objective. Subclass it as ``Test...``, set ``objective``, give ``examples``.

    The outputs of a model are random logits, drawn for each example; an objective that is trained
    on other outputs overrides :meth:`make_outputs` and :meth:`draw_outputs`.
    """

    objective: ClassVar[Objective]
    num_labels: ClassVar[int] = 2

    def examples(self) -> list[Example]:
        """At least eight, with references; some longer than 16 tokens."""
        raise NotImplementedError

    def questions(self) -> list[int]:
        """The question that each example answers; empty where examples stand alone."""
        return []

    def draw_outputs(self) -> torch.Tensor:
        """Random logits, (examples, logits)."""
        examples = self.examples()
        labels = [str(number) for number in range(self.num_labels)]
        width = max(len(examples[0].segments), self.objective.head_spec(labels).logits)
        return torch.randn(len(examples), width, generator=torch.Generator().manual_seed(1))

    def make_outputs(self, outputs: torch.Tensor, indices: Sequence[int]) -> Any:
        """The outputs of a forward pass for some examples."""
        return outputs[list(indices)]

    def collect(self, data: Encoded) -> Any:
        """The outputs of all examples, as an evaluation gathers them."""
        collector, rows = self.objective.collector(data), range(len(data.ids))
        collector.add(rows, self.make_outputs(self.draw_outputs(), rows))
        return collector.result()

    @pytest.fixture
    def data(self, tmp_path: Path) -> Encoded:
        """The examples as token ids of a tiny BERT."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(tiny_model("bert", tmp_path))
        return self.objective.encode(self.examples(), tokenizer, MAX_LENGTH, "")

    @pytest.fixture
    def options(self) -> LossOptions:
        """The loss options of a run on the examples."""
        return self.objective.loss_options(self.examples())

    def test_what_it_names_exists(self) -> None:
        objective = self.objective
        assert objective.name.isidentifier() and objective.title
        names = set(methods.available())
        assert {*objective.baselines} <= names
        for name in (objective.default_metric, *objective.recorded_metrics):
            assert metrics.get(name)

    def test_every_example_is_encoded_and_cut(self, data: Encoded) -> None:
        owners = range(len(data.ids)) if data.owners is None else data.owners
        assert len(data.ids) == len(data.lengths) == len(owners)
        assert sorted({*owners}) == list(range(len(self.examples())))
        assert all(len(ids) <= MAX_LENGTH for choices in data.ids for ids in choices)

    def test_a_batch_is_padded_to_its_longest_example(self, data: Encoded) -> None:
        batch = pad_batch(data, [0, 1, 2], 0)
        mask = np.asarray(batch["attention_mask"])
        assert batch["input_ids"].shape == mask.shape
        longest = max(len(ids) for choices in data.ids[:3] for ids in choices)
        assert mask.shape[-1] == longest
        assert mask.sum(-1).max() == longest

    def test_the_loss_is_a_sum_with_a_gradient(self, data: Encoded, options: LossOptions) -> None:
        outputs = self.draw_outputs().requires_grad_(True)
        rows = range(len(outputs))
        whole = self.objective.loss(self.make_outputs(outputs, rows), data, rows, options)
        assert whole.ndim == 0 and torch.isfinite(whole)
        whole.backward()  # type: ignore[no-untyped-call]
        assert outputs.grad is not None and outputs.grad.any()
        pieces = [
            self.objective.loss(self.make_outputs(outputs, piece), data, piece, options)
            for piece in (rows[:3], rows[3:])
        ]
        torch.testing.assert_close(pieces[0] + pieces[1], whole, rtol=1e-5, atol=1e-5)

    def test_weights_add_up(self, data: Encoded) -> None:
        rows = range(len(data.ids))
        weights = [self.objective.weight(data, piece) for piece in (rows, rows[:3], rows[3:])]
        assert weights[0] == weights[1] + weights[2] > 0

    def test_predictions_do_not_depend_on_how_the_examples_were_batched(
        self, data: Encoded, options: LossOptions
    ) -> None:
        if self.objective.generates:
            pytest.skip("its predictions are generated texts")
        outputs, examples = self.draw_outputs(), self.examples()
        rows, predictions = range(len(outputs)), []
        for pieces in ([rows], [rows[3:], rows[:3]]):
            collector = self.objective.collector(data)
            for piece in pieces:
                collector.add(piece, self.make_outputs(outputs, piece))
            collected = collector.result()
            predictions.append(self.objective.predict(collected, examples, options.target_scale))
        assert predictions[0].prediction == predictions[1].prediction
        assert len(predictions[0].prediction) == len(examples)

    def test_scores_have_the_primary_one(self, data: Encoded, options: LossOptions) -> None:
        if self.objective.generates:
            pytest.skip("its predictions are generated texts")
        examples, outputs = self.examples(), self.collect(data)
        predictions = self.objective.predict(outputs, examples, options.target_scale)
        metric = metrics.get(self.objective.default_metric)
        scores = self.objective.score(predictions, examples, metric, self.questions())
        assert scores["n"] == len(examples)
        assert metric.lowest <= scores["primary"] <= metric.highest
