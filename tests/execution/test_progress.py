import io
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress
from support.tiny_runs import STUDY, a_run, a_store, runs

from paretune.execution import progress, worker_crashes
from paretune.execution.progress import (
    BarObserver,
    LineObserver,
    NotebookObserver,
    Observer,
    describe_end,
    describe_run,
    format_duration,
    open_default_observer,
    open_observer,
    take_snapshot,
)
from paretune.store import RunStatus


def state(seed, state="todo", stage="tune", method="lora", **more):
    rate = more.pop("rate", 1e-3)
    run = a_run(seed, stage, method).model_copy(update={"learning_rate": rate})
    return RunStatus(
        f"{stage}{seed}", run, state, state == "todo", None, 1, more.pop("progress", {}), **more
    )


def done(seed, seconds, **more):
    return state(seed, "done", seconds=seconds, outcome="ok", score=0.7142, **more)


def open_notebook(monkeypatch: pytest.MonkeyPatch, kernel: object) -> list[list[str]]:
    """As if this process were the kernel of a notebook; the states of each of its outputs."""
    outputs: list[list[str]] = []

    def display(value: object, *, display_id: bool) -> SimpleNamespace:
        assert display_id
        outputs.append([f"{value!r}\n{value._repr_html_()}"])  # type: ignore[attr-defined]
        states = outputs[-1]
        return SimpleNamespace(
            update=lambda value: states.append(f"{value!r}\n{value._repr_html_()}")
        )

    shell = SimpleNamespace(kernel=kernel)
    ipython = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    return outputs


def test_time_left_comes_from_runs_of_the_same_kind():
    states = [
        done(0, 10.0),
        done(1, 20.0),
        done(2, 100.0, method="full"),
        state(3, stage="final"),
        state(4, method="full"),
        state(5, "running", progress={"step": 3, "steps": 4}),
    ]
    snapshot = take_snapshot(states, 2, 0)
    assert snapshot.seconds_left == pytest.approx((15 + 100 + 15 / 4) / 2)
    assert (snapshot.ended, snapshot.total, len(snapshot.running)) == (3, 6, 1)
    half = {"seconds": 40.0, "progress": {"step": 2, "steps": 4}}
    # A Ray driver owns the runs of all nodes, each of which takes its seconds.
    running = [replace(state(seed, "running", **half), owner="a") for seed in range(4)]
    left = take_snapshot([*running, state(5)], 2, 0).seconds_left
    assert left == pytest.approx((4 * 40 + 80) / 2)


def test_time_left_counts_planned_runs_and_cost_runs_one_by_one():
    costs = [done(9, 4.0, stage="cost"), state(1, stage="cost"), state(2, stage="cost")]
    states = [done(0, 10.0), *costs]
    assert take_snapshot(states, 2, 0).seconds_left == pytest.approx(8)
    assert take_snapshot(states, 2, 8).seconds_left == pytest.approx(8 + 4 * 10 / 2)
    assert take_snapshot(states, 2, 8).total == 8


def test_cost_runs_are_counted_before_the_first_of_them():
    """By a run that trains, within the limit for a cost."""
    costs = [state(seed, stage="cost") for seed in range(5)]
    trained = done(0, 120.0)
    snapshot = take_snapshot([trained, state(1), *costs], 1, 0)
    assert snapshot.seconds_left == pytest.approx(120 + 5 * (5 + 30))
    assert snapshot.time_left == "about 5 min left of this pass"
    quick = take_snapshot([done(0, 1.5), done(1, 90.0, method="full"), costs[0]], 1, 0)
    assert quick.seconds_left == pytest.approx(5 + 1.5)
    assert take_snapshot([done(0, 120.0)], 1, 0).time_left == ""  # at the end, not "about 0 s left"
    # The first that ended says what the others will take; so does one that is well under way.
    snapshot = take_snapshot([trained, done(9, 30.0, stage="cost"), *costs], 1, 7)
    assert (snapshot.time_left, snapshot.seconds_left) == ("about 2 min left", pytest.approx(150))


