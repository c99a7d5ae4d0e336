"""Commands: what they are given, what is read of them, how they fail, and that none outlives us."""

from __future__ import annotations

import io
import json
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from support.command_scripts import FIRST, READ, wait_until
from support.tiny_runs import STUDY
from support.tiny_study import say_numbers
from support.worker_process import until

from paretune import methods
from paretune.errors import MethodError, StudyError
from paretune.execution import command_guard
from paretune.execution.command import ProcessUsage, run_command, watch_command
from paretune.execution.local import WORKER
from paretune.execution.worker_settings import WorkerSettings
from paretune.methods.command import CommandOptions
from paretune.preparation import ProcessCache
from paretune.store import Claim, Store
from paretune.study import UNNAMED_MODEL, MethodSpec, ModelSpec, Run, TaskSpec
from paretune.testing.tiny_tasks import KINDS, tiny_task
from paretune.training import Outcome
from paretune.training.trainer import train_run

ALLOWED = WorkerSettings(allow_commands=True)
NAMED = "{train} {validation} {test} {out}"


def make_run(folder: Path, script: str, *, task: TaskSpec | None = None, **changes: Any) -> Run:
    """A final run of a script."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.py").write_text(READ + script, encoding="utf-8")
    options = changes.pop("options", {})
    words = f"{shlex.quote(sys.executable)} script.py {NAMED}"
    method = {"name": "command", "run": words, "folder": str(folder), **options}
    return Run(
        **{
            "stage": "final",
            "task": task or tiny_task(folder / "data"),
            "model": UNNAMED_MODEL,
            "method": MethodSpec.model_validate(method),
            "learning_rate": None,
            "seed": 1,
            **changes,
        }
    )


def start(run: Run, folder: Path, settings: WorkerSettings = ALLOWED) -> Outcome:
    """Run it in this process; nothing of it is left in the folder of the checkpoint."""
    checkpoint = folder / "checkpoints" / "x.safetensors"
    try:
        return run_command(Claim(run, checkpoint), ProcessCache(), settings)
    finally:
        assert not checkpoint.parent.exists() or list(checkpoint.parent.iterdir()) == []


def read_error(run: Run, folder: Path) -> str:
    with pytest.raises(MethodError) as caught:
        start(run, folder)
    return str(caught.value)


def test_the_most_frequent_label_scores_as_the_baseline(tmp_path: Path) -> None:
    script = "import collections\nmost = collections.Counter(sorted(labels)).most_common(1)[0][0]\n"
    script += "answer([{'id': i, 'prediction': most} for i in ids])"
    run = make_run(tmp_path, script)
    scored = start(run, tmp_path)
    changes = {"method": MethodSpec(name="majority"), "model": ModelSpec(name="-")}
    baseline = train_run(run.model_copy(update=changes), checkpoint=tmp_path / "none")
    assert scored.result["outcome"] == baseline.result["outcome"] == "collapsed"
    for part, scores in scored.result["scores"].items():
        expected = {k: v for k, v in baseline.result["scores"][part].items() if k != "loss"}
        assert scores == expected
    assert scored.measured["wall_seconds"]["train"] > 0
    assert scored.measured["phases"]["train"]["peak_bytes"] > 2**20


@pytest.mark.parametrize("kind", [*KINDS, "instruction"])
def test_every_kind_is_answered(kind: str, tmp_path: Path) -> None:
    task = say_numbers(tmp_path) if kind == "instruction" else tiny_task(tmp_path / "data", kind)
    script = FIRST
    if kind == "token_classification":
        script = "answer([{'id': r['id'], 'prediction': ['O'] * len(r['text'].split(' '))}"
        script += " for r in read(test)])"
    outcome = start(make_run(tmp_path, script, task=task), tmp_path)
    assert set(outcome.result["scores"]) == {"selection", "test"}
    assert outcome.result["scores"]["test"]["n"] > 0 and "predictions" in outcome.blobs


def test_scores_give_a_loss(tmp_path: Path) -> None:
    script = "names = sorted(set(labels))\nanswer([{'id': i, 'prediction': names[0], 'scores': "
    script += "{name: -float(place) for place, name in enumerate(names)}} for i in ids])"
    outcome = start(make_run(tmp_path, script), tmp_path)
    assert outcome.result["scores"]["test"]["loss"] > 0


def test_the_test_file_has_no_label_and_the_parts_share_no_row(tmp_path: Path) -> None:
    script = "import shutil\n[shutil.copy(path, '.') for path in (train, validation, test)]\n"
    start(make_run(tmp_path, script + FIRST), tmp_path)
    train, validation, test = (
        [json.loads(line) for line in (tmp_path / f"{part}.jsonl").read_text().splitlines()]
        for part in ("train", "validation", "test")
    )
    assert all(set(row) == {"id", "text"} for row in test)
    assert all(set(row) == {"id", "text", "label"} for row in [*train, *validation])
    of_train, answered = {row["id"] for row in train}, {row["id"] for row in test}
    assert not of_train & answered and {row["id"] for row in validation} < answered


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "sys.exit('no such flag')",
            "it ended with exit code 1.\nIts stderr ends with:\n  no such",
        ),
        ("os.kill(os.getpid(), 9)", "it was ended by SIGKILL.\nIt printed nothing to stderr."),
        ("print('why', file=sys.stderr)", "it left no predictions.jsonl in {out}.\nIts stderr"),
        ("ids.pop(); " + FIRST, "predictions.jsonl lacks 1 of 20 rows: test:11."),
        ("ids *= 2; " + FIRST, 'line 21: answers "train:'),
        ("ids.append('x'); " + FIRST, 'answers "x", which is no id of the test file.'),
        ("labels[0] = 'z'; " + FIRST, "line 1: predicts 'z', which is none of the labels a, b, c."),
        ("labels[0] = float('nan'); " + FIRST, "line 1: holds NaN, which JSON does not know."),
        ("labels[0] = None; " + FIRST, "predicts None, which is none of the labels"),
        ("pathlib.Path(out, 'predictions.jsonl').write_text('{')", "line 1: is not JSON"),
        (
            "answer([{'id': i, 'prediction': 'a', 'scores': {'a': 1}} for i in ids])",
            "has scores of other labels than a, b, c.",
        ),
        (FIRST + "\npathlib.Path(out, 'result.json').write_text('[]')", "holds no object."),
        (
            FIRST + "\npathlib.Path(out, 'result.json').write_text('{\"seconds\": -1}')",
            "result.json, seconds: -1 is not above 0.",
        ),
        (
            FIRST + "\npathlib.Path(out, 'result.json').write_text('{\"artifact\": \"m\"}')",
            "result.json names the artifact m, which is not there.",
        ),
    ],
)
def test_failures_are_told(script: str, message: str, tmp_path: Path) -> None:
    assert message in read_error(make_run(tmp_path, script), tmp_path)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    task = tiny_task(tmp_path / "data", "regression")
    script = "labels[0] = 'nan'\n" + FIRST
    message = read_error(make_run(tmp_path, script, task=task), tmp_path)
    assert "line 1: predicts 'nan', which is no finite number." in message


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    run = make_run(tmp_path, "", options={"run": f"./absent {NAMED}"})
    message = read_error(run, tmp_path)
    assert message.startswith("it could not be started (exit code 127).")
    assert "./absent: No such file or directory" in message


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    script = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                         start_new_session=True)
pathlib.Path("pids").write_text(f"{os.getpid()} {child.pid}")
print("waiting", file=sys.stderr, flush=True)
time.sleep(60)
"""
    started = time.monotonic()
    message = read_error(make_run(tmp_path, script, options={"timeout": 1}), tmp_path)
    assert "it had not ended after 1 seconds (timeout).\nIts stderr ends with:\n  wai" in message
    assert time.monotonic() - started < 30
    assert not any(map(psutil.pid_exists, map(int, (tmp_path / "pids").read_text().split())))


