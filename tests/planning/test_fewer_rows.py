"""Final runs on shares of train (``protocol.rows``): when they come, of what, and what they are."""

from __future__ import annotations

from typing import Any

import pytest
from support.fake_records import end

from paretune.analysis.cells import group_into_cells
from paretune.planning.expand import expand_study, find_possible_run_ids, plan_runs
from paretune.planning.prepare import prepare_study
from paretune.store.record import Record
from paretune.study import Protocol


def run_all(prepared: Any) -> tuple[list[Record], list[set[float]]]:
    """All records, and the shares of what was asked for in each round."""
    records: list[Record] = []
    rounds = []
    while True:
        ended = {record.run_id for record in records}
        new = [p for p in expand_study(prepared, records) if p.run_id not in ended]
        if not new:
            return records, rounds
        rounds.append({p.run.rows for p in new})
        records += [end(p) for p in new]


@pytest.mark.parametrize("protocol", [{}, {"outer": 5}, {"cost_seconds": 0}, {"preset": "passes"}])
def test_shares_of_the_recommended_method_come_last(
    protocol: dict[str, Any], ask: Any, caches: Any
) -> None:
    prepared = prepare_study(ask(**protocol, rows=[0.25, 0.5]), caches)
    assert {run.rows for run in plan_runs(prepared, []).list_coming([])} == {1.0, 0.5, 0.25}
    records, rounds = run_all(prepared)
    assert rounds[-1] == {0.25, 0.5} and all(shares == {1.0} for shares in rounds[:-1])
    on_shares = [r.run for r in records if r.run.rows < 1]
    assert {run.method.name for run in on_shares} == {"full"}
    finals = [r.run for r in records if r.run.method.name == "full" and r.run.stage == "final"]
    whole = [run for run in finals if run.rows == 1]
    assert not any("labelled" in run.canonical_form() for run in whole)
    assert sorted(map(str, on_shares)) == sorted(
        str(run.on_rows(share)) for run in whole for share in (0.25, 0.5)
    )
    assert not plan_runs(prepared, records).list_coming(records)
    assert {r.run_id for r in records} <= find_possible_run_ids(prepared)
    plain, _ = run_all(prepare_study(ask(**protocol), caches))
    assert {r.run_id for r in plain} == {r.run_id for r in records if r.run.rows == 1}
    (cell,) = [c for c in group_into_cells(prepared.study, records) if c.method == "full"]
    assert len(cell.fewer_rows) == 2 * len(cell.final) == 2 * len(whole)


def test_a_complete_study_has_all_methods_and_baselines_on_shares(ask: Any, caches: Any) -> None:
    study = ask(preset="passes", until="complete", seeds=[1, 2], rows=[0.25, 0.5])
    prepared = prepare_study(study, caches)
    coming = plan_runs(prepared, []).list_coming([])
    records, rounds = run_all(prepared)
    assert rounds[-1] == {0.25, 0.5} and all(shares == {1.0} for shares in rounds[:-1])
    finals = [r.run for r in records if r.run.stage == "final"]
    whole = [run for run in finals if run.rows == 1]
    assert {"majority", "tfidf", "head_only", "full", "lora"} < {run.method.name for run in whole}
    expected = [str(run.on_rows(share)) for run in whole for share in (0.25, 0.5)]
    assert sorted(str(run) for run in finals if run.rows < 1) == sorted(expected)
    assert sorted(str(run) for run in coming if run.rows < 1) == sorted(expected)
    assert {r.run_id for r in records} <= find_possible_run_ids(prepared)


def test_a_share_holds_its_selection_part(ask: Any, caches: Any) -> None:
    prepared = prepare_study(ask(rows=[0.25, 0.5]), caches)
    run = next(p.run for p in expand_study(prepared, []) if p.run.method.name == "full")
    run = run.model_copy(update={"stage": "final"})
    whole, half, quarter = (caches.parts(run.on_rows(share)) for share in (1, 0.5, 0.25))
    labelled = [{e.uid for e in (*p.train, *p.selection)} for p in (whole, half, quarter)]
    assert labelled[2] < labelled[1] < labelled[0]
    assert len(quarter.selection) < len(half.selection) < len(whole.selection)
    assert whole.test == half.test == quarter.test


@pytest.mark.parametrize(
    ("protocol", "reason"),
    [
        ({"rows": [0.5, 0.5]}, "a share twice"),
        ({"rows": [1.0]}, "less than 1"),
        ({"preset": "paper", "rows": [0.5]}, "trains on all rows"),
    ],
)
def test_shares_that_say_nothing_are_refused(protocol: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Protocol(**protocol)
