"""The search of `method: auto` as pure functions: its space, its front, what it tries next."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from paretune import methods
from paretune.methods import stack
from paretune.study import MethodSpec
from paretune_autopeft.method import FoundStack
from paretune_autopeft.schedule import (
    Cost,
    RatedConfiguration,
    Sampler,
    Schedule,
    SearchState,
    TrialScore,
    believe,
    pick_candidate,
)
from paretune_autopeft.space import Configuration, Space, describe_layers, make_space
from paretune_autopeft.surrogate import (
    expected_improvement,
    expected_maximum,
    expected_optimism,
    find_front,
    fit_surrogate,
)

NAMES = ("lora", "pfeiffer", "ia3")


def space_of(layers: int = 12, groups: int = 4, at_most: int = 2) -> Space:
    members = [methods.configure_method(MethodSpec(name=name)) for name in NAMES]
    return make_space(members, layers, groups=groups, at_most=at_most)


def test_sizes_come_from_the_method_files() -> None:
    lora, pfeiffer, ia3 = space_of().members
    assert (lora.option, lora.sizes) == ("rank", (2, 4, 8, 16, 32))
    assert pfeiffer.sizes == (64, 32, 16, 8, 4)  # the fewest parameters first
    assert (ia3.option, ia3.sizes) == ("", (None,))


@pytest.mark.parametrize(("layers", "groups"), [(12, 4), (6, 4), (2, 4), (5, 3)])
def test_groups_divide_the_layers(layers: int, groups: int) -> None:
    boundaries = space_of(layers, groups).boundaries
    assert [n for group in boundaries for n in group] == list(range(layers))
    assert len(boundaries) == min(layers, groups) and all(boundaries)


def test_a_configuration_is_a_stack() -> None:
    space = space_of()
    one = Configuration(((-1, -1, -1), (2, -1, -1), (2, 0, -1), (4, -1, 0)))
    members = space.to_members(one)
    assert members == [
        {"name": "lora", "rank": 8, "layers": "3-8"},
        {"name": "lora", "rank": 32, "layers": "9-11"},
        {"name": "pfeiffer", "reduction_factor": 64, "layers": "6-8"},
        {"name": "ia3", "layers": "9-11"},
    ]
    assert describe_layers(members[:1]) == "lora rank 8 in 3-8"
    first = next(space.everywhere())
    assert space.to_members(first) == [{"name": "lora", "rank": 8}]


def test_every_random_configuration_is_legal_and_its_neighbours_too() -> None:
    space = space_of()
    drawn = space.draw_distinct(3, 40)
    assert drawn == space.draw_distinct(3, 40) and len(set(drawn)) == 40
    assert drawn[:5] == space.draw_distinct(3, 5)
    for n, one in enumerate(drawn):
        near = space.mutate(one, n)
        for own in (one, near):
            assert not own.is_empty
            assert all(sum(size >= 0 for size in group) <= 3 for group in own.groups)
            members = tuple(space.to_members(own))
            stack.configure_members(FoundStack(methods=members))
            features = space.to_features(own)
            assert features.min() >= 0 and features.max() <= 1
        assert near != one
    assert len({one.lowest_group for one in drawn}) == 4


def test_the_closed_form_is_the_mean_of_what_may_come() -> None:
    """Against draws of the candidate's score, and the area they add."""
    front = find_front(np.log([2.0, 5.0, 9.0]), np.array([0.6, 0.7, 0.75]), 0.5, math.log(20.0))
    draws = np.random.default_rng(0).normal(size=20_000)
    for price, mean, sd in ((3.0, 0.68, 0.05), (1.0, 0.55, 0.02), (9.0, 0.7, 0.1)):
        (improvement,) = expected_improvement(
            front, np.log([price]), np.array([mean]), np.array([sd])
        )
        grown = []
        for score in (mean + sd * draws)[:4000]:
            costs = np.append(front.costs, math.log(price))
            scores = np.append(front.scores, score)
            after = find_front(costs, scores, 0.5, math.log(20.0))
            grown.append(after.hypervolume - front.hypervolume)
        assert improvement == pytest.approx(np.mean(grown), rel=0.06)
    assert front.hypervolume == pytest.approx(
        0.1 * math.log(5 / 2) + 0.2 * math.log(9 / 5) + 0.25 * math.log(20 / 9)
    )
    front = find_front(np.array([3.0, 1.0, 2.0, 3.0]), np.array([0.5, 0.6, 0.4, 0.7]), 0.0, 4.0)
    assert front.costs.tolist() == [1.0, 3.0] and front.scores.tolist() == [0.6, 0.7]


def test_of_many_equal_configurations_the_belief_is_not_the_luckiest() -> None:
    draw = np.random.default_rng(1)
    features = draw.uniform(size=(30, 4))
    scores = 0.8 + 0.03 * draw.normal(size=30)
    means, deviations = fit_surrogate(features, scores, np.full(30, 0.03**2)).predict(features)
    assert scores.max() - 0.8 > 0.05 and abs(means.max() - 0.8) < 0.02
    assert deviations.max() < 0.03