def test_what_a_command_leaves_running_is_ended(tmp_path: Path) -> None:
    script = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                         start_new_session=True)
pathlib.Path("pids").write_text(str(child.pid))
"""
    start(make_run(tmp_path, script + FIRST), tmp_path)
    assert not psutil.pid_exists(int((tmp_path / "pids").read_text()))


def test_output_without_end_is_read_and_dropped(tmp_path: Path) -> None:
    script = """
for _ in range(200):
    sys.stderr.write("x" * (1 << 20))
    sys.stdout.write("y" * (1 << 20))
sys.exit("\\n" + "\\x1b[31mthe end")
"""
    before = psutil.Process().memory_info().rss
    message = read_error(make_run(tmp_path, script), tmp_path)
    assert message.endswith("the end") and "\x1b" not in message and len(message) < 4000
    assert psutil.Process().memory_info().rss - before < 100 << 20


def test_signs_in_paths_are_no_shell(tmp_path: Path) -> None:
    folder = tmp_path / """a "b' ; touch $(touch pwned) `touch pwned` {seed} &"""
    outcome = start(make_run(folder, FIRST), folder)
    assert "test" in outcome.result["scores"]
    run = make_run(folder, FIRST, options={"run": f"{sys.executable} script.py {NAMED} ; touch x"})
    start(run, folder)  # further arguments of the script
    assert not list(tmp_path.rglob("pwned")) and not list(tmp_path.rglob("x"))


