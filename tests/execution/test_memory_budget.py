"""Runs beside one another, as far as memory bears them; and whose fault it is where it does not."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from support.tiny_runs import STUDY, a_run, a_store, runs
from test_local import drive, lines

from paretune.execution import memory_budget, worker_crashes
from paretune.execution.memory_budget import (
    DEFAULT_RUN_BYTES,
    ISOLATED_PREFIX,
    MEMORY_PREFIX,
    MemoryBudget,
    fit_workers,
)
from paretune.execution.study_runs import add_missing_runs
from paretune.execution.worker_crashes import WorkerCrashes, WorkerExit
from paretune.execution.worker_settings import WorkerSettings
from paretune.planning.predicted_cost import PROCESS_BYTES, PredictedCost
from paretune.planning.prepare import prepare_study
from paretune.store import Store
from paretune.verbs.workers import explain_memory

GIB = 2**30


def test_a_run_fits_beside_those_that_run() -> None:
    budget = MemoryBudget(10 * GIB, {"full": 7 * GIB, "lora": GIB, "loha": GIB, "large": 20 * GIB})
    assert budget.admits("full", []) and budget.admits("large", [])  # nothing else runs
    assert budget.admits("full", ["lora", "loha"])
    assert not budget.has_refused
    assert not budget.admits("full", ["full"]) and not budget.admits("lora", ["large"])
    assert budget.has_refused
    assert not budget.admits("unknown", ["full", "unknown too"])
    assert DEFAULT_RUN_BYTES == 2 * GIB


def test_without_a_budget_only_what_was_killed_beside_others_waits() -> None:
    budget = MemoryBudget(None, isolated=frozenset({"killed"}))
    assert budget.admits("a", ["b", "c"]) and budget.admits("killed", [])
    assert not budget.admits("killed", ["a"]) and not budget.admits("a", ["killed"])


def overlapping(folder: Path) -> set[frozenset[str]]:
    """Pairs of runs (by seed) that were executed at the same time."""
    spans: dict[str, list[float]] = {}
    for _, _, seed, *_, when in lines(folder):
        spans.setdefault(seed, []).append(float(when))
    pairs = set()
    for one, other in ((a, b) for a in spans for b in spans if a < b):
        if spans[one][0] < spans[other][-1] and spans[other][0] < spans[one][-1]:
            pairs.add(frozenset({one, other}))
    return pairs


def test_a_worker_claims_only_what_fits_beside_what_runs(tmp_path: Path) -> None:
    """Two large runs, then four small ones; two workers, and room for a large and a small one."""
    large, small = runs(2, sleep=0.1), [(f"s{n}", a_run(n, sleep=0.05)) for n in range(2, 6)]
    store = a_store(tmp_path, [*large, *small])
    store.set_settings({f"{MEMORY_PREFIX}{run_id}": str(7 * GIB) for run_id, _ in large})
    store.set_settings({f"{MEMORY_PREFIX}{run_id}": str(GIB) for run_id, _ in small})
    assert drive(store, memory_bytes=10 * GIB).outcomes == {"ok": 6}
    assert frozenset({"0", "1"}) not in overlapping(tmp_path)


def killed(owner: str) -> WorkerExit:
    return WorkerExit(owner, -signal.SIGKILL, "")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The kernel's counter of kills for memory."""
    counter = [0]
    monkeypatch.setattr(worker_crashes, "count_oom_kills", lambda: counter[0])
    return counter


