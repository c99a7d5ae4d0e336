"""Conformance suites: the contract of each part that a plug-in adds, as tests that it inherits.

A plug-in's test file::

    from paretune.testing import MethodContract

    class TestSsf(MethodContract):
        method = METHOD

Needs pytest; nothing in the package imports it. The other modules make what the suites need: tiny
models with random weights, tiny tasks, runs on them. Nothing is downloaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from paretune.testing.methods import MethodContract
    from paretune.testing.metrics import MetricContract
    from paretune.testing.objectives import ObjectiveContract
    from paretune.testing.tasks import TaskContract

__all__ = [
    "MethodContract",
    "MetricContract",
    "ObjectiveContract",
    "TaskContract",
]

_MODULES = {
    "MethodContract": "methods",
    "MetricContract": "metrics",
    "ObjectiveContract": "objectives",
    "TaskContract": "tasks",
}

# Failures show both sides, as in a test file.
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in _MODULES.values()))


def __getattr__(name: str) -> Any:
    """A suite, imported when it is asked for: not every one needs torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
