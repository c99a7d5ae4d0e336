"""Runs that are measured alone, each in a process of its own that has seen no other run.

Starting a process costs seconds, nearly all for importing libraries. So one process imports them,
touches nothing else, and is copied (``fork``) for every run: what a copy does is gone with it. The
copies begin with the same memory as a process that was started, since peaks count from after the
imports anyway (:mod:`paretune.measuring.memory`). Only on Linux and a CPU: elsewhere a library that
was imported may not be copied, and every run has a process that is started.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable

from paretune.execution.signals import StopRequest

POLL_SECONDS = 0.02
PRELOADED_MODULES = (
    "paretune.execution.costs.cost_probe",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.modeling_utils",
    "transformers.tokenization_utils_tokenizers",
    "sklearn.model_selection",
)
"""What most probes import, none of which starts a thread or computes anything."""


def can_fork(device: str) -> bool:
    """Whether processes can be copied here."""
    return sys.platform == "linux" and device == "cpu"


def run_each_in_fork(
    waiting: Callable[[], bool],
    execute_one: Callable[[], int],
    stop: StopRequest,
    parent: int | None,
) -> int:
    """Execute one run after another, each in a copy of this process.

    A copy that is killed takes this process with it, by the same signal, so whoever watches it sees
    what happened.

    Args:
        waiting: whether there is a run to execute; leaves nothing open.
        execute_one: executes one run, in the copy, and gives its exit code.
        stop: told to stop; the copy is then told too.
        parent: end when this is no longer the parent.

    Returns:
        The exit code: 0 when no run was waiting, that of a copy that failed, or 130.
    """
    for name in PRELOADED_MODULES:
        try:
            importlib.import_module(name)
        except ImportError:  # another version of the library has it elsewhere: copies find it
            continue
    while not stop.asked and waiting():
        copy = os.fork()
        if copy == 0:
            code = 1
            try:
                code = execute_one()
            finally:
                os._exit(code)
        status = _wait_for_child(copy, stop, parent)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number != signal.SIGKILL:  # which has no handler
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if os.waitstatus_to_exitcode(status) != 0:
            return os.waitstatus_to_exitcode(status)
    return 130 if stop.asked else 0


def _wait_for_child(copy: int, stop: StopRequest, parent: int | None) -> int:
    """Wait for the copy; it is told to stop where this process is, or has lost its parent."""
    told = False
    while True:
        pid, status = os.waitpid(copy, os.WNOHANG)
        if pid:
            return status
        orphaned = parent is not None and os.getppid() != parent
        if (stop.asked or orphaned) and not told:
            stop.asked = told = True
            os.kill(copy, signal.SIGTERM)
        time.sleep(POLL_SECONDS)
