"""``bench/rungs.py``: what dropping rates within their trials would save, and would have cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import fake_records as fake

from paretune.planning.expand import expand_study
from paretune.planning.prepare import prepare_study
from paretune.store.record import Record

ROWS = 80
CURVES = {
    "fast": (0.90, 0.90, 0.90, 0.90),
    "slow": (0.75, 0.85, 0.92, 0.93),
    "bad": (0.30, 0.30, 0.30, 0.30),
}


@pytest.fixture
def trials(ask: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Record]]:
    """Of LoRA, by the name of the rate: one in each of two folds."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    planned = expand_study(prepare_study(ask("off", methods=["lora"])), [])
    runs = [p for p in planned if p.run.stage == "tune" and p.run.method.name == "lora"]
    rates = sorted({p.run.learning_rate for p in runs if p.run.learning_rate is not None})
    names = dict(zip(rates, CURVES, strict=True))
    by_rate: dict[str, list[Record]] = {name: [] for name in CURVES}
    labels = np.arange(ROWS) % 2
    for one in runs:
        assert one.run.learning_rate is not None
        name = names[one.run.learning_rate]
        curve = [{"selection": {"primary": s, "loss": 1 - s}} for s in CURVES[name]]
        rows = np.arange(ROWS)
        wrong = (rows * 37) % ROWS >= round(CURVES[name][-1] * ROWS)
        uid = tuple(f"{one.run.fold}-{row}" for row in rows)
        answer = np.where(wrong, 1 - labels, labels)
        answers = fake.Predictions(uid, tuple(labels.tolist()), tuple(answer.tolist()), ())
        record = replace(fake.record(one.run, {"selection": answers}), run_id=one.run_id)
        by_rate[name].append(replace(record, result={**record.result, "curve": curve}))
    return by_rate


def test_what_is_far_behind_is_dropped_and_so_is_what_learns_slowly(
    trials: dict[str, list[Record]],
) -> None:
    from rungs import run_rungs

    fast, slow, bad = (trials[name][0] for name in CURVES)
    left, shares = run_rungs([fast, slow, bad], 1.0)
    assert left == [fast] and shares == {fast.run_id: 1.0, slow.run_id: 0.25, bad.run_id: 0.25}
    left, shares = run_rungs([fast, slow, bad], 4.0)  # only what is much farther behind
    assert left == [fast, slow] and shares[slow.run_id] == 1.0


def test_folds_drop_what_ended_behind_and_rungs_what_was_behind_early(
    trials: dict[str, list[Record]],
) -> None:
    from rungs import describe_rungs, race_folds

    every = [record for own in trials.values() for record in own]
    best = trials["slow"][0].run.learning_rate
    rate, count = race_folds(every, (0, 1), errors=1.0, factor=None)
    assert rate == best and count == 5  # the bad one is not tried on the second fold
    rate, count = race_folds(every, (0, 1), errors=1.0, factor=4.0)
    assert rate == best and count == 4.25
    rate, count = race_folds(every, (0, 1), errors=1.0, factor=1.0)
    assert rate != best and count == 1.5
    lines = list(describe_rungs(every))
    name = "dropped over folds by 1 standard errors"
    assert any(f"{name}: 1 cells, same rate 100.0 %, trials x 0.83" in line for line in lines)
