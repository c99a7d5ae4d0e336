from paretune_ssf.sums import TASK

from paretune.testing import TaskContract


class TestSums(TaskContract):
    task = TASK
