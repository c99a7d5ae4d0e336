"""A tiny task and model for studies of which nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.tiny_study import planning_study

from paretune.preparation import ProcessCache
from paretune.study import Study


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any) -> Callable[..., Study]:
    """``ask(**protocol)``: three methods on a tiny task, three rates, five seeds."""
    folder = tmp_path_factory.mktemp("data")

    def make(limits: Any = None, methods: Any = None, **protocol: Any) -> Study:
        if protocol.get("preset") != "passes":
            protocol = {"folds": 2, **protocol}
        protocol = {"outer": "split", **protocol}
        changes = {"methods": methods or ["full", "lora", "prompt"], "limits": limits or {}}
        return planning_study(folder, tiny_model("bert"), protocol=protocol, **changes)

    return make


@pytest.fixture(scope="module")
def caches() -> ProcessCache:
    return ProcessCache()
