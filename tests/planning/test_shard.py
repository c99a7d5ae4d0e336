"""Shares of a study: together they are the whole, and each cell is in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import as_file, command, digests, finish, small

from paretune.errors import StudyError
from paretune.planning.expand import expand_study
from paretune.planning.prepare import prepare_study
from paretune.planning.shard import Shard
from paretune.preparation import ProcessCache
from paretune.store import Store
from paretune.study import Study
from paretune.verbs.run import run
from paretune.verbs.stores import merge

METHODS = [{"name": "lora", "rank": 2}, "bitfit", "ia3"]
PROTOCOL = {"trials": 2, "folds": 1, "seeds": [1, 2], "outer": "split", "cost_seconds": 1}


@pytest.fixture
def study(tmp_path: Path, tiny_model: Any) -> Study:
    """Three methods."""
    return small(tmp_path / "data", tiny_model("bert"), methods=METHODS, protocol=PROTOCOL)


@pytest.mark.parametrize("text", ["", "3", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b"])
def test_what_is_no_share_is_told(text: str) -> None:
    with pytest.raises(StudyError, match=r"shard=.*1/16 to 16/16"):
        Shard.parse(text)


def test_every_cell_is_in_one_share_on_every_machine() -> None:
    cells = [(f"task{i}", "model", f"method{j}") for i in range(20) for j in range(20)]
    shards = [Shard(index, 4) for index in range(1, 5)]
    sizes = [sum(shard.has(cell) for cell in cells) for shard in shards]
    assert sum(sizes) == 400 and min(sizes) > 70
    assert shards[1].has(("boolq", "sloberta", "lora"))  # wherever and whenever it is asked
    proposed = [[shard.has((task, "m", name), proposed=True) for shard in shards]
                for task in ("a", "b") for name in ("auto", "other")]  # fmt: skip
    assert proposed.count(proposed[0]) == 4 and sum(proposed[0]) == 1


def test_shares_plan_all_runs_but_costs(study: Study) -> None:
    planned = [
        {one.run_id: one for one in expand_study(prepare_study(study, shard=shard), [])}
        for shard in (Shard(1, 2), Shard(2, 2))
    ]
    cells = [{one.cell for one in part.values()} for part in planned]
    assert all(cells) and not cells[0] & cells[1]
    whole = expand_study(prepare_study(study), [])
    assert {*planned[0], *planned[1]} == {o.run_id for o in whole if o.run.stage != "cost"}


def test_a_share_has_no_budget(study: Study, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="has no budget"):
        run(study, store=tmp_path / "a", shard="1/2", budget="1min")


@pytest.mark.thorough
def test_shares_that_were_merged_are_the_whole_study_to_the_bit(
    study: Study, tmp_path: Path
) -> None:
    for index in (1, 2):
        finish(study, tmp_path / f"share{index}", shard=Shard(index, 2)).close()
    merge([tmp_path / "share1", tmp_path / "share2"], tmp_path / "merged")
    with (
        finish(study, tmp_path / "whole", costs=0) as whole,
        Store.open(tmp_path / "merged") as merged,
    ):
        results = digests(merged, study.study_hash)
        assert results == digests(whole, study.study_hash)
        assert merged.verify() == []
        # The whole study goes on with all that has ended, and asks for costs alone.
        caches, records = ProcessCache(), merged.load_records(study.study_hash, predictions=True)
        left = [
            one
            for one in expand_study(prepare_study(study, caches), records)
            if one.run_id not in results
        ]
        assert {one.run.stage for one in left} == {"cost"}


@pytest.mark.slow
def test_shares_run_merge_and_report_by_commands(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    file = as_file(study, tmp_path / "s.yaml")
    for share in ("1/2", "2/2", "2/2"):  # a second time nothing is left
        code, out, err = command(capsys, "run", file, "--shard", share, "--workers", "1")
        assert code == 0, err
        assert f"Share {share}: studies/small-shard-{share[0]}-of-2." in out
        assert "costs are measured once, after the merge" in out
    parts = [f"studies/small-shard-{index}-of-2" for index in (1, 2)]
    assert command(capsys, "merge", *parts, "--output", "studies/small")[0] == 0
    code, out, err = command(capsys, "run", file, "--workers", "1")
    assert code == 0 and "words" in out, err
    with Store.open(tmp_path / "studies" / "small") as store:
        statuses = store.load_statuses(study.study_hash)
    assert all(status.ended for status in statuses)
    assert {status.attempt for status in statuses} == {1}
    assert sum(status.stage == "cost" for status in statuses) == 4  # with that of the linear probe
