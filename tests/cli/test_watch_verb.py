"""``paretune watch``: what it shows, that it ends, that it writes nothing."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import fake_records as fake
from support.stored_records import stored, study_file
from support.tiny_study import command, small

from paretune.execution.signals import StopRequest
from paretune.execution.study_runs import add_missing_runs
from paretune.execution.worker import make_executor, run_worker
from paretune.execution.worker_settings import WorkerSettings
from paretune.owner import current_owner, owner_of
from paretune.planning.expand import plan_runs
from paretune.planning.prepare import prepare_study
from paretune.store import Store
from paretune.study import Study
from paretune.verbs.watch import watch


@pytest.fixture
def study(tmp_path: Path) -> Study:
    fake_study = fake.study(tasks=[fake.own_task("topics")], methods=["full", "lora"])
    return study_file(fake_study, tmp_path / "s.yaml")


@pytest.fixture
def half(study: Study, tmp_path: Path) -> Iterator[Store]:
    """LoRA has two of three final runs and its third is running; full is on trial."""
    lora = [r for r in fake.cell(study, "lora", 0.7) if r.run.stage != "cost"]
    full = [r for r in fake.cell(study, "full", 0.7) if r.run.stage == "tune"]
    lost = fake.record(full[0].run, outcome="error", message="no luck\nat all")
    records = [*fake.cell(study, "majority", None), *lora[:-1], *full[1:], lost]
    running = fake.make_run(study, "final", "lora", 3)
    todo = [fake.make_run(study, "cost", name, 1) for name in ("lora", "full")]
    waiting = [(f"run{i}", run) for i, run in enumerate([running, *todo])]
    with stored(study, records, tmp_path / "store", waiting) as store:
        yield store


def take(store: Store, study: Study, owner: str, **progress: Any) -> None:
    claim = store.claim(owner, study.study_hash)
    assert claim is not None and claim.run_id == "run0"
    store.renew(claim, progress or None)


def test_a_view_at_80_columns_without_colour(
    study: Study, half: Store, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    take(half, study, current_owner(), step=12, steps=40, loss=0.53)
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ("watch", tmp_path / "s.yaml", "--store", tmp_path / "store", "--once")
    code, out, err = command(capsys, *arguments)
    assert (code, err) == (0, "") and "\x1b" not in out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert command(capsys, *arguments, "--every", "3")[0] == 2
    text = " ".join(out.split())
    # majority 1 + LoRA 3 + 2 + full 3; then one running, two costs, three seeds of full
    assert "9 of 15 runs ended, 1 of them failed, 1 running, 3 not asked for before" in text
    # Its seconds grow while the test runs.
    assert "e5-small x lora, rate 0.001, seed 3 (final): step 12 of 40, loss 0.53, " in text
    assert "full, rate 0.0001, seed 0 (tune): failed (error): no luck" in text
    assert "at all" not in text
    (row,) = [line for line in lines if line.startswith("  LoRA")]
    interval = watch(study, store=tmp_path / "store").cells[1].score
    assert interval is not None and interval.n_seeds == 2
    estimate = f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
    assert row.split()[:5] == ["LoRA", "5", "1", "1", "0"] and row.endswith(f"{estimate}    60 x 2")
    (row,) = [line for line in lines if line.startswith("  full")]
    assert row.split()[:6] == ["full", "fine-tuning", "2", "0", "4", "1"] and row.endswith(
        "-         -"
    )


def test_time_left_is_told_only_while_somebody_works(
    study: Study, half: Store, tmp_path: Path, capsys: Any
) -> None:
    idle = watch(study, store=tmp_path / "store")
    assert idle.seconds_left is None and idle.workers == 0 and not idle.finished
    text = command(capsys, "watch", tmp_path / "s.yaml", "--store", tmp_path / "store")[1]
    assert "Nobody works on it now: paretune run" in " ".join(text.split())
    take(half, study, current_owner(), step=12, steps=40)
    busy = watch(study, store=tmp_path / "store")
    assert busy.seconds_left is not None and busy.workers == 1


def test_a_run_whose_worker_is_gone_waits_and_teaches_no_time(
    study: Study, half: Store, tmp_path: Path
) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = owner_of(child.pid)
    take(half, study, owner, step=30, steps=40)
    assert [s.run_id for s in watch(study, store=tmp_path / "store").running] == ["run0"]
    child.communicate(b"\n")
    view = watch(study, store=tmp_path / "store")
    assert view.running == () and [s.run_id for s in view.abandoned] == ["run0"]
    lora = view.cells[1]
    assert (lora.running, lora.waiting) == (0, 2)


@pytest.mark.wide
def test_runs_to_come_are_counted_as_planning_counts_them(tmp_path: Path, tiny_model: Any) -> None:
    """At every moment of a real study, and it is over exactly when planning has nothing more."""
    methods = [{"name": "lora", "rank": 2, "learning_rates": [1e-3, 1e-2]}]
    protocol = {"trials": 2, "folds": 1, "seeds": [1, 2]}
    study = small(tmp_path, tiny_model("bert"), methods=methods, protocol=protocol)
    executor, seen = make_executor(), []
    with Store.open(tmp_path / "store", create=True) as store:
        prepared = prepare_study(study).in_store(store, "cpu")
        store.save_study(study.study_hash, study.study, "", study.canonical_form())
        add_missing_runs(prepared, store)
        while True:
            plan = plan_runs(prepared, store.load_records(study.study_hash, predictions=True))
            view = watch(study, store=tmp_path / "store")
            assert view.total == len(plan.runs) + len(plan.later)
            seen.append((view.ended, view.finished))
            if not any(s.is_claimable for s in store.load_statuses(study.study_hash)):
                break
            run_worker(store, study.study_hash, executor, StopRequest(), WorkerSettings(limit=1))
            if view.ended % 3:  # at times before planning has been asked again
                add_missing_runs(prepared, store)
        assert seen[-1][0] == view.total == 12 and [over for _, over in seen].index(True) == 12


def test_nothing_is_written_and_nobody_is_waited_for(
    study: Study, half: Store, tmp_path: Path
) -> None:
    def content() -> list[Any]:
        files = [p for p in (tmp_path / "store").rglob("*") if not p.name.startswith("study.db")]
        return [*half._db.iterdump(), *sorted(files)]

    before = content()
    half._db.execute("BEGIN IMMEDIATE")  # a worker in the middle of writing
    assert watch(study, store=tmp_path / "store").ended == 9  # a second writer waits, and fails
    half._db.execute("ROLLBACK")
    assert content() == before


def on_a_terminal(
    *arguments: object, until: str, then: Callable[[subprocess.Popen[bytes]], object] | None = None
) -> tuple[int, str]:
    """Run paretune on a terminal; call ``then`` once ``until`` has been shown."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "paretune", *map(str, arguments)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(terminal)
    output, patience = b"", time.monotonic() + 120
    while time.monotonic() < patience:
        if select.select([controller], [], [], 0.2)[0]:
            try:
                output += os.read(controller, 65536)
            except OSError:  # the terminal's other end was closed: it has ended
                break
        if then is not None and until.encode() in output:
            then(process)
            then = None
    code = process.wait(timeout=60)
    os.close(controller)
    assert until.encode() in output
    return code, output.decode()


