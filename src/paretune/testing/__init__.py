"""Conformance suites: each contract of paretune as tests that an implementation inherits.

A plug-in's test file::

    from paretune.testing import StorageContract

    class TestMyStorage(StorageContract):
        def open(self, folder):
            return MyStorage(folder)

Needs pytest; nothing in the package imports it.
"""

import pytest

# Failures show both sides, as in a test file.
pytest.register_assert_rewrite(f"{__name__}.executors", f"{__name__}.storages")

from paretune.testing.executors import ExecutorContract  # noqa: E402
from paretune.testing.storages import StorageContract  # noqa: E402

__all__ = ["ExecutorContract", "StorageContract"]
