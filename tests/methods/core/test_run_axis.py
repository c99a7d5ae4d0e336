"""Two runs stacked in one pass get what each gets alone: logits, gradients, twenty steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paretune import objectives
from paretune.methods.core.run_axis import Fleet, per_run_rows, per_run_vector
from paretune.models.load import LoadedModel, load_model
from paretune.testing.tiny_tasks import small, tiny_run, tiny_task
from paretune.testing.two_runs import Both
from paretune.training.caches import ProcessCache

FORMS = [("lora", 2), ("loha", 8), ("lokr", 8)]
"""LoRA, and what a larger rank computes in another way."""


@pytest.fixture
def both(tiny_model: Any, tmp_path: Path) -> Any:
    def make(
        method: str, size: int, family: str, kind: str, dtype: torch.dtype = torch.float32
    ) -> Both:
        options = dict.fromkeys(small(method), size)
        run = tiny_run(tiny_task(tmp_path, kind), tiny_model(family), method, options=options)
        bench = ProcessCache()
        dataset, source = bench.dataset(run.task), bench.source(run.model)

        def fresh() -> LoadedModel:
            return load_model(source, objectives.get(dataset.kind).head_spec(dataset.labels))

        data = bench.encode(list(dataset.train), fresh(), source, 64)
        return Both(run, fresh, data, dtype)

    return make


def cases(methods: list[tuple[str, int]]) -> list[Any]:
    return [
        pytest.param(m, size, family, kind, shares, id=f"{m}{size}-{family}-{kind}-{word}")
        for m, size in methods
        for family, kind in (("bert", "pair"), ("roberta", "multiple_choice"))
        for word, shares in (("even", (4, 4)), ("uneven", (5, 2)))
    ]


def cross_entropy(pair: Both) -> Any:
    return lambda z, rows: F.cross_entropy(z, torch.tensor([pair.data.labels[i] for i in rows]))


@pytest.mark.parametrize(("method", "size", "family", "kind", "shares"), cases(FORMS))
def test_logits_and_gradients_of_each_run(
    both: Any, method: str, size: int, family: str, kind: str, shares: tuple[int, int]
) -> None:
    """Those of small ranks, unevenly shared, are in test_contract.py, on every family and kind."""
    pair = both(method, size, family, kind, torch.float64)
    pair.unsettle()
    pair.equal(shares, cross_entropy(pair))


@pytest.mark.parametrize("counts", [[2, 3, 1], [2, 0, 4], [0, 0, 6]])
def test_each_runs_vector_and_rows_are_repeated_without_atomic_sums(
    counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``repeat_interleave`` would, whose gradient is a sum in no fixed order on a GPU."""
    fleet = Fleet(3)
    fleet.set_row_counts(counts)
    shares, total = torch.tensor(counts), sum(counts)
    vector, values = torch.randn(3, 4, requires_grad=True), torch.randn(3, 5, 4, requires_grad=True)
    expected = [t.repeat_interleave(shares, 0) for t in (vector, values)]
    weights = [torch.randn_like(t) for t in expected]
    gradients = torch.autograd.grad(expected, (vector, values), weights)

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("repeat_interleave")

    monkeypatch.setattr(Tensor, "repeat_interleave", refused)
    outputs = [
        per_run_vector(torch.zeros(total, 4), vector, fleet),
        per_run_rows(values, total, fleet),
    ]
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))
    again = torch.autograd.grad(outputs, (vector, values), weights)
    for a, b in zip(again, gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_shares_must_fit_the_fleet() -> None:
    with pytest.raises(ValueError, match="3 row counts for a fleet of 2 runs"):
        Fleet(runs=2).set_row_counts([1, 2, 3])
