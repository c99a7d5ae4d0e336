"""Runs a command of a study file: gives it the data, watches it, and reads what it leaves.

The command is a process of its own below a guard (:mod:`paretune.execution.command_guard`), which
ends the whole tree as soon as the worker is gone. Each attempt starts in an empty folder. Of what
it prints only the end is held.
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
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil

from paretune import methods
from paretune.data.columns import parse_number
from paretune.errors import MethodError, ParetuneError
from paretune.execution import command_guard
from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring.devices import read_tree_bytes
from paretune.measuring.machine import describe_environment
from paretune.methods.command import (
    ANSWERS_FILE,
    CommandAnswer,
    CommandOptions,
    build_predictions,
    describe_row,
    read_answers,
    refuse_commands,
)
from paretune.store.record import Claim
from paretune.study import Generation, Run
from paretune.terminal.sanitise import sanitise_line
from paretune.training import Outcome
from paretune.training.caches import UNLABELLED, Parts, ProcessCache
from paretune.training.evaluation.evaluator import (
    prepare_metrics,
    score_segments,
    write_scores,
)
from paretune.training.interruption import defer_interrupts

if TYPE_CHECKING:
    from paretune.data.example import Dataset
    from paretune.objectives import ModelPredictions

RESULT_FILE = "result.json"
TAIL_BYTES = 1 << 14
TAIL_LINES = 10
MAX_LINE = 300
"""Characters of a line of stderr in an error."""
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.05, 1.0
"""Between two looks at the process tree: a hundredth of the time so far, within these."""
END_SECONDS = 30.0
"""For the guard to end the tree, after which it is killed itself."""


@dataclass(frozen=True)
class ProcessUsage:
    """What a command took.

    Attributes:
        peak_bytes: largest sum of the resident sets of its process tree, sampled; at least the
            largest one of a single process.
        gpu_bytes: the same on all GPUs, by NVML; None where that does not tell.
        stderr: the end of what it printed there.
    """

    seconds: float
    peak_bytes: int
    gpu_bytes: int | None
    stderr: str


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
    folder = claim.checkpoint.absolute().with_suffix(".command")
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed
    try:
        out = folder / "out"
        out.mkdir(parents=True)
        examples = {e.uid: e for part in parts.reported for e in parts.named(part)}
        values: dict[str, object] = {"out": out, "seed": run.seed}
        for name, rows in (
            ("train", parts.train),
            ("validation", parts.selection),
            ("test", examples.values()),
        ):
            values[name] = folder / f"{name}.jsonl"
            lines = (describe_row(e, dataset, labelled=name != "test") for e in rows)
            with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
        if run.learning_rate is not None:
            values["learning_rate"] = f"{run.learning_rate:g}"
        if options.reads_model:
            values["model"] = caches.source(run.model).folder
        usage = watch_command(options, values, folder / "peak", settings.device, claim.report)
        try:
            answers = read_answers(out / ANSWERS_FILE, examples, dataset)
            stated = read_result(out / RESULT_FILE)
            outcome = Outcome(result={"notes": [], "steps": 0, "curve": [], "truncated": {}})
            keep_artifact(outcome, stated, out, run, settings.keep_bytes)
        except ParetuneError as error:
            raise MethodError(f"{error}\n{describe_tail(usage.stderr)}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    predictions = _predict_parts(run, answers, parts, dataset, caches)
    write_scores(outcome, run, predictions, parts, dataset, diverged=False, decides=False)
    peak_bytes = usage.peak_bytes if usage.gpu_bytes is None else usage.gpu_bytes
    counter = "resident sets of the process tree" if usage.gpu_bytes is None else "NVML, all GPUs"
    outcome.measured = {
        "wall_seconds": {"train": stated.get("seconds", usage.seconds)},
        "phases": {"train": {"peak_bytes": int(stated.get("peak_bytes", peak_bytes))}},
        "peak_counter": RESULT_FILE if "peak_bytes" in stated else f"{counter}, sampled",
        "environment": describe_environment(settings.device),
    }
    return outcome


def _predict_parts(
    run: Run,
    answers: Mapping[str, CommandAnswer],
    parts: Parts,
    dataset: Dataset,
    caches: ProcessCache,
) -> dict[str, ModelPredictions]:
    """The predictions of each part; of unlabelled rows only where they have scores."""
    objective = dataset.objective
    predictions: dict[str, ModelPredictions] = {}
    scale = objective.fit_target(parts.train)
    for part in parts.reported:
        examples = parts.named(part)
        of_part = [answers[example.uid] for example in examples]
        if part == UNLABELLED and not of_part[0].scores:
            continue
        predictions[part] = build_predictions(of_part, examples, objective, scale)
        if objective.generates:
            scorers = prepare_metrics(run.generation or Generation(), dataset.language, caches)
            texts, references = predictions[part].prediction, objective.references(examples)
            segment = score_segments(scorers, texts, references)
            predictions[part] = replace(predictions[part], segment=segment)
    return predictions


def watch_command(
    options: CommandOptions,
    values: Mapping[str, object],
    peak_file: Path,
    device: str,
    report: Callable[[dict[str, Any]], None],
) -> ProcessUsage:
    """Run a command to its end.

    Args:
        values: of its placeholders.
        peak_file: written by the guard, for what ends between two samples.
        device: of the worker; the command sees no other GPU.
        report: called now and then; what it raises ends the command.

    Raises:
        MethodError: it cannot be started, takes too long, or ends with another code than 0.
    """
    environment, folder = dict(os.environ), Path(options.folder)
    if (index := device.partition("cuda:")[2]) and "CUDA_VISIBLE_DEVICES" not in environment:
        environment["CUDA_VISIBLE_DEVICES"] = index
    if not folder.is_dir():
        raise MethodError("the folder of the command is not here.", where=options.folder)
    started = time.monotonic()
    guard = subprocess.Popen(  # noqa: S603 (never a shell: each word is one argument)
        [sys.executable, "-P", command_guard.__file__, str(peak_file), *options.fill(values)],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches the parent alone, which stops it gently
    )
    tree = _ProcessTree(guard.pid, on_gpu=device.startswith("cuda"))
    code = None
    try:
        printed = [_Tail(stream) for stream in (guard.stdout, guard.stderr) if stream is not None]
        while code is None:
            seconds = time.monotonic() - started
            if options.timeout is not None and seconds > options.timeout:
                break
            tree.sample()
            report({})
            pause = min(MAX_PAUSE_SECONDS, max(MIN_PAUSE_SECONDS, seconds / 100))
            with suppress(subprocess.TimeoutExpired):
                code = guard.wait(pause)
        seconds = time.monotonic() - started
    finally:
        with defer_interrupts():
            _end(guard, tree)
    stderr = printed[1].read()
    if code is None:
        what = f"it had not ended after {options.timeout:g} seconds (timeout)."
        raise MethodError(f"{what}\n{describe_tail(stderr)}")
    if code != 0:
        raise MethodError(f"it {_describe_code(code)}.\n{describe_tail(stderr)}")
    largest = int(peak_file.read_text(encoding="ascii")) if peak_file.exists() else 0
    return ProcessUsage(seconds, max(tree.peak_bytes, largest), tree.gpu_bytes, stderr)


def _end(guard: subprocess.Popen[bytes], tree: _ProcessTree) -> None:
    """Let the guard end the tree, and end what is left if it was killed."""
    if guard.stdin is not None:
        guard.stdin.close()
    try:
        guard.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
    for process in tree.seen:
        with suppress(psutil.NoSuchProcess):
            process.kill()


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


class _Tail:
    """Reads a stream to its end, and holds the last bytes alone."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._content = stream, b""
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while chunk := os.read(self._stream.fileno(), 1 << 16):
            self._content = (self._content + chunk)[-TAIL_BYTES:]

    def read(self) -> str:
        """The end of the stream, after its writers have ended."""
        self._thread.join(END_SECONDS)
        return self._content.decode(errors="replace")


