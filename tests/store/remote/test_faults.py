"""What a network, a server and a worker do to one another: nothing is lost, nothing is done twice.

All in this process, by a clock that nobody waits for; the same with real processes is
``tests/crash/test_serve.py``.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served_store import ServedStore
from support.tiny_runs import FORM, STUDY, runs

from paretune.errors import StaleClaimError, StoreError
from paretune.store import Store
from paretune.store.remote.client import RemoteStore
from paretune.store.remote.messages import Request
from paretune.store.sqlite import answers


class Clock:
    """The server's clock, which leases follow."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("answers", "claims", "writes"):
        monkeypatch.setattr(f"paretune.store.sqlite.{module}.time", clock)
    monkeypatch.setattr("paretune.store.store.time", clock)
    return clock


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedStore]:
    served = a_served_store(tmp_path / "server", 6)
    yield served
    served.service.close()


def finish_next(store: RemoteStore, owner: str = "elsewhere") -> str | None:
    claim = store.claim(owner, STUDY)
    if claim is None:
        return None
    store.renew(claim, {"step": 1, "steps": 2})
    blobs = {"weights": f"weights of {claim.run_id}".encode()}
    store.finish(claim, {"outcome": "ok", "seed": claim.run.seed}, {"seconds": 1.5}, blobs)
    return claim.run_id


def results(folder: Path) -> dict[str, object]:
    with Store.open(folder) as store:
        assert store.verify() == []
        statuses = {status.run_id: status.attempt for status in store.load_statuses(STUDY)}
        return {
            record.run_id: (dict(record.result), statuses[record.run_id])
            for record in store.load_records(STUDY)
        }


def expected(attempt: int = 1) -> dict[str, object]:
    return {
        run_id: (
            {
                "outcome": "ok",
                "seed": run.seed,
                "weights": hashlib.sha256(f"weights of {run_id}".encode()).hexdigest(),
            },
            attempt,
        )
        for run_id, run in runs(6)
    }


@pytest.mark.parametrize(("lost", "every"), [("request", 2), ("answer", 2), ("answer", 10)])
def test_lost_messages_change_nothing(
    served: ServedStore, tmp_path: Path, lost: str, every: int
) -> None:
    def lose(number: int, request: Request) -> None:
        if number % every == 0:
            raise ConnectionResetError("lost")

    if lost == "request":
        served.before = lose
    else:
        served.after = lose
    worker = served.client(tmp_path / "worker")
    while finish_next(worker):
        pass
    assert results(served.folder) == expected()


def a_served_store(folder: Path, count: int) -> ServedStore:
    served = ServedStore(folder)
    with Store.open(served.folder) as store:
        store.save_study(STUDY, "tiny", "study: tiny\n", FORM)
        store.add_runs(STUDY, runs(count))
    return served


def test_a_server_killed_at_any_request_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Before it has done what was asked, or after that and before it answers."""
    undisturbed = a_served_store(tmp_path / "undisturbed", 1)
    worker = undisturbed.client(tmp_path / "worker")
    while finish_next(worker):
        pass
    undisturbed.service.close()
    assert undisturbed.sent == 5
    for moment, fatal in itertools.product(("before", "after"), range(1, undisturbed.sent + 1)):
        served = a_served_store(tmp_path / f"{moment}{fatal}", 1)

        def kill(
            number: int, request: Request, served: ServedStore = served, fatal: int = fatal
        ) -> None:
            if number == fatal:
                served.restart()
                raise ConnectionResetError("the server is gone")

        setattr(served, moment, kill)
        worker = served.client(tmp_path / f"worker-{moment}{fatal}")
        while finish_next(worker):
            pass
        served.service.close()
        assert results(served.folder) == results(undisturbed.folder), (moment, fatal)


def test_a_server_killed_inside_its_commit_has_done_all_of_it_or_nothing(
    served: ServedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is kept in the same transaction: without it, the change is not there either."""
    worker = served.client(tmp_path / "worker")
    put_answer, killed = answers.put_answer, iter([True, False])

    def die(db: object, key: str, answer: object) -> None:
        if next(killed, False):
            raise ConnectionAbortedError("killed before the commit")
        put_answer(db, key, answer)

    monkeypatch.setattr(answers, "put_answer", die)
    claim = worker.claim("elsewhere", STUDY)
    assert claim is not None and claim.attempt == 1
    assert [s.state for s in worker.load_statuses(STUDY)].count("running") == 1


