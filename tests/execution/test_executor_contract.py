from __future__ import annotations

from paretune.execution.executor import Executor
from paretune.execution.local import LocalExecutor
from paretune.execution.worker_settings import WorkerSettings
from paretune.testing import ExecutorContract


class TestLocalExecutor(ExecutorContract):
    def executor(self) -> Executor:
        return LocalExecutor((WorkerSettings(),))
