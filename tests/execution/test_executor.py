"""The contract of executors, and what is set up before the first run on a device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.executors import ExecutorContract
from support.tiny_runs import STUDY

from paretune.errors import ParetuneError
from paretune.execution.executor import Executor
from paretune.execution.local import LocalExecutor
from paretune.execution.worker import make_executor
from paretune.execution.worker_settings import WorkerSettings


class TestLocalExecutor(ExecutorContract):
    def executor(self) -> Executor:
        return LocalExecutor((WorkerSettings(),))


def test_on_a_gpu_deterministic_kernels_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, Any]] = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *a, **k: calls.append((a, k)))
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    make_executor()
    assert calls == []
    make_executor(WorkerSettings(device="cuda:1"))
    assert calls == [((True,), {"warn_only": True})]
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_a_device_that_fails_is_told_before_any_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered\nmore lines")

    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *a, **k: None)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setattr(torch, "zeros", broken)
    with pytest.raises(ParetuneError, match="cuda cannot be used: CUDA error: uncorrectable ECC"):
        make_executor(WorkerSettings(device="cuda"))


def test_cublas_has_fixed_workspaces(tmp_path: Path) -> None:
    """Read when CUDA begins, so it is set before torch is imported."""
    settings = WorkerSettings().to_json()
    code = (
        "import os, sys; from paretune.execution import worker; "
        f"worker.main([{str(tmp_path / 'none')!r}, {STUDY!r}, {settings!r}], object()); "
        "print(os.environ['CUBLAS_WORKSPACE_CONFIG'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [":4096:8", "False"], done.stderr