def test_a_run_that_goes_on_has_its_steps_behind_it():
    """Its seconds are those of this attempt; it began at step 90 of 100."""
    on = {"step": 95, "steps": 100, "resumed_at": 85}
    running = state(0, "running", seconds=20.0, progress=on)
    assert take_snapshot([running, state(1)], 1, 0).seconds_left == pytest.approx(200 * 0.05 + 200)
    ended = done(0, 30.0, progress={"step": 100, "steps": 100, "resumed_at": 85})
    assert take_snapshot([ended, state(1)], 1, 0).seconds_left == pytest.approx(200)
    # Given back after half of its steps.
    back = state(1, progress={"step": 50, "steps": 100})
    assert take_snapshot([done(0, 200.0), back], 1, 0).seconds_left == pytest.approx(100)
    # What ended before it told a step of its own tells nothing.
    silent = done(0, 1.0, progress={"step": 85, "steps": 100, "resumed_at": 85})
    assert take_snapshot([silent, state(1)], 1, 0).seconds_left is None


def test_a_claim_goes_on_where_the_last_attempt_was(tmp_path):
    """Until the worker has told its own step, which may be an earlier one."""
    store = a_store(tmp_path, runs(1))
    claim = store.claim("one", STUDY)
    assert store.load_statuses(STUDY)[0].progress == {}
    store.renew(claim, {"step": 7, "steps": 10, "resumed_at": 0})
    store.release(claim)
    again = store.claim("two", STUDY)
    assert store.load_statuses(STUDY)[0].progress == {"step": 7, "steps": 10, "resumed_at": 7}
    store.renew(again, {"step": 6, "steps": 10, "resumed_at": 5})
    assert store.load_statuses(STUDY)[0].progress["resumed_at"] == 5


@pytest.mark.parametrize(
    ("states", "planned_runs"),
    [
        ([state(0)], 0),
        ([done(9, 4.0, stage="cost"), state(1)], 0),
        ([done(9, 4.0, stage="cost")], 8),
        ([state(0, "running", seconds=3.0, progress={"step": 1, "steps": 40}), state(1)], 0),
        ([done(0, 1.0, method="majority", rate=None), state(1)], 0),
    ],
    ids=["none ended", "a cost", "a cost, more planned", "one step", "a baseline"],
)
def test_what_tells_nothing_of_the_time_left(states, planned_runs):
    snapshot = take_snapshot(states, 1, planned_runs)
    assert snapshot.time_left == "" and snapshot.seconds_left is None


