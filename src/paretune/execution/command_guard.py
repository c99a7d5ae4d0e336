"""Starts a command and ends its whole process tree when standard input closes. No package is needed
beside psutil: this file is started as a script.

``python command_guard.py WORD...``: whoever started it holds the other end of its
standard input, which closes when that process ends, however it ends. On Linux processes that leave
the tree come back to this one (``PR_SET_CHILD_SUBREAPER``), and the command is killed if this one
is. It prints the largest resident set of a single process of the tree, in bytes, and nothing
that the command prints to standard output.
Its exit code is the command's, 128 and the signal that ended it, or 127 if it cannot be started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import psutil

if sys.platform != "win32":
    import resource

GRACE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL."""
POLL_SECONDS = 0.02
CANNOT_START = 127
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def main(words: Sequence[str]) -> int:
    """Run the command to its end; what it leaves running is ended then."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        command = subprocess.Popen(  # noqa: S603 (what a study names, once the user allowed it)
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent if _LIBC is not None else None,
        )
    except OSError as error:
        sys.stderr.write(f"{words[0]}: {error.strerror}\n")
        return CANNOT_START
    threading.Thread(target=end_when_closed, daemon=True).start()
    code = command.wait()
    end_tree()
    tell_peak()
    return code if code >= 0 else 128 - code


def die_with_parent() -> None:
    """In the child, before it becomes the command."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def end_when_closed() -> None:
    """Wait until nobody holds the other end of standard input, and end everything."""
    while os.read(0, 1):
        pass
    end_tree()
    os._exit(CANNOT_START)


def end_tree() -> None:
    """End all processes below this one: first asked, then killed."""
    here, started = psutil.Process(), time.monotonic()
    terminated: set[psutil.Process] = set()
    while living := here.children(recursive=True):
        kills = time.monotonic() - started > GRACE_SECONDS
        for process in living:
            with suppress(psutil.NoSuchProcess):
                if kills:
                    process.kill()
                elif process not in terminated:
                    process.terminate()
        terminated.update(living)
        time.sleep(POLL_SECONDS)
        if sys.platform != "win32":
            with suppress(ChildProcessError):  # none is left that waits to be asked how it ended
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def tell_peak() -> None:
    """Print the largest resident set of one ended process, where the system tells it."""
    if sys.platform != "win32":
        units = 1 if sys.platform == "darwin" else 1024
        sys.stdout.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * units))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
