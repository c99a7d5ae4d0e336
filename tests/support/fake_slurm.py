"""What a job script sees of SLURM: an array's numbers, its limit, the signal before it, requeue.

Nothing is timed: the signal comes when the job has begun its work. ``scontrol`` is a command on the
path of the job, as on a cluster.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

JOB = 100
"""Number of the array; its tasks have the numbers that follow, and the last one this."""


def read_options(script: Path) -> dict[str, str]:
    """The ``#SBATCH --NAME=VALUE`` lines of a script; an option without a value has ""."""
    pairs = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script.read_text("utf-8"), re.MULTILINE)
    return dict(pairs)


@dataclass
class FakeSlurm:
    """A cluster in a folder.

    Attributes:
        folder: of the logs, and of the file ``begun-INDEX`` that a job's work makes.
        path: where the job finds its commands before all others.
        restarts: of each task, by its number in the array.
    """

    folder: Path
    path: Path
    restarts: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scontrol = self.path / "scontrol"
        scontrol.write_text(
            f'#!/bin/sh\n[ "$1" = requeue ] || exit 1\necho "$2" >> "{self.folder}/requeue"\n'
        )
        scontrol.chmod(0o755)

    def sbatch(
        self, script: Path, *arguments: str, signals: int = 0, **environment: str
    ) -> list[int]:
        """Execute the array, one task after the other, and again what is queued again.

        Args:
            signals: how many attempts of each task get the signal of ``--signal``.

        Returns:
            The exit code of the last attempt of each task.
        """
        options = read_options(script)
        first, last = map(int, options["array"].split("-"))
        job = (script, arguments, options, environment)
        array = range(first, last + 1)
        return [self._execute(index, array, signals, *job) for index in array]

    def read_log(self, index: int) -> str:
        """What the attempts of a task have printed."""
        return (self.folder / f"log-{index}").read_text("utf-8")

    def _execute(
        self,
        index: int,
        array: range,
        signals: int,
        script: Path,
        arguments: tuple[str, ...],
        options: dict[str, str],
        environment: dict[str, str],
    ) -> int:
        begun = self.folder / f"begun-{index}"
        job = JOB if index == array[-1] else JOB + 1 + index
        while True:
            restarts = self.restarts.setdefault(index, 0)
            begun.unlink(missing_ok=True)
            own = {
                "PATH": f"{self.path}{os.pathsep}{os.environ['PATH']}",
                "SLURM_JOB_ID": str(job),
                "SLURM_ARRAY_JOB_ID": str(JOB),
                "SLURM_ARRAY_TASK_ID": str(index),
                "SLURM_ARRAY_TASK_COUNT": str(len(array)),
                "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
                "SLURM_TMPDIR": str(self.folder / "scratch of this node"),
                "BEGUN": str(begun),
                **({"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}),
                **environment,
            }
            with (self.folder / f"log-{index}").open("ab") as log:
                process = subprocess.Popen(
                    ["/bin/bash", str(script), *arguments],
                    env={**os.environ, **own},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            if restarts < signals:
                while not begun.exists() and process.poll() is None:
                    time.sleep(0.01)
                target, _, number = options["signal"].partition(":")
                assert (target, number.partition("@")[0]) == ("B", "USR1")
                process.send_signal(signal.SIGUSR1)  # to the shell of the script alone
            code = process.wait(timeout=120)  # a worker that hangs is an error here
            if not self._is_requeued(f"{JOB}_{index}"):
                return code
            self.restarts[index] += 1

    def _is_requeued(self, task: str) -> bool:
        file = self.folder / "requeue"
        tasks = file.read_text().split() if file.exists() else []
        assert set(tasks) <= {task}, "the number of the job alone would queue the whole array again"
        file.unlink(missing_ok=True)
        return bool(tasks)


WORKER = f"""#!{sys.executable}
import json, os, signal, sys
from pathlib import Path

begun, restarts = Path(os.environ["BEGUN"]), os.environ.get("SLURM_RESTART_COUNT", "0")
print(json.dumps(sys.argv[1:]), flush=True)
folder = Path(sys.argv[sys.argv.index("--store") + 1])
(folder / ("attempt-" + restarts)).touch()
checkpoint = begun.with_name("checkpoint-" + os.environ["SLURM_ARRAY_TASK_ID"])
# Held back until it is waited for: one that came just before signal.pause() would be lost.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
if checkpoint.exists():
    print("goes on from", checkpoint.read_text())
begun.touch()
if int(restarts) < int(os.environ.get("INTERRUPTED", "0")):
    signal.sigwait([signal.SIGUSR1])
    checkpoint.write_text(restarts)
    sys.exit(int(os.environ.get("SAVED", "130")))
sys.exit(int(os.environ.get("CODE", "0")))
"""
"""Stands for ``paretune run``: waits for the signal, saves, and goes on when it is started again.
"""
