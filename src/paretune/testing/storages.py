"""The contract of a :class:`~paretune.store.Storage`, as tests."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from paretune.errors import StaleClaimError
from paretune.owner import current_owner
from paretune.store import Claim, Predictions, Storage
from paretune.store.encoding import encode_predictions
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec, digest

FORM = {"study": "contract"}
STUDY = digest(FORM)[:16]
OTHER = "0123456789abcdef"


def make_run(seed: int = 0, stage: str = "tune") -> Run:
    """A run that nobody executes."""
    return Run.model_validate(
        {
            "stage": stage,
            "task": TaskSpec(name="cb", language="sl"),
            "model": ModelSpec(name="tiny"),
            "method": MethodSpec(name="lora"),
            "learning_rate": 1e-3,
            "seed": seed,
        }
    )


def make_runs(count: int, stage: str = "tune") -> list[tuple[str, Run]]:
    """Runs with ids ``tune0``, ``tune1`` ..."""
    return [(f"{stage}{seed}", make_run(seed, stage)) for seed in range(count)]


class StorageContract:
    """What every storage does. An implementation overrides :meth:`open`."""

    def open(self, folder: Path) -> Storage:
        """A handle on the storage in a folder, which is made if it is empty.

        Two handles on one folder see one another's changes.
        """
        raise NotImplementedError

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        """A storage with one study of four runs."""
        storage = self.open(tmp_path)
        storage.save_study(STUDY, "contract", "study: contract\n", FORM)
        storage.add_runs(STUDY, make_runs(4))
        return storage

    def claim(self, storage: Storage, **options: Any) -> Claim:
        """The next claim, which must be there."""
        claim = storage.claim("worker", STUDY, **options)
        assert claim is not None
        return claim

    def test_runs_are_claimed_once_and_in_order(self, storage: Storage) -> None:
        claims = [self.claim(storage) for _ in range(4)]
        assert [claim.run_id for claim in claims] == ["tune0", "tune1", "tune2", "tune3"]
        assert [claim.run for claim in claims] == [run for _, run in make_runs(4)]
        assert storage.claim("another", STUDY) is None

    def test_adding_runs_again_adds_none(self, storage: Storage) -> None:
        assert storage.add_runs(STUDY, make_runs(4)) == 0
        assert storage.add_runs(STUDY, make_runs(5)) == 1
        assert [s.run_id for s in storage.load_statuses(STUDY)][-1] == "tune4"

    def test_only_the_stages_asked_for_are_claimed(self, storage: Storage) -> None:
        storage.add_runs(STUDY, make_runs(1, "final"))
        assert self.claim(storage, stages=("final",)).run_id == "final0"
        assert storage.claim("worker", STUDY, stages=("final",)) is None

    def test_what_a_run_leaves_comes_back_bit_for_bit(self, storage: Storage) -> None:
        numbers = [0.1 + 0.2, 1 / 3, 1e-308, -0.0, 5e-324, math.pi]
        claim = self.claim(storage)
        result = {"outcome": "ok", "numbers": numbers, "notes": ["č"]}
        storage.finish(claim, result, {"wall_seconds": {"train": 0.1}}, {"weights": b"tensors"})
        (record,) = storage.load_records(STUDY)
        stored: Any = record.result
        assert [number.hex() for number in stored["numbers"]] == [n.hex() for n in numbers]
        assert record.result["notes"] == ["č"]
        assert record.measured["wall_seconds"] == {"train": 0.1}
        assert record.result["weights"] == hashlib.sha256(b"tensors").hexdigest()
        assert storage.read_blob(record.result["weights"]) == b"tensors"

    def test_predictions_are_loaded_where_asked_for(self, storage: Storage) -> None:
        predictions = {"test": Predictions(("a", "b"), (0, 1), (1, 1), ((0.1, 0.2), (-1e-9, 3.0)))}
        blobs = {"predictions": encode_predictions(predictions)}
        storage.finish(self.claim(storage), {"outcome": "ok"}, {}, blobs)
        assert storage.load_records(STUDY)[0].predictions == {}
        assert storage.load_records(STUDY, predictions=True)[0].predictions == predictions

    @pytest.mark.parametrize(
        "result", [{"loss": math.nan}, {"loss": math.inf}, {"rows": {1, 2}}, {"weights": "taken"}]
    )
    def test_a_result_that_cannot_be_stored_changes_nothing(
        self, storage: Storage, result: dict[str, Any]
    ) -> None:
        claim = self.claim(storage)
        with pytest.raises(ValueError, match=r"."):
            storage.finish(claim, result, {}, {"weights": b"tensors"})
        assert storage.load_statuses(STUDY)[0].state == "running"
        storage.finish(claim, {"outcome": "ok"}, {}, {})
        assert [record.outcome for record in storage.load_records(STUDY)] == ["ok"]

    def test_a_run_that_is_done_never_changes(self, storage: Storage) -> None:
        claim = self.claim(storage)
        storage.finish(claim, {"outcome": "ok"}, {}, {})
        before = storage.load_records(STUDY)
        with pytest.raises(StaleClaimError):
            storage.finish(claim, {"outcome": "collapsed"}, {}, {})
        with pytest.raises(StaleClaimError):
            storage.fail(claim, "error", "late", {})
        assert not storage.release(claim)
        assert storage.retry(STUDY) == 0
        assert storage.load_records(STUDY) == before

    def test_a_stale_claim_writes_nothing(self, storage: Storage) -> None:
        stale = self.claim(storage)
        assert storage.release(stale)
        latest = self.claim(storage)
        assert (latest.run_id, latest.attempt) == (stale.run_id, stale.attempt + 1)
        with pytest.raises(StaleClaimError):
            storage.renew(stale, {"step": 9})
        with pytest.raises(StaleClaimError):
            storage.finish(stale, {"outcome": "ok"}, {}, {})
        with pytest.raises(StaleClaimError):
            storage.fail(stale, "error", "late", {})
        assert not storage.release(stale)
        status = storage.load_statuses(STUDY)[0]
        assert status.state == "running" and status.progress.get("step") != 9
        storage.finish(latest, {"outcome": "ok"}, {}, {})

    def test_a_lease_that_ran_out_frees_the_run_and_renewing_keeps_it(
        self, storage: Storage
    ) -> None:
        kept = self.claim(storage, lease_seconds=60.0)
        lost = self.claim(storage, lease_seconds=0.01)
        storage.renew(kept, {"step": 3, "steps": 4})
        while not storage.load_statuses(STUDY)[1].is_claimable:
            time.sleep(0.01)
        again = self.claim(storage)
        assert (again.run_id, again.attempt) == (lost.run_id, 2)
        status = storage.load_statuses(STUDY)[0]
        assert not status.is_claimable and status.progress["step"] == 3

    def test_a_failed_run_is_recorded_and_can_be_retried(self, storage: Storage) -> None:
        claim = self.claim(storage)
        storage.checkpoint_path(claim.run_id).write_bytes(b"state")
        storage.fail(claim, "error", "a defect", {"traceback": "..."})
        assert not storage.checkpoint_path(claim.run_id).exists()
        storage.fail(self.claim(storage), "out_of_memory", "too large", {})
        failed, too_large = storage.load_records(STUDY)
        assert (failed.outcome, failed.message) == ("error", "a defect")
        assert too_large.outcome == "out_of_memory"
        storage.set_setting(f"halve/{too_large.run_id}", "2")
        assert storage.retry(STUDY) == 2
        assert [s.state for s in storage.load_statuses(STUDY)][:2] == ["todo", "todo"]
        # What was learnt of an attempt is no reason to begin the next one smaller.
        assert storage.get_setting(f"halve/{too_large.run_id}") is None

    def test_a_released_run_keeps_its_checkpoint(self, storage: Storage) -> None:
        claim = self.claim(storage)
        path = storage.checkpoint_path(claim.run_id)
        path.write_bytes(b"state")
        storage.release(claim)
        again = self.claim(storage)
        assert again.run_id == claim.run_id and path.read_bytes() == b"state"

    def test_a_cost_has_its_device_for_itself(self, storage: Storage) -> None:
        storage.add_runs(STUDY, make_runs(1, "cost"))
        first, second = (current_owner(device) for device in ("cuda:0", "cuda:1"))
        trained = storage.claim(second, STUDY, stages=("tune",))
        assert trained is not None
        for owner, claimable in ((second, False), (current_owner("cpu"), False), (first, True)):
            assert storage.load_statuses(STUDY, owner)[-1].is_claimable == claimable
            claim = storage.claim(owner, STUDY, stages=("cost",))
            assert (claim is not None) == claimable
        assert storage.claim(first, STUDY, stages=("tune",)) is None
        assert storage.claim("at a place that is not known", STUDY, stages=("tune",)) is None
        assert storage.claim(second, STUDY, stages=("tune",)) is not None

    def test_a_cost_is_claimed_alone(self, storage: Storage) -> None:
        storage.add_runs(STUDY, make_runs(1, "cost"))
        training = self.claim(storage)
        assert storage.claim("another", STUDY, stages=("cost",)) is None
        storage.release(training)
        cost = self.claim(storage, stages=("cost",))
        assert storage.claim("another", STUDY) is None
        storage.finish(cost, {"outcome": "ok"}, {}, {})
        assert self.claim(storage).run_id == "tune0"

    def test_runs_that_match_are_claimed_together(self, storage: Storage) -> None:
        claims = storage.claim_matching("worker", STUDY, lambda run_id, run: run.seed != 1, limit=2)
        assert [claim.run_id for claim in claims] == ["tune0", "tune2"]
        rest = storage.claim_matching("worker", STUDY, lambda *_: True, limit=9, workers=2)
        # One of the two that are left: each worker gets its part.
        assert [claim.run_id for claim in rest] == ["tune1"]

    def test_a_run_that_may_not_start_is_passed_over(self, storage: Storage) -> None:
        seen: list[Any] = []

        def may_start(run_id: str, running: Any) -> bool:
            seen.append((run_id, [list(runs) for runs in running]))
            return run_id != "tune1"

        self.claim(storage)
        assert self.claim(storage, may_start=may_start).run_id == "tune2"
        assert seen == [("tune1", [["tune0"]]), ("tune2", [["tune0"]])]

    def test_a_run_of_two_studies_is_one_run(self, storage: Storage) -> None:
        storage.save_study(OTHER, "other", "study: other\n", {"study": "other"})
        assert storage.add_runs(OTHER, make_runs(1)) == 1
        storage.finish(self.claim(storage), {"outcome": "ok"}, {}, {})
        assert [s.state for s in storage.load_statuses(OTHER)] == ["done"]
        assert storage.claim("worker", OTHER) is None

    def test_settings(self, storage: Storage) -> None:
        assert storage.get_setting("key") is None
        storage.set_settings({"a/1": "x", "a/2": "y", "b/1": "z"})
        storage.set_setting("a/2", "č")
        assert storage.get_settings("a/") == {"1": "x", "2": "č"}
        assert storage.set_default_setting("b/1", "later") == "z"
        assert storage.set_default_setting("b/2", "first") == "first"

    def test_another_handle_sees_what_was_written(self, storage: Storage, tmp_path: Path) -> None:
        second = self.open(tmp_path)
        storage.finish(self.claim(storage), {"outcome": "ok"}, {}, {})
        assert [s.state for s in second.load_statuses(STUDY)].count("done") == 1
        with storage.reopen() as again:
            assert again.load_records(STUDY) == second.load_records(STUDY)

    def test_a_handle_that_has_looked_before_sees_every_change(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        """What it has seen is not read again: it equals what a new handle reads as a whole."""
        watcher, owner = self.open(tmp_path), current_owner("cpu")

        def look(handle: Storage) -> list[Any]:
            statuses = handle.load_statuses(STUDY, owner)
            return [dataclasses.replace(status, seconds=None) for status in statuses]

        def check() -> None:
            assert look(watcher) == look(storage) == look(self.open(tmp_path))

        check()
        storage.add_runs(STUDY, [*make_runs(5), *make_runs(2, "cost")])
        check()
        first, second = self.claim(storage), self.claim(storage)
        check()
        storage.renew(first, {"step": 1, "steps": 9})
        check()
        storage.release(first)
        storage.fail(second, "error", "a defect", {})
        check()
        storage.save_study(OTHER, "other", "study: other\n", {"study": "other"})
        storage.add_runs(OTHER, [("tune0", make_run()), ("alone", make_run(9))])
        claim = storage.claim(owner, OTHER)
        assert claim is not None and claim.run_id == "tune0"
        check()
        storage.finish(claim, {"outcome": "ok", "scores": {"test": {"primary": 0.5}}}, {}, {})
        assert storage.retry(STUDY) == 1
        check()
        assert self.claim(watcher).run_id == "tune1"  # put back by another handle
        check()

    def test_a_handle_that_has_read_settings_before_sees_every_change(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        reader = self.open(tmp_path)
        storage.set_settings({"a/1": "x", "b/1": "y"})
        assert reader.get_settings("a/") == {"1": "x"} and reader.get_settings("") != {}
        storage.set_settings({"a/2": "z", "b/1": "changed"})
        reader.get_settings("a/")["1"] = "of the caller alone"
        assert reader.get_settings("a/") == {"1": "x", "2": "z"}
        assert reader.get_settings("b/") == {"1": "changed"}
        claim = self.claim(storage)
        storage.set_setting(f"halve/{claim.run_id}", "1")
        assert reader.get_settings("halve/") == {claim.run_id: "1"}
        storage.fail(claim, "error", "a defect", {})
        storage.retry(STUDY)
        assert reader.get_settings("halve/") == {}

    def test_threads_never_get_the_same_run(self, storage: Storage) -> None:
        storage.add_runs(STUDY, make_runs(40))
        claimed: list[str] = []

        def claim_all() -> None:
            with storage.reopen() as handle:
                while (claim := handle.claim("worker", STUDY)) is not None:
                    claimed.append(claim.run_id)

        threads = [threading.Thread(target=claim_all) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(claimed) == sorted(run_id for run_id, _ in make_runs(40))
