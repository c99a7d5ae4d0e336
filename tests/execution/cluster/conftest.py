from __future__ import annotations

import pytest

from paretune.measuring.processor import THREAD_VARIABLES


@pytest.fixture
def kept_thread_variables(monkeypatch):
    """What a node sets for its process is as before when the test ends."""
    for name in (*THREAD_VARIABLES, "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, "1")
