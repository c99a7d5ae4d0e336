"""What more rows would bring: the interval has the truth, and what cannot be known is not said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support import fake_records as fake
from support.fake_records import topic_cells

from paretune.analysis.cell import Cell
from paretune.analysis.learning_curve import predict_gain
from paretune.store.record import Record

SHARES = (0.25, 0.5, 1.0)


def learned(
    score_of: Callable[[float], float], seed: int = 0, rows: int = 600, seeds: int = 4
) -> Cell:
    """LoRA's cell, whose runs score so on each share."""
    study = fake.study(methods=["lora"], protocol={"seeds": [*range(1, seeds + 1)], "folds": 1})
    rng = np.random.default_rng(seed)
    records: list[Record] = [
        fake.record(
            fake.make_run(study, "final", "lora", n).on_rows(share),
            {"test": fake.predictions([0] * rows, 1 * (rng.random(rows) >= score_of(share)))},
        )
        for share in SHARES
        for n in study.protocol.seeds
    ]
    (cell,) = [c for c in topic_cells(study, records) if c.method == "lora"]
    return cell


@pytest.mark.parametrize(
    "score_of",
    [
        lambda share: 1 - 0.2 * share**-0.3,
        lambda share: 0.9 - 0.1 * share**-0.7,
        lambda share: 0.85,
    ],
)
def test_the_interval_has_the_true_gain(score_of: Callable[[float], float]) -> None:
    true = 100 * (score_of(2.0) - score_of(1.0))
    inside = total = 0
    for seed in range(20):
        gain = predict_gain(learned(score_of, seed))
        if isinstance(gain, str):
            continue
        points, low, high = gain
        assert low <= points <= high
        inside += low - 0.01 <= true <= high + 0.01
        total += 1
    assert total >= 15 and inside >= 0.85 * total


def without_answers(cell: Cell) -> Cell:
    """The cell, whose runs on fewer rows have failed."""
    failed = (replace(record, predictions={}) for record in cell.fewer_rows)
    return replace(cell, fewer_rows=tuple(failed))


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (replace(learned(lambda share: 0.8), fewer_rows=()), "protocol.rows"),
        (without_answers(learned(lambda share: 0.8)), "on fewer rows failed"),
        (learned(lambda share: 0.8 if share == 0.5 else 0.5), "power law"),
        (learned(lambda share: 0.7 + 0.1 * np.log2(share), rows=30, seeds=2), "anything"),
    ],
)
def test_what_cannot_be_known_is_not_said(cell: Cell, reason: str) -> None:
    gain = predict_gain(cell)
    assert isinstance(gain, str) and reason in gain


@pytest.mark.parametrize(
    ("shares", "trained", "reason"),
    [
        ((0.25, 0.5), (), "are not trained: 0.25, 0.5; `paretune run` trains them"),
        ((0.25, 0.5), (0.25,), "are not trained: 0.5; `paretune run`"),
        ((0.5,), (0.5,), "one share of the rows is too few: protocol.rows: [0.25, 0.5] has two"),
    ],
)
def test_shares_that_wait_or_are_too_few_are_told_apart(
    shares: tuple[float, ...], trained: tuple[float, ...], reason: str
) -> None:
    cell = learned(lambda share: 0.8)
    on_shares = tuple(record for record in cell.fewer_rows if record.run.rows in trained)
    gain = predict_gain(replace(cell, fewer_rows=on_shares), shares)
    assert isinstance(gain, str) and reason in gain