def test_a_worker_that_comes_back_from_the_dead_writes_nothing(
    served: ServedStore, tmp_path: Path, clock: Clock
) -> None:
    first, second = (served.client(tmp_path / name) for name in ("first", "second"))
    lost = first.claim("a-host:boot:1:1", STUDY)
    assert lost is not None
    first.checkpoint_path(lost.run_id).write_bytes(b"state of the first")
    clock.now += 61
    new_claim = second.claim("b-host:boot:1:1", STUDY)
    assert new_claim is not None and (new_claim.run_id, new_claim.attempt) == (lost.run_id, 2)
    with pytest.raises(StaleClaimError):
        first.renew(lost, {"step": 9})
    assert not first.checkpoint_path(lost.run_id).exists()
    with pytest.raises(StaleClaimError):
        first.finish(lost, {"outcome": "ok"}, {}, {"weights": b"of the first"})
    with pytest.raises(StaleClaimError):
        first.fail(lost, "error", "late", {})
    assert not first.release(lost)
    second.finish(new_claim, {"outcome": "ok"}, {}, {"weights": b"of the second"})
    with Store.open(served.folder) as store:
        (record,) = store.load_records(STUDY)
        assert store.read_blob(record.result["weights"]) == b"of the second"


@pytest.mark.parametrize("skew", [-600.0, 600.0])
def test_the_clocks_of_workers_do_not_matter(
    served: ServedStore, tmp_path: Path, clock: Clock, skew: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's clock alone decides; a worker's may be ten minutes off."""
    monkeypatch.setattr("time.time", lambda: clock.now + skew)
    worker, other = (served.client(tmp_path / name) for name in ("worker", "other"))
    claim = worker.claim("a-host:boot:1:1", STUDY)
    assert claim is not None
    for _ in range(5):  # renewed in time, it is kept for minutes
        clock.now += 50
        worker.renew(claim)
        other_claim = other.claim("b-host:boot:1:1", STUDY)
        assert other_claim is not None and other_claim.run_id != claim.run_id
    worker.finish(claim, {"outcome": "ok"}, {}, {})
    assert other.load_statuses(STUDY)[0].attempt == 1


def test_leases_do_not_end_because_the_server_was_down(
    served: ServedStore, tmp_path: Path, clock: Clock
) -> None:
    worker, other = (served.client(tmp_path / name) for name in ("worker", "other"))
    claim = worker.claim("a-host:boot:1:1", STUDY)
    assert claim is not None
    clock.now += 3600
    served.restart()
    other_claim = other.claim("b-host:boot:1:1", STUDY)
    assert other_claim is not None and other_claim.run_id != claim.run_id
    worker.renew(claim)
    worker.finish(claim, {"outcome": "ok"}, {}, {})


def test_an_interrupted_run_goes_on_elsewhere_from_its_checkpoint(
    served: ServedStore, tmp_path: Path
) -> None:
    first, second = (served.client(tmp_path / name) for name in ("first", "second"))
    state = bytes(range(256)) * 12_000
    claim = first.claim("a-host:boot:1:1", STUDY)
    assert claim is not None
    first.checkpoint_path(claim.run_id).write_bytes(state)
    assert first.release(claim)
    again = second.claim("b-host:boot:1:1", STUDY)
    assert again is not None and again.run_id == claim.run_id
    assert second.checkpoint_path(claim.run_id).read_bytes() == state
    second.finish(again, {"outcome": "ok"}, {}, {})
    assert not second.checkpoint_path(claim.run_id).exists()
    with Store.open(served.folder) as store:
        assert not store.checkpoint_path(claim.run_id).exists()


def test_checkpoints_are_brought_every_few_minutes_and_only_when_they_changed(
    served: ServedStore, tmp_path: Path
) -> None:
    now = [0.0]
    worker = served.client(tmp_path / "worker", clock=lambda: now[0])
    sent: list[str] = []
    served.before = lambda number, request: sent.append(f"{request.method} {request.path}")
    claim = worker.claim("a-host:boot:1:1", STUDY)
    assert claim is not None
    path = worker.checkpoint_path(claim.run_id)

    def renew(seconds: float) -> int:
        now[0] += seconds
        worker.renew(claim)
        return sum(one == f"PUT /v1/checkpoints/{claim.run_id}" for one in sent)

    path.write_bytes(b"one")
    assert [renew(200), renew(200), renew(200)] == [0, 1, 1]
    assert renew(300) == 1  # it has not changed
    path.unlink()
    path.write_bytes(b"two")
    assert renew(300) == 2
    with Store.open(served.folder) as store:
        assert store.checkpoint_path(claim.run_id).read_bytes() == b"two"


def test_the_newest_checkpoint_is_taken(served: ServedStore, tmp_path: Path) -> None:
    """That of this machine where it had the last attempt; otherwise the server's."""
    first, second = (served.client(tmp_path / name) for name in ("first", "second"))
    claim = first.claim("a-host:boot:1:1", STUDY, lease_seconds=1e-9)
    assert claim is not None
    first.checkpoint_path(claim.run_id).write_bytes(b"newer than the server's")
    again = first.claim("a-host:boot:1:1", STUDY, lease_seconds=1e-9)
    assert again is not None and again.run_id == claim.run_id
    assert first.checkpoint_path(claim.run_id).read_bytes() == b"newer than the server's"
    elsewhere = second.claim("b-host:boot:1:1", STUDY)
    assert elsewhere is not None and elsewhere.run_id == claim.run_id
    second.checkpoint_path(claim.run_id).write_bytes(b"of the second")
    assert second.release(elsewhere)
    last = first.claim("a-host:boot:1:1", STUDY)
    assert last is not None and last.run_id == claim.run_id
    assert first.checkpoint_path(claim.run_id).read_bytes() == b"of the second"


def test_a_blob_that_was_damaged_on_its_way_is_refused(served: ServedStore, tmp_path: Path) -> None:
    transport = served.connect()
    right = hashlib.sha256(b"right").hexdigest()
    assert transport.send(Request("PUT", f"/v1/blobs/{right}", b"wrong")).status == 422
    assert transport.send(Request("HEAD", f"/v1/blobs/{right}")).status == 404
    assert transport.send(Request("PUT", f"/v1/blobs/{right}", b"right")).status == 200
    with Store.open(served.folder) as store:
        assert store.read_blob(right) == b"right"


def test_what_no_client_asks_is_refused(served: ServedStore) -> None:
    transport = served.connect()
    for method, path, body, status in (
        ("GET", "/v1/blobs/../../study.db", b"", 404),
        ("PUT", "/v1/checkpoints/..%2Fstudy", b"x", 404),
        ("POST", "/v1/call/close", b"{}", 404),
        ("POST", "/v1/call/claim", b'{"owner": NaN}', 422),
        ("POST", "/v1/call/get_setting", b'{"colour": 1}', 422),
        ("POST", "/v1/call/set_settings", b'{"values": {"a": "b"}}', 422),  # without a key
        ("POST", "/v1/call/get_setting", b"[" * 100_000, 422),
    ):
        assert transport.send(Request(method, path, body)).status == status, path


def test_a_wrong_token_is_refused(served: ServedStore) -> None:
    request = Request("GET", "/v1/study", b"", {"authorization": "Bearer another"})
    assert served.service.handle(request).status == 401
    assert served.service.handle(Request("GET", "/v1/study")).status == 401


def test_a_server_that_stays_away_ends_the_worker_with_a_sentence(
    served: ServedStore, tmp_path: Path
) -> None:
    def refuse(number: int, request: Request) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    worker = served.client(tmp_path / "worker")
    served.before = refuse
    with pytest.raises(StoreError, match=r"does not answer \(Connection refused\)"):
        worker.claim("a-host:boot:1:1", STUDY)


def test_two_that_may_start_beside_nothing_are_claimed_one_after_the_other(
    served: ServedStore, tmp_path: Path
) -> None:
    """Between the look and the claim another worker claims: the look is taken again."""
    first, second = (served.client(tmp_path / name) for name in ("first", "second"))
    looks: list[str] = []

    def may_start(run_id: str, running: object) -> bool:
        if not looks:
            second.claim("b-host:boot:1:1", STUDY)
        looks.append(run_id)
        return not running or run_id == "run003"

    claim = first.claim("a-host:boot:1:1", STUDY, may_start=may_start)
    assert claim is not None and claim.run_id == "run003"
    assert looks[0] == "run000"


def test_old_answers_are_forgotten(served: ServedStore, tmp_path: Path, clock: Clock) -> None:
    worker = served.client(tmp_path / "worker")
    worker.set_setting("a", "b")

    def count() -> int:
        with Store.open(served.folder) as store, store._read() as db:
            return int(db.execute("SELECT count(*) FROM answers").fetchone()[0])

    served.restart()
    assert count() == 1
    clock.now += 25 * 3600
    served.restart()
    assert count() == 0