@pytest.mark.wide
def test_ctrl_c_ends_it_and_leaves_the_study_alone(
    study: Study, half: Store, tmp_path: Path
) -> None:
    take(half, study, current_owner(), step=12, steps=40)
    arguments = ("watch", tmp_path / "s.yaml", "--store", tmp_path / "store", "--every", "0.2")
    code, output = on_a_terminal(
        *arguments, until="step 12 of 40", then=lambda process: process.send_signal(signal.SIGINT)
    )
    assert code == 0 and "Traceback" not in output and "the study itself was not touched" in output


def test_it_ends_by_itself_when_the_study_does(study: Study, tmp_path: Path) -> None:
    left_out = {"tasks": study.tasks[:1]}
    records = fake.whole(study.model_copy(update=left_out))
    last = next(r for r in records if r.run.stage == "cost")
    ended = [r for r in records if r is not last]
    file, folder = tmp_path / "s.yaml", tmp_path / "store"
    with stored(study, ended, folder, [(last.run_id, last.run)]) as store:
        ending = (
            "import sys, time; from pathlib import Path; from paretune.store import Store\n"
            "while not Path(sys.argv[3]).exists(): time.sleep(0.05)\n"
            "with Store.open(Path(sys.argv[1])) as store:\n"
            "    claim = store.claim('test', sys.argv[2])\n"
            "    store.finish(claim, {'outcome': 'ok'}, {}, {})\n"
        )
        worker = subprocess.Popen(
            [sys.executable, "-c", ending, str(folder), study.study_hash, str(tmp_path / "go")]
        )
        code, output = on_a_terminal(
            "watch",
            file,
            "--store",
            folder,
            "--every",
            "0.2",
            until="Nobody works on it now",
            then=lambda _: (tmp_path / "go").touch(),
        )
        assert worker.wait() == 0 and code == 0 and "Done: paretune report" in output
        assert watch(study, store=folder).finished
        assert all(s.ended for s in store.load_statuses(study.study_hash))