class _ProcessTree:
    """The processes below a guard: their memory, and which there were."""

    def __init__(self, guard: int, *, on_gpu: bool) -> None:
        self._guard, self._on_gpu = psutil.Process(guard), on_gpu
        self.seen: set[psutil.Process] = set()
        self.peak_bytes = 0
        self.gpu_bytes: int | None = None

    def sample(self) -> None:
        """Look at all of them once."""
        resident_bytes, living = 0, list[psutil.Process]()
        with suppress(psutil.NoSuchProcess):
            living = self._guard.children(recursive=True)
        for process in living:
            with suppress(psutil.NoSuchProcess):
                resident_bytes += process.memory_info().rss
        self.seen.update(living)
        self.peak_bytes = max(self.peak_bytes, resident_bytes)
        if self._on_gpu:
            gpu_bytes, _ = read_tree_bytes({process.pid for process in living})
            if gpu_bytes is not None:
                self.gpu_bytes = max(self.gpu_bytes or 0, gpu_bytes)


def read_result(path: Path) -> dict[str, Any]:
    """What a command says of itself: ``seconds``, ``peak_bytes``, ``artifact``; all optional.

    Raises:
        MethodError: the file is no such object.
    """
    if not path.exists():
        return {}
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MethodError(f"{path.name} is not JSON ({error}).") from None
    if not isinstance(stated, dict):
        raise MethodError(f"{path.name} holds no object.")
    for name in ("seconds", "peak_bytes"):
        if name in stated and not (parse_number(stated[name]) or -1) > 0:
            raise MethodError(f"{path.name} has {stated[name]!r} as {name}, no number above 0.")
        if name in stated:
            stated[name] = float(stated[name])
    if not isinstance(stated.get("artifact", ""), str):
        raise MethodError(f"{path.name} has {stated['artifact']!r} as artifact, which is no path.")
    return stated


def keep_artifact(
    outcome: Outcome, stated: Mapping[str, Any], out: Path, run: Run, keep_bytes: int | None
) -> None:
    """Put what a command made into the outcome: its path, and its content where it lies in ``out``.

    A tar takes the place of the weights of other methods, and counts as these do.

    Raises:
        MethodError: it is not there.
    """
    if not (named := stated.get("artifact")):
        return
    path = (out / named).resolve()
    if not path.exists():
        raise MethodError(f"{RESULT_FILE} names the artifact {named}, which is not there.")
    outcome.result["artifact"] = named
    if not path.is_relative_to(out.resolve()):
        return
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    outcome.result["trained_bytes"] = size
    fits = keep_bytes is None or size <= keep_bytes
    if run.stage == "final" and run.rows == 1 and fits:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", dereference=True) as archive:
            archive.add(path, arcname=path.name)
        outcome.blobs["weights"] = content.getvalue()