def test_what_it_makes_is_kept_as_it_was(tmp_path: Path) -> None:
    script = "os.mkdir(out + '/m')\npathlib.Path(out, 'm', 'weights').write_text('w' * 100)\n"
    script += "pathlib.Path(out, 'result.json').write_text("
    script += "json.dumps({'artifact': 'm', 'seconds': 3.5, 'peak_bytes': 1000}))\n"
    run = make_run(tmp_path, script + FIRST)
    outcome = start(run, tmp_path)
    assert outcome.measured["wall_seconds"] == {"train": 3.5}
    assert outcome.measured["phases"] == {"train": {"peak_bytes": 1000}}
    assert (outcome.result["artifact"], outcome.result["trained_bytes"]) == ("m", 100)
    with tarfile.open(fileobj=io.BytesIO(outcome.blobs["weights"])) as archive:
        archive.extractall(tmp_path / "again", filter="data")
    assert (tmp_path / "again" / "m" / "weights").read_text() == "w" * 100
    too_large = start(run, tmp_path, WorkerSettings(allow_commands=True, keep_bytes=99))
    assert too_large.result["artifact"] == "m" and "weights" not in too_large.blobs


def test_it_is_not_started_without_leave(tmp_path: Path) -> None:
    run = make_run(tmp_path, "pathlib.Path('started').touch()\n" + FIRST)
    with pytest.raises(StudyError, match="the study starts commands"):
        start(run, tmp_path, WorkerSettings())
    with pytest.raises(MethodError, match="answers the rows of its study alone"):
        train_run(run, checkpoint=tmp_path / "none")
    assert not (tmp_path / "started").exists()


def test_a_rate_is_given_where_it_is_named(tmp_path: Path) -> None:
    words = f"{sys.executable} script.py {NAMED} {{learning_rate}} {{seed}}"
    script = "assert sys.argv[5:] == ['0.001', '1'], sys.argv\n" + FIRST
    run = make_run(tmp_path, script, options={"run": words}, learning_rate=1e-3)
    assert start(run, tmp_path).result["scores"]


WAITS = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"],
                         start_new_session=True)
