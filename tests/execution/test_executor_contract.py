from __future__ import annotations

from paretune.execution.executor import Executor
from paretune.execution.local import LocalExecutor
from paretune.planning.worker_count import WorkerCount
from paretune.testing import ExecutorContract


class TestLocalExecutor(ExecutorContract):
    def executor(self) -> Executor:
        return LocalExecutor((WorkerCount(1, 1),))
