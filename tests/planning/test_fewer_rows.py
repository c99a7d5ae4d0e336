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
    assert not any("rows" in run.canonical_form() for run in whole)
    assert sorted(map(str, on_shares)) == sorted(
        str(run.on_rows(share)) for run in whole for share in (0.25, 0.5)
    )
    assert not plan_runs(prepared, records).list_coming(records)
    assert {r.run_id for r in records} <= find_possible_run_ids(prepared)
    plain, _ = run_all(prepare_study(ask(**protocol), caches))
    assert {r.run_id for r in plain} == {r.run_id for r in records if r.run.rows == 1}
    (cell,) = [c for c in group_into_cells(prepared.study, records) if c.method == "full"]
    assert len(cell.fewer_rows) == 2 * len(cell.final) == 2 * len(whole)


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
