from __future__ import annotations

from paretune.execution.executor import Executor
from paretune.execution.local import LocalExecutor
from paretune.testing import ExecutorContract


class TestLocalExecutor(ExecutorContract):
    def executor(self) -> Executor:
        return LocalExecutor(workers=1)
