"""Runs a command of a study file: gives it the data, watches it, and reads what it leaves.

The command is a process of its own below a guard (:mod:`paretune.execution.command_guard`), which
ends the whole tree as soon as the worker is gone. Each attempt starts in an empty folder. Only the
end of its output is held.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil
from pydantic import Field

from paretune import methods
from paretune.errors import MethodError, ParetuneError
from paretune.execution import command_guard
from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring.devices import BYTES_NOT_TOLD, read_tree_bytes
from paretune.measuring.machine import describe_environment
from paretune.methods.command import (
    ANSWERS_FILE,
    CommandOptions,
    build_predictions,
    describe_row,
    name_row,
    read_answers,
    refuse_commands,
)
from paretune.methods.core.options import parse_options
from paretune.preparation import ProcessCache
from paretune.store.record import Claim
from paretune.study import Run
from paretune.study.specs import FrozenModel
from paretune.terminal.sanitise import sanitise_line
from paretune.training import Outcome
from paretune.training.evaluation.evaluator import score_answers
from paretune.training.interruption import defer_interrupts

if TYPE_CHECKING:
    from paretune.objectives import ModelPredictions
    from paretune.objectives.example import Example

RESULT_FILE = "result.json"
TAIL_BYTES = 1 << 14
TAIL_LINES = 10
MAX_LINE = 300
"""Characters of a line of stderr in an error."""
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.05, 1.0
"""Between two looks at the process tree: a hundredth of the time so far, within these."""
END_SECONDS = 30.0
"""The guard has this time to end the tree; then it is killed itself."""


class CommandResult(FrozenModel):
    """Facts that a command may state about itself in :data:`RESULT_FILE`."""

    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    peak_bytes: int | None = Field(default=None, gt=0)
    artifact: str | None = Field(default=None, min_length=1)


def run_command(claim: Claim, caches: ProcessCache, settings: WorkerSettings) -> Outcome:
    """Start the command of a run in an empty folder, and score what it answers.

    Args:
        claim: its ``report`` is called while the command works.

    Raises:
        StudyError: commands are not allowed.
        MethodError: the command failed, or its answers cannot be used; with the end of its stderr.
    """
    run = claim.run
    refuse_commands([run.method], allowed=settings.allow_commands)
    options: CommandOptions = methods.configure(run.method).options
    dataset, parts = caches.dataset(run.task), caches.parts(run)
    examples = {name_row(e, dataset): e for part in parts.reported for e in parts.named(part)}
    values: dict[str, object] = {"seed": run.seed}
    if run.learning_rate is not None:
        values["learning_rate"] = f"{run.learning_rate:g}"
    if options.names("model"):
        values["model"] = caches.source(run.model).folder
    outcome = Outcome(result={"notes": [], "steps": 0, "curve": [], "truncated": {}})
    folder = claim.checkpoint.absolute().with_suffix(".command")
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed
    try:
        out = values["out"] = folder / "out"
        out.mkdir(parents=True)
        rows = {"train": parts.train, "validation": parts.selection, "test": examples.values()}
        for part, of_part in rows.items():
            path = values[part] = folder / f"{part}.jsonl"
            with path.open("w", encoding="utf-8") as file:
                for example in of_part:
                    row = describe_row(example, dataset, labelled=part != "test")
                    file.write(f"{json.dumps(row, ensure_ascii=False)}\n")
        usage = watch_command(options, values, settings.device, claim.report)
        try:
            answers = read_answers(out / ANSWERS_FILE, examples, dataset)
            stated = read_result(out / RESULT_FILE)
            if stated.artifact is not None:
                keep_artifact(outcome, stated.artifact, out, run, settings.keep_bytes)
        except ParetuneError as error:
            raise MethodError(f"{error}\n{describe_tail(usage.stderr)}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    scale = dataset.objective.fit_target(parts.train)

    def predict(rows: Sequence[Example]) -> ModelPredictions:
        answered = [answers[name_row(example, dataset)] for example in rows]
        return build_predictions(answered, rows, dataset.objective, scale)

    score_answers(outcome, run, predict, parts, caches, decides=False)
    outcome.measured = {
        "wall_seconds": {"train": stated.seconds or usage.seconds},
        "phases": {"train": {"peak_bytes": stated.peak_bytes or usage.peak_bytes}},
        "peak_counter": RESULT_FILE if stated.peak_bytes else usage.peak_counter,
        "environment": describe_environment(settings.device),
    }
    return outcome


@dataclass
class ProcessUsage:
    """Memory and time of the processes below a guard, and the end of their output.

    Attributes:
        tree_bytes: largest sum of their resident sets, sampled; at least the largest one of a
            single process.
        gpu_bytes: largest sum of their memory on all GPUs, by NVML; None where it told none.
        gpu_reason: why that is not known, on a worker with a GPU.
        seen: all processes that were seen.
    """

    seconds: float = 0.0
    tree_bytes: int = 0
    gpu_bytes: int | None = None
    gpu_reason: str = ""
    stderr: str = ""
    seen: set[psutil.Process] = field(default_factory=set)

    @property
    def peak_bytes(self) -> int:
        """The peak on GPUs where any of them was used, otherwise that of the process tree."""
        return self.tree_bytes if self.gpu_bytes is None or self.gpu_reason else self.gpu_bytes

    @property
    def peak_counter(self) -> str:
        """The counter of the peak."""
        if self.gpu_bytes is not None and not self.gpu_reason:
            return "NVML, sampled"
        unknown = f"; memory on the GPU is not known: {self.gpu_reason}" if self.gpu_reason else ""
        return f"resident sets of the process tree, sampled{unknown}"

    def sample(self, guard: int, *, on_gpu: bool) -> None:
        """Look at all of them once."""
        resident_bytes, living = 0, list[psutil.Process]()
        with suppress(psutil.NoSuchProcess):
            living = psutil.Process(guard).children(recursive=True)
        for process in living:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                resident_bytes += process.memory_info().rss
        self.seen.update(living)
        self.tree_bytes = max(self.tree_bytes, resident_bytes)
        # Once a process was not told, the sums of other looks may be too low.
        if on_gpu and self.gpu_reason != BYTES_NOT_TOLD:
            gpu_bytes, reason = read_tree_bytes({process.pid for process in living})
            if gpu_bytes is not None:
                self.gpu_bytes = max(self.gpu_bytes or 0, gpu_bytes)
            if self.gpu_bytes is None or reason in ("", BYTES_NOT_TOLD):
                self.gpu_reason = reason


def watch_command(
    options: CommandOptions,
    values: Mapping[str, object],
    device: str,
    report: Callable[[dict[str, Any]], None],
) -> ProcessUsage:
    """Run a command to its end.

    Args:
        values: of its placeholders.
        device: of the worker; the command sees no other GPU.
        report: called now and then; what it raises ends the command.

    Raises:
        MethodError: it cannot be started, takes too long, or ends with another code than 0.
    """
    environment = dict(os.environ)
    if index := device.partition("cuda:")[2]:
        environment.setdefault("CUDA_VISIBLE_DEVICES", index)
    if not Path(options.folder).is_dir():
        raise MethodError("the folder of the command is not here.", where=options.folder)
    usage = ProcessUsage()
    started = time.monotonic()
    code = None
    guard = subprocess.Popen(  # noqa: S603 (never a shell: each word is one argument)
        [sys.executable, "-P", command_guard.__file__, *options.fill(values)],
        cwd=options.folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches the parent alone, which stops it gently
    )
    tail = bytearray()
    reader = threading.Thread(target=_hold_end, args=(guard.stderr, tail), daemon=True)
    try:
        reader.start()
        while code is None:
            usage.seconds = time.monotonic() - started
            if options.timeout is not None and usage.seconds > options.timeout:
                break
            usage.sample(guard.pid, on_gpu=device.startswith("cuda"))
            report({})
            pause = min(MAX_PAUSE_SECONDS, max(MIN_PAUSE_SECONDS, usage.seconds / 100))
            with suppress(subprocess.TimeoutExpired):
                code = guard.wait(pause)
    finally:
        with defer_interrupts():
            largest = _end(guard, usage.seen)
    reader.join(END_SECONDS)
    usage.seconds = time.monotonic() - started
    usage.tree_bytes = max(usage.tree_bytes, largest)
    usage.stderr = tail.decode(errors="replace")
    if code != 0:
        what = f"it had not ended after {options.timeout or 0:g} seconds (timeout)"
        what = what if code is None else f"it {_describe_code(code)}"
        raise MethodError(f"{what}.\n{describe_tail(usage.stderr)}")
    return usage


def _hold_end(stream: IO[bytes], tail: bytearray) -> None:
    """Read a stream to its end; only its last bytes are held."""
    while chunk := os.read(stream.fileno(), 1 << 16):
        tail += chunk
        del tail[:-TAIL_BYTES]


def _end(guard: subprocess.Popen[bytes], seen: Iterable[psutil.Process]) -> int:
    """Let the guard end the tree, and end what is left if it was killed.

    Returns:
        Bytes of the largest process, as far as the guard could tell.
    """
    assert guard.stdin is not None and guard.stdout is not None  # noqa: S101  (both are pipes)
    guard.stdin.close()
    try:
        guard.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
    for process in seen:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
    return int(guard.stdout.read() or 0)


def _describe_code(code: int) -> str:
    if code == command_guard.CANNOT_START:
        return f"could not be started (exit code {code})"
    number = -code if code < 0 else code - 128
    if 0 < number < signal.NSIG:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(number).name}"
    return f"ended with exit code {code}"


def describe_tail(stderr: str) -> str:
    """The last lines of what a command printed to stderr, for an error."""
    lines = [sanitise_line(line.rstrip()) for line in stderr.splitlines() if line.strip()]
    if not lines:
        return "It printed nothing to stderr."
    tail = (line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} ..." for line in lines)
    return "\n  ".join(["Its stderr ends with:", *[*tail][-TAIL_LINES:]])


def read_result(path: Path) -> CommandResult:
    """Read what a command states about itself, if it wrote a file.

    Raises:
        MethodError: it is no JSON object, or has other keys or values.
    """
    try:
        stated = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise MethodError(f"{path.name} is not JSON ({error}).") from None
    if not isinstance(stated, dict):
        raise MethodError(f"{path.name} holds no object.")
    return parse_options(
        "command",
        CommandResult,
        stated,
        lambda keys, words: ", ".join((path.name, *map(str, keys))),
    )


def keep_artifact(
    outcome: Outcome, artifact: str, out: Path, run: Run, keep_bytes: int | None
) -> None:
    """Put what a command made into the outcome: its path, and its content where it lies in ``out``.

    A tar takes the place of the weights of other methods, and counts as these do.

    Raises:
        MethodError: it is not there.
    """
    path = (out / artifact).resolve()
    if not path.exists():
        raise MethodError(f"{RESULT_FILE} names the artifact {artifact}, which is not there.")
    outcome.result["artifact"] = artifact
    if not path.is_relative_to(out.resolve()):
        return
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = outcome.result["trained_bytes"] = sum(file.stat().st_size for file in files)
    fits = keep_bytes is None or size <= keep_bytes
    if run.stage == "final" and run.rows == 1 and fits:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", dereference=True) as archive:
            archive.add(path, arcname=path.name)
        outcome.blobs["weights"] = content.getvalue()
