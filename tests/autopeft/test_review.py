"""What the trials of a search say, read from their records alone."""

from __future__ import annotations

from typing import Any

import pytest

from paretune import methods
from paretune.store.record import Record
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec
from paretune_autopeft.review import review_search
from paretune_autopeft.schedule import TrialScore, believe
from paretune_autopeft.space import Configuration, Space, make_space
from paretune_autopeft.trials import RATE_FACTORS, describe_trial

LAYERS = 6


@pytest.fixture(scope="module")
def space() -> Space:
    members = [methods.configure_method(MethodSpec(name=name)) for name in ("ia3", "lora")]
    return make_space(members, LAYERS, groups=3, at_most=2)


def score(one: Configuration) -> float:
    """LoRA in the uppermost group is all that helps."""
    return 0.6 + 0.05 * one.groups[-1][1]


def price(one: Configuration) -> int:
    return 100 + sum(10 * (size + 1) for group in one.groups for size in group)


def to_record(space: Space, one: Configuration) -> Record:
    stack = space.to_members(one)
    rate = 1e-3 * RATE_FACTORS[one.rate]
    run = Run(
        stage="tune",
        task=TaskSpec(name="rte"),
        model=ModelSpec(name="m"),
        method=MethodSpec.model_validate({"name": "auto", "methods": stack}),
        learning_rate=float(f"{rate:.3g}"),
        seed=0,
    )
    members = [methods.configure_method(MethodSpec(name=m["name"])).method for m in stack]
    measured: Any = {
        "layer_gradients": [1.0] * LAYERS,
        "configuration": describe_trial(members, float(f"{rate:.3g}"), 1e-3),
    }
    result: Any = {
        "outcome": "ok",
        "trained_parameters": price(one),
        "scores": {"selection": {"primary": score(one), "loss": 1.0}},
    }
    run_id = f"{stack}{one.rate}"
    return Record(run_id, run, "done", None, None, result, measured)


def test_the_front_is_what_the_search_itself_believes(space: Space) -> None:
    drawn = space.draw_distinct(7, 24)
    review = review_search([to_record(space, one) for one in drawn])
    assert review is not None
    trials = tuple(TrialScore(score(point), 0.0, price(point)) for point in drawn)
    expected = believe(space, tuple(drawn), trials).rank_front()
    assert [one.configuration for one in review.front] == [one.configuration for one in expected]
    assert [one.score for one in review.front] == pytest.approx([one.score for one in expected])
    for one, record in zip(review.front, review.records, strict=True):
        assert record.run.method.options["methods"] == space.to_members(one.configuration)


def test_what_alone_helps_is_what_matters(space: Space) -> None:
    review = review_search([to_record(space, o) for o in space.draw_distinct(7, 24)])
    assert review is not None
    shares = dict(review.importance)
    assert {*list(shares)[:2]} == {"layers 4-5", "lora"}
    assert shares["layers 4-5"] > 0.6 and shares["learning rate"] < 0.2


def test_too_few_trials_have_no_front(space: Space) -> None:
    records = [to_record(space, one) for one in space.draw_distinct(7, 3)]
    assert review_search(records) is None
    older = [Record(r.run_id, r.run, "done", None, None, r.result, {}) for r in records * 2]
    assert review_search(older) is None