def test_expected_optimism_grows_with_the_number_tried() -> None:
    assert expected_maximum(1) == 0.0
    maxima = [expected_maximum(n) for n in (2, 16, 64)]
    # Exact: 0.564, 1.766, 2.34 (Harter 1961).
    assert maxima == pytest.approx([0.564, 1.766, 2.34], abs=0.03)
    assert expected_optimism(64, 0.8 * 0.2 / 200) == pytest.approx(0.066, abs=0.002)


def true_score(one: Configuration) -> float:
    """More helps, above all in the upper layers."""
    sizes = [(g + 1) * (size + 1) for g, own in enumerate(one.groups) for size in own]
    return 0.6 + 0.3 * math.tanh(sum(sizes) / 40)


def cost_of(one: Configuration) -> Cost | None:
    price = 1.0 + sum(2.0**size for own in one.groups for size in own if size >= 0)
    return None if price > 60 else Cost(price, 1 - one.lowest_group / 8)


def spent(state: SearchState) -> float:
    return sum(cost.work for one in state.proposed if (cost := cost_of(one)) is not None)


def result_of(one: Configuration, variance: float) -> TrialScore:
    cost = cost_of(one)
    return TrialScore(true_score(one), variance, cost.price if cost else math.inf)


def searched(schedule: Schedule, each: int = 100) -> tuple[SearchState, int]:
    """A search to its end, ``each`` results at a time; and how often it was asked."""
    trials, calls = dict[Configuration, TrialScore](), 0
    while True:
        state = schedule.replay(trials.get)
        calls += 1
        if state.finished:
            assert set(trials) == set(state.proposed)
            return state, calls
        for one in state.waiting[:each]:
            trials[one] = result_of(one, 0.01**2)


def test_it_goes_on_as_if_it_had_not_been_stopped() -> None:
    schedule = Schedule(space_of(), cost_of, budget=12.0)
    whole, calls = searched(schedule)
    in_pieces, more = searched(schedule, each=2)
    assert whole.proposed == in_pieces.proposed and more > calls
    assert len(set(whole.proposed)) == len(whole.proposed)
    assert 10.0 < spent(whole) <= 12.0
    assert all(cost_of(one) is not None for one in whole.proposed)  # never above a limit
    space = space_of()
    assert [*whole.proposed[:2]] == [one for one in space.everywhere() if cost_of(one)][:2]
    nothing = Schedule(space, lambda point: None, budget=4.0).replay({}.get)  # within the limits
    assert nothing.finished and not nothing.proposed


def test_the_control_draws_at_random_alone() -> None:
    state, calls = searched(Schedule(space_of(), cost_of, budget=8.0, sampler="random"))
    drawn = space_of().draw_distinct(0, 200)
    places = [drawn.index(one) for one in state.proposed]
    assert calls == 2 and places == sorted(places)


def test_a_configuration_of_another_task_comes_first() -> None:
    warm = Configuration(((-1, -1, -1),) * 3 + ((1, 1, -1),), 2)
    schedule = Schedule(space_of(), cost_of, budget=10.0, warm=(warm,))
    assert warm in schedule.replay({}.get).proposed[:4]


def test_finalists_are_distinct_and_begin_with_the_pick_and_none_was_lost() -> None:
    space = space_of()
    drawn = space.draw_distinct(5, 8)
    trials = {one: TrialScore(true_score(one), 1e-4, 1.0 + n) for n, one in enumerate(drawn)}
    beliefs = believe(space, tuple(trials), tuple(trials.values()))
    front = beliefs.rank_front()
    ranked = [one.configuration for one in beliefs.rank_finalists("cheapest")]
    assert ranked[0] == front[0].configuration and ranked[1] == front[-1].configuration
    assert len(set(ranked)) == len(ranked) == 8
    best = max(drawn, key=true_score)
    trials[best] = TrialScore(0.0, 0.0, trials[best].price, lost=True)
    front = believe(space, tuple(trials), tuple(trials.values())).rank_front()
    assert front and best not in [one.configuration for one in front]
    assert all(a.price < b.price and a.score < b.score for a, b in pairwise(front))


def test_the_knee_is_what_most_of_the_gain_costs_least() -> None:
    empty = Configuration(())
    points = ((1.0, 0.6), (2.0, 0.78), (8.0, 0.8), (64.0, 0.81))
    front = [RatedConfiguration(empty, price, score, 0.0, score) for price, score in points]
    assert pick_candidate(front, "best") is front[-1]
    assert pick_candidate(front, "cheapest") is front[0]
    assert pick_candidate(front, "knee") is front[1]
    assert pick_candidate(front[:1], "best") is front[0]


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow)])
def test_optuna_proposes_within_the_same_rules(sampler: Sampler) -> None:
    pytest.importorskip("optuna")
    schedule = Schedule(space_of(), cost_of, budget=6.0, sampler=sampler)
    state, calls = searched(schedule)
    again, _ = searched(schedule, each=3)
    assert state.proposed == again.proposed and calls > 2
    assert len(set(state.proposed)) == len(state.proposed) and spent(state) <= 6.0
    for one in state.proposed:
        assert cost_of(one) is not None and not one.is_empty
        assert all(sum(size >= 0 for size in group) <= 2 for group in one.groups)