again = pathlib.Path("pids").exists()
pathlib.Path("pids.part").write_text(f"{os.getpid()} {child.pid} {os.getppid()}")
os.rename("pids.part", "pids")
assert os.listdir(out) == []
pathlib.Path(out, "half").touch()
time.sleep(0 if again else 100)
"""


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_worker_that_dies_leaves_no_process_and_its_run_is_done_again(
    number: int, tmp_path: Path
) -> None:
    run = make_run(tmp_path, WAITS + FIRST)
    with Store.open(tmp_path / "store", create=True) as store:
        store.save_study(STUDY, "s", "", {})
        store.add_runs(STUDY, [("r", run)])
        settings = WorkerSettings(allow_commands=True, lease_seconds=0.6).to_json()
        words = [*WORKER, str(tmp_path / "store"), STUDY, settings]
        worker = subprocess.Popen(words, start_new_session=True)
        pids = wait_for_pids(tmp_path / "pids")
        worker.send_signal(number)
        worker.wait()
        wait_until(lambda: not any(map(psutil.pid_exists, pids)))
        until(store, lambda states: states[0].is_claimable)
        assert subprocess.run(words, check=False).returncode == 0
        (status,) = store.load_statuses(STUDY)
        assert (status.state, status.outcome, status.attempt) == ("done", "collapsed", 2)
        assert list((tmp_path / "store" / "checkpoints").iterdir()) == []


def test_a_guard_that_is_killed_takes_the_command_with_it(tmp_path: Path) -> None:
    words = [sys.executable, "-P", command_guard.__file__]
    script = "import sys, time; sys.stderr.write('1\\n'); sys.stderr.flush(); time.sleep(100)"
    guard = subprocess.Popen(
        [*words, sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert guard.stderr is not None and guard.stderr.readline() == b"1\n"
    (child,) = psutil.Process(guard.pid).children()
    guard.kill()
    guard.communicate()
    if sys.platform == "linux":
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def wait_for_pids(file: Path) -> list[int]:
    wait_until(file.exists)
    return [int(pid) for pid in file.read_text().split()]


def test_only_files_that_the_words_name_tell_runs_apart(tmp_path: Path) -> None:
    run, caches = make_run(tmp_path, FIRST), ProcessCache()
    first = caches.identify(run)

    def identify(**options: Any) -> str:
        changed = run.method.model_copy(update=options)
        return caches.identify(run.model_copy(update={"method": changed}))

    assert identify(timeout=5.0) == first and identify(version=2) != first
    assert identify(run=f"{run.method.options['run']} --fast") != first
    (tmp_path / "script.py").write_text(READ + "pass", encoding="utf-8")
    assert caches.identify(run) != first


def watch_on_gpu(run: Run) -> ProcessUsage:
    options: CommandOptions = methods.configure(run.method).options
    folder = Path(options.folder)
    values = {name: folder / name for name in ("train", "validation", "test", "out")}
    return watch_command(options, values, "cuda:0", lambda progress: None)


def fake_nvml(list_processes: Callable[[int], list[tuple[int, int | None]]]) -> SimpleNamespace:
    """Two cards, whose processes have bytes or None."""
    return SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetComputeRunningProcesses=lambda card: [
            SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in list_processes(card)
        ],
    )


def test_the_peak_on_gpus_is_that_of_the_whole_tree_on_all_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """
import pathlib, subprocess, sys, time
child = "import pathlib, time\\nwhile not pathlib.Path('seen').exists(): time.sleep(0.01)"
subprocess.run([sys.executable, "-c", child], check=True)
"""
    run = make_run(tmp_path, "")
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    looks: list[int] = []

    def list_processes(card: int) -> list[tuple[int, int | None]]:
        below = psutil.Process().children(recursive=True)
        if card == 1 and len(below) > 2:  # the guard, the command and its child
            looks.append(len(below))
        if len(looks) > 1:  # the child was there before the last look began
            (tmp_path / "seen").touch()
        return [*((process.pid, 1000) for process in below), (1, 10**9)]

    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(list_processes))
    usage = watch_on_gpu(run)
    assert usage.peak_bytes == usage.gpu_bytes == 4000  # two processes on two cards
    assert usage.peak_counter == "NVML, sampled"


def test_one_process_that_is_not_told_makes_the_sum_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = psutil.Process().pid
    sizes: list[int | None] = [700]
    usage = ProcessUsage(tree_bytes=5)
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: [psutil.Process()])
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(lambda card: [(here, sizes[0])]))
    usage.sample(here, on_gpu=True)
    assert (usage.peak_bytes, usage.peak_counter) == (1400, "NVML, sampled")
    for sizes[0] in (None, 700):
        usage.sample(here, on_gpu=True)
        assert usage.peak_bytes == usage.tree_bytes > 5
        assert "memory on the GPU is not known: NVML does not tell" in usage.peak_counter


def test_memory_on_a_gpu_that_nobody_tells_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    run = make_run(tmp_path, "")
    (tmp_path / "script.py").write_text("", encoding="utf-8")
    usage = watch_on_gpu(run)
    assert usage.gpu_bytes is None and usage.peak_bytes == usage.tree_bytes > 0
    assert "memory on the GPU is not known" in usage.peak_counter
    assert "nvidia-ml-py" in usage.peak_counter


@pytest.mark.parametrize(("platform", "tells"), [("win32", False), ("darwin", True)])
def test_the_guard_needs_nothing_of_linux(platform: str, tells: bool, tmp_path: Path) -> None:
    folder = Path(command_guard.__file__).parent
    words = [sys.executable, "-c", "import sys; sys.exit(7)"]
    script = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import command_guard\n"
        f"command_guard._LIBC, sys.platform = None, {platform!r}\n"
        f"sys.exit(command_guard.main({words!r}))"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as guard:
        assert guard.stdout is not None and guard.stderr is not None
        peak_text = guard.stdout.read()  # its standard input is open meanwhile
        assert guard.wait() == 7 and not guard.stderr.read()
    assert peak_text.isdigit() if tells else not peak_text