def test_killed_beside_others_it_goes_on_by_itself_and_whole(
    tmp_path: Path, kernel: list[int]
) -> None:
    """Two workers are killed at once: neither micro-batch is halved, neither run is a failure."""
    store, notes = a_store(tmp_path, runs(3)), list[str]()
    crashes = WorkerCrashes(store, notes.append)
    for owner in ("one", "two"):
        store.claim(owner, STUDY)
    kernel[0] = 2
    crashes.handle_exits([killed("one"), killed("two")], store.load_statuses(STUDY))
    assert len(notes) == 2
    assert all("lack of memory, beside 1 other run; it goes on unchanged" in n for n in notes)
    assert store.get_settings("halve/") == {}
    assert set(store.get_settings(ISOLATED_PREFIX)) == {"run000", "run001"}
    # Alone now, and killed again: it is too large itself.
    states = [s for s in store.load_statuses(STUDY) if s.run_id == "run000"]
    kernel[0] = 3
    crashes.handle_exits([killed("one")], states)
    assert "with nothing beside it; it goes on with its micro-batch halved once" in notes[-1]
    assert store.get_settings("halve/") == {"run000": "1"}


def test_what_runs_by_itself_has_nothing_beside_it(tmp_path: Path) -> None:
    store = a_store(tmp_path, runs(4, sleep=0.02))
    store.set_setting(f"{ISOLATED_PREFIX}run001", "1")
    assert drive(store).outcomes == {"ok": 4}
    assert not any("1" in pair for pair in overlapping(tmp_path))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``machine(cores, free)``: what this machine has."""

    def have(cores: int, free: int) -> None:
        monkeypatch.setattr(memory_budget, "count_usable_cores", lambda: cores)
        monkeypatch.setattr(memory_budget, "read_available_bytes", lambda: free)

    return have


def fit(needs: list[int], **settings: Any) -> WorkerSettings:
    (fitted,) = fit_workers([WorkerSettings(**{"device_workers": 0, **settings})], needs)
    return fitted


def test_workers_are_counted_by_what_the_coming_runs_need(machine: Any) -> None:
    machine(8, 16 * GIB)
    xlmr_full, lora = PROCESS_BYTES + int(6.8 * GIB), PROCESS_BYTES + GIB
    assert fit([xlmr_full] * 5).device_workers == 1
    assert fit([lora] * 20).device_workers == 8
    mixed = fit([xlmr_full] * 5 + [lora] * 5)
    assert mixed.device_workers == 5
    assert (mixed.count_fitting(xlmr_full), mixed.count_fitting(lora)) == (1, 5)
    assert fit([lora] * 20, threads=4).device_workers == 2
    assert fit([]).device_workers == 8
    assert fit([200 * GIB]).device_workers == 1
    gpu = fit([xlmr_full] * 5, device="cuda")
    assert (gpu.device_workers, gpu.memory_bytes) == (1, None)
    assert PredictedCost(None, None, "", "").worker_bytes == PROCESS_BYTES


def test_why_is_said(machine: Any) -> None:
    def explain(needs: list[int], **settings: Any) -> tuple[str, ...]:
        return explain_memory([fit(needs, **settings)], needs)

    machine(2, 16 * GIB)
    large, small = PROCESS_BYTES + 7 * GIB, PROCESS_BYTES + GIB
    assert "so 1 train at once on 2 cores" in explain([large] * 2)[0]
    assert "runs wait while they would not fit" in explain([small, small, large])[0]
    assert "may not fit" in explain([small, small, 20 * GIB])[0]
    assert explain([small])[0].endswith("predicted to need 1.38 GiB.")
    assert explain([small], device_workers=2) == ()


def test_what_a_run_needs_is_kept_before_it_can_be_claimed(tmp_path: Path, tiny_model: Any) -> None:
    from support import tiny_study

    study = tiny_study.small(tmp_path / "data", tiny_model("bert"), methods=["full", "head_only"])
    with Store.open(tmp_path / "store", create=True) as store:
        prepared = prepare_study(study).in_store(store, "cpu")
        store.save_study(study.study_hash, study.study, "", study.canonical_form())
        predictor = prepared.predictor
        add_missing_runs(prepared, store, predictor)
        needs = store.get_settings(MEMORY_PREFIX)
        for state in store.load_statuses(study.study_hash):
            if state.stage == "cost":
                assert state.run_id not in needs
            else:
                assert int(needs[state.run_id]) == predictor.predict(state.run).worker_bytes
    assert max(map(int, needs.values())) > PROCESS_BYTES
