"""Windows and macOS lack modules and names that Linux has: nothing needs them to be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import psutil
import pytest

from paretune import owner
from paretune.execution import signals

HIDE = """
import builtins, importlib, os, pkgutil, signal, sys
import {libraries}

absent = {{"fcntl", "resource", "termios", "pwd", "grp", "posix", "tty", "pty"}}
real = builtins.__import__

def hidden(name, globals=None, locals=None, fromlist=(), level=0):
    ours = str((globals or {{}}).get("__name__", "")).startswith("paretune")
    if ours and name.partition(".")[0] in absent:
        raise ModuleNotFoundError(f"{{name}}, by {{globals['__name__']}}", name=name)
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = hidden
names = ("SIGHUP", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD")
for name in names:
    delattr(signal, name)
names = ("fork", "sched_getaffinity", "getuid", "geteuid", "O_NOFOLLOW", "WNOHANG", "getloadavg")
for name in names:
    delattr(os, name)
"""
LIGHT = (
    HIDE.format(
        libraries="asyncio, ctypes, subprocess, platformdirs.unix, psutil, rich.progress, typer"
    )
    + """
for module in sys.argv[1:]:
    importlib.import_module(module)
from paretune.cli import main
main(["ls", "studies"])
"""
)
ALL = (
    HIDE.format(libraries="torch, transformers, sklearn.model_selection, peft, platformdirs.unix")
    + """
import paretune
from paretune.errors import MissingDependencyError
walked = 0
for found in pkgutil.walk_packages(paretune.__path__, "paretune."):
    if ".testing" in found.name or found.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(found.name)
        walked += 1
    except (MissingDependencyError, ModuleNotFoundError) as error:
        name = getattr(error, "name", None)  # a package of an extra may be missing
        if name is not None and name.partition(".")[0] in {*absent, "paretune"}:
            raise
print(walked, signal.SIGTERM)
"""
)


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_command_line_and_what_manages_processes_need_no_linux() -> None:
    modules = ("owner", "execution.signals", "execution.local", "execution.worker_crashes")
    out = python(LIGHT, *(f"paretune.{name}" for name in modules))
    assert "demo" in out and "sample" in out


@pytest.mark.slow
def test_no_module_needs_linux_to_be_imported() -> None:
    assert int(python(ALL).split()[0]) > 200


def test_on_windows_no_signal_asks_whether_a_process_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signal 0 is Ctrl-C there, and a process whose parent has ended keeps the parent's number."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a signal was sent")

    monkeypatch.setattr(psutil, "pid_exists", lambda pid: pid == os.getpid())  # as there
    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(owner.sys, "platform", "win32")
    assert owner.process_exists(os.getpid())
    assert not owner.process_exists(2**22 + 1)
    assert not signals.StopRequest(os.getpid()).requested
    assert signals.StopRequest(2**22 + 1).requested