def test_a_plain_line_for_every_end_and_seldom_one_between(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    running = state(2, "running", progress={"step": 3, "steps": 8, "loss": 0.5123})
    snapshot = take_snapshot([done(0, 40.0), state(1), running], 1, 3)
    with open_observer() as lines:
        assert isinstance(lines, LineObserver)
        for second in (1, 10, 29, 30, 31, 45, 61):
            now[0] = second
            lines.update(snapshot)
        lines.ended(done(0, 40.0), snapshot)
    assert capsys.readouterr().out.splitlines() == [
        "[1/3] cb-sl x tiny x lora, rate 0.001, seed 2 (tune): step 3 of 8, loss 0.512; "
        "about 65 s left",
    ] * 2 + [
        "[1/3] cb-sl x tiny x lora, rate 0.001, seed 0 (tune): ok, 0.714, 40 s; about 65 s left",
    ]


def test_a_notebook_has_one_output_with_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, now = open_notebook(monkeypatch, object()), [0.0]
    monkeypatch.setattr(progress, "is_terminal", lambda error=False: False)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    failed = state(99, "failed", outcome="error", message="<b>why</b>")
    with open_default_observer(None) as bar:
        bar.note("At most 100 runs.")
        for seed in range(99):
            running = state(seed + 1, "running", progress={"step": 3, "steps": 8})
            snapshot = take_snapshot([*(done(n, 40.0) for n in range(seed + 1)), running], 1, 100)
            for _ in range(20):
                now[0] += 0.1
                bar.update(snapshot)
            bar.ended(done(seed, 40.0), snapshot)
        bar.ended(failed, take_snapshot([*(done(n, 40.0) for n in range(99)), failed], 1, 100))
    (states,) = outputs
    assert len(states) < 20 * 99 / 3  # several updates a second are one
    assert '<progress value="50" max="100"' in "".join(states)
    assert "50/100 runs, about 33 min left" in "".join(states)
    assert "lora, rate 0.001, seed 50 (tune): step 3 of 8" in "".join(states)
    assert states[-1].splitlines()[:3] == [
        "At most 100 runs.",
        "cb-sl x tiny x lora, rate 0.001, seed 99 (tune): failed (error): <b>why</b>",
        "100/100 runs",
    ]
    assert '<progress value="100" max="100"' in states[-1] and "&lt;b&gt;why" in states[-1]
    assert capsys.readouterr() == ("", "")


def test_bars_follow_the_running_runs_and_survive_markup():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=160)
    with Progress(console=console) as progress:
        bars = BarObserver(progress)
        first = state(1, "running", progress={"step": 3, "steps": 8, "note": "[bold"})
        bars.update(take_snapshot([done(0, 40.0), first], 1, 0))
        assert [task.completed for task in progress.tasks] == [1, 3]
        bars.update(take_snapshot([done(0, 40.0), done(1, 40.0)], 1, 0))
        assert [task.completed for task in progress.tasks] == [2]
        failed = state(3, "failed", outcome="error", message="[/nothing] is open")
        bars.ended(failed, take_snapshot([failed], 1, 0))
    assert "failed (error): [/nothing] is open" in stream.getvalue()


def test_words():
    assert describe_run(a_run(2, "final")) == "cb-sl x tiny x lora, rate 0.001, seed 2 (final)"
    assert describe_end(state(0, "failed", outcome="error", message="why")) == "failed (error): why"
    assert [format_duration(s) for s in (0.4, 89, 90, 3600, 7500)] == [
        "0 s", "89 s", "2 min", "60 min", "2 h 05 min",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mounted", "file"),
    [
        ("0::/jobs/one\n", "jobs/one/memory.events"),
        ("0::/jobs/one\n", "jobs/memory.events"),
        ("4:memory:/jobs/one\n", "memory/jobs/one/memory.oom_control"),
        ("0::/host/path/not/mounted/here\n", "memory.events"),
    ],
)
def test_kills_in_a_container_are_seen_wherever_they_are_counted(tmp_path, mounted, file):
    (tmp_path / "cgroup").write_text(mounted)
    counter = tmp_path / "fs" / file
    counter.parent.mkdir(parents=True)
    counter.write_text("under_oom 0\noom_kill 1\n")
    places = (tmp_path / "no vmstat", tmp_path / "cgroup", tmp_path / "fs")
    assert worker_crashes.count_oom_kills(*places) == 1
    vmstat = tmp_path / "memory.events"
    vmstat.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 5\n")
    assert worker_crashes.count_oom_kills(vmstat, tmp_path / "none", tmp_path) == 2
    counter.write_text("under_oom 0\noom_kill 2\n")
    assert worker_crashes.count_oom_kills(*places) == 2


@pytest.mark.parametrize(
    ("terminal", "kernel", "quiet", "expected"),
    [
        (False, None, False, Observer),
        (True, None, False, BarObserver),
        (True, None, True, Observer),
        (False, object(), False, NotebookObserver),
        (False, object(), True, Observer),
    ],
)
def test_a_caller_from_python_sees_progress_in_a_terminal_and_in_a_notebook(
    terminal: bool, kernel: object, quiet: bool, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_notebook(monkeypatch, kernel)
    monkeypatch.setattr(progress, "is_terminal", lambda error=False: terminal)
    with open_default_observer(None, quiet=quiet) as default:
        assert type(default) is expected
    mine = Observer()
    with open_default_observer(mine) as chosen:
        assert chosen is mine
