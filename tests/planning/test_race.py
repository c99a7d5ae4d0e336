"""A whole race over made-up results: what it asks for, in which order, and what it never asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_records import LEVELS, end, finals

from paretune.planning.expand import expand_study, find_possible_run_ids
from paretune.planning.prepare import PlannedRun, prepare_study
from paretune.planning.race import plan_runs, plan_wanted_runs
from paretune.store.record import Record
from paretune.study import Study
from paretune.training.caches import ProcessCache


def race(
    study: Study,
    caches: ProcessCache,
    seed: int | None = None,
    levels: Mapping[str, float] = LEVELS,
) -> tuple[list[Record], list[list[PlannedRun]]]:
    """All records, and what was asked for newly in each round.

    With a seed, runs end one at a time in random order, and the race is asked after each.
    """
    rng, prepared = np.random.default_rng(seed), prepare_study(study, caches)
    records: list[Record] = []
    known: set[str] = set()
    rounds = []
    while True:
        planned = plan_wanted_runs(prepared, records)
        new = [one for one in planned if one.run_id not in known]
        known |= {one.run_id for one in new}
        if new:
            rounds.append(new)
        ended = {record.run_id for record in records}
        left = [one for one in planned if one.run_id not in ended]
        if not left:
            return records, rounds
        ending = left if seed is None else [left[int(rng.integers(len(left)))]]
        records = [*records, *(end(one, levels) for one in ending)]


def stages(runs: list[PlannedRun]) -> set[str]:
    return {one.run.stage for one in runs if one.run.method.name in ("full", "lora", "prompt")}


def test_costs_come_first_then_trials_then_seeds_by_rounds(ask: Any, caches: Any) -> None:
    study = ask()
    records, rounds = race(study, caches)
    assert [stages(one) for one in rounds if stages(one)][:3] == [{"cost"}, {"tune"}, {"tune"}]
    assert finals(records)["full"] == finals(records)["lora"] == 2
    assert finals(records)["head_only"] == 5
    # The highest rate was clearly behind on the first fold, so it was not tried on the second.
    second = [one.run.learning_rate for one in rounds[2] if one.run.method.name == "lora"]
    assert len(second) == 2
    grid = study.model_copy(update={"protocol": study.protocol.model_copy(update={"race": "off"})})
    assert grid.study_hash != study.study_hash
    possible = find_possible_run_ids(prepare_study(grid, caches))
    assert {record.run_id for record in records} < possible  # identities are the full study's


def test_without_a_race_all_runs_are_asked_for(ask: Any, caches: Any) -> None:
    study = ask("off")
    assert plan_wanted_runs(prepare_study(study, caches), []) == expand_study(
        prepare_study(study, caches), []
    )
    plain = study.canonical_form()
    assert "race" not in plain["protocol"] and "limits" not in plain


@pytest.mark.parametrize("outer", ["split", 5])
def test_any_order_and_any_interruption_end_in_the_same_runs(
    ask: Any, caches: Any, outer: Any
) -> None:
    study = ask(outer=outer, trials=1)
    whole = {record.run_id for record in race(study, caches)[0]}
    assert {record.run_id for record in race(study, caches, seed=1)[0]} == whole


def test_a_fold_brings_its_trials_and_its_run(ask: Any, caches: Any) -> None:
    records, _ = race(ask(outer=5), caches)
    by_method = finals(records)
    assert by_method["full"] == 2 and by_method["head_only"] == by_method["tfidf"] == 5
    trials = [r for r in records if r.run.stage == "tune" and r.run.method.name == "full"]
    assert {r.run.outer.index for r in trials if r.run.outer} == {0, 1}


def test_what_exceeds_a_limit_is_measured_and_not_trained(ask: Any, caches: Any) -> None:
    records, _ = race(ask(limits={"max_memory": "1GiB"}), caches)
    full = [r.run.stage for r in records if r.run.method.name == "full"]
    assert full == ["cost"]
    assert finals(records)["lora"] >= 2


def test_every_run_of_the_full_study_is_wanted_open_or_given_up(ask: Any, caches: Any) -> None:
    study = ask()
    grid = study.model_copy(update={"protocol": study.protocol.model_copy(update={"race": "off"})})
    first = plan_runs(prepare_study(study, caches), [])
    assert not first.given_up and first.undecided
    records, _ = race(study, caches)
    last = plan_runs(prepare_study(study, caches), records)
    assert not last.undecided and last.given_up
    saved = Counter((run.method.name, run.stage) for run in last.given_up)
    assert saved["full", "final"] == 3 and saved["lora", "tune"] == 1
    total = len(last.runs) + len(last.given_up)
    ended = [*records, *(end(PlannedRun(caches.identify(r), r)) for r in last.given_up)]
    assert len(expand_study(prepare_study(grid, caches), ended)) == total


def test_race_settings_are_checked(ask: Any, tmp_path: Path) -> None:
    from paretune.errors import StudyError

    with pytest.raises(StudyError, match="not one of off, recommendation"):
        ask("verdict")
    with pytest.raises(StudyError, match="budget"):
        ask(budget="soon")
    assert ask(budget="30min").protocol.budget == 1800
    assert ask(budget="30min").study_hash == ask().study_hash
    with pytest.raises(StudyError, match="max_memory"):
        ask(limits={"max_memory": "much"})


def test_a_run_that_has_ended_counts_also_where_it_is_not_asked_for(ask: Any, caches: Any) -> None:
    """Of a study that went on without a race, or by value for time, before it raced."""
    study = ask()
    records, _ = race(study, caches)
    last = plan_runs(prepare_study(study, caches), records)
    beyond = [run for run in last.given_up if run.stage == "final"]
    more = [end(PlannedRun(caches.identify(run), run)) for run in beyond]
    again = plan_runs(prepare_study(study, caches), [*records, *more])
    assert {one.run_id for one in more} <= again.runs.keys()
    assert len(again.runs) + len(again.given_up) == len(last.runs) + len(last.given_up)
