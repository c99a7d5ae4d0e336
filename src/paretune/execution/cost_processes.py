"""Costs are measured one at a time, each in a process that has executed no other run.

**One at a time.** The claim of a cost ends when its owner is gone, and a copy that measures may
live a moment longer; and where several processes execute one study, each starts a worker for the
next cost, whose imports would run beside the measurement. So such a worker waits for a lock before
it imports anything. The lock is held by the open file: by the worker and by every copy of it, until
the last of them has ended.

**In a process of its own.** Starting a process costs seconds, nearly all for importing libraries.
So one process imports them, touches nothing else, and is forked for every run. The children begin
with the same memory as a process that was started, since peaks count from after the imports anyway
(:mod:`paretune.measuring.memory`). Only on Linux and a CPU: elsewhere a process with these
libraries may not be forked, and every run has a process that is started.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from paretune.errors import StoreError
from paretune.execution.signals import StopRequest

LOCK_POLL_SECONDS = 0.05
CHILD_POLL_SECONDS = 0.02
SET_PARENT_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of Linux."""
PRELOADED_MODULES = (
    "paretune.execution.cost_probe",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.modeling_utils",
    "transformers.tokenization_utils_tokenizers",
    "sklearn.model_selection",
)
"""What most measurements import; none of these starts a thread or computes anything."""


@contextmanager
def hold_cost_lock(store: Path, stop: StopRequest) -> Iterator[None]:
    """Hold the lock of a store's folder; not where a stop was requested while waiting for it.

    Raises:
        StoreError: the file system has no locks.
    """
    if sys.platform == "win32":  # no copies there; the claims alone keep workers apart
        yield
        return
    import fcntl

    descriptor = os.open(store / "checkpoints", os.O_RDONLY)
    try:
        while not stop.requested:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(LOCK_POLL_SECONDS)
            except OSError as error:
                raise StoreError(
                    f"the file system cannot lock ({error.strerror or error}).",
                    where=str(store),
                    remedy="Move the store to a local disk.",
                ) from error
        yield
    finally:
        os.close(descriptor)


def can_fork(device: str) -> bool:
    """Whether a process with the libraries loaded can be forked here."""
    return sys.platform == "linux" and device == "cpu"


def run_each_in_fork(
    has_run: Callable[[], bool],
    execute_one: Callable[[], int],
    stop: StopRequest,
) -> int:
    """Execute one run after another, each in a fork of this process, which ends with it.

    A child that is killed takes this process with it, by the same signal, so that the parent sees
    what happened.

    Args:
        has_run: whether there is a run to execute; leaves nothing open.
        execute_one: executes one run, in the child; returns its exit code.
        stop: ends the loop; it is passed on to the child.

    Returns:
        The exit code: 0 when no run was left, that of a child that failed, or 130.
    """
    imported, server = False, os.getpid()
    while not stop.requested and has_run():
        if not imported:
            for name in PRELOADED_MODULES:
                # Another version of the library may have it elsewhere: children find it.
                with suppress(ImportError):
                    importlib.import_module(name)
            # A full collection looks at every object of these libraries, half a second each time,
            # and a child asks for one before each phase. What is here now is in its baseline.
            gc.collect()
            gc.freeze()
            imported = True
        child = os.fork()
        if child == 0:
            code = 1
            try:
                # The kernel kills this process as soon as its parent is gone: its claim ends too.
                ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != server:  # it had gone before
                    os.kill(os.getpid(), signal.SIGKILL)
                code = execute_one()
            finally:
                os._exit(code)
        status = _wait_for_child(child, stop)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number != signal.SIGKILL:  # which has no handler
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if os.waitstatus_to_exitcode(status) != 0:
            return os.waitstatus_to_exitcode(status)
    return 130 if stop.requested else 0


def _wait_for_child(child: int, stop: StopRequest) -> int:
    """Wait for the child; terminate it where this process is stopped."""
    terminated = False
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        if stop.requested and not terminated:
            terminated = True
            os.kill(child, signal.SIGTERM)
        time.sleep(CHILD_POLL_SECONDS)
