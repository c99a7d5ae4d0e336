"""A tiny task and model for studies of which nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from paretune.study import Study
from paretune.testing.tiny_tasks import tiny_task
from paretune.training.caches import ProcessCache


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any) -> Callable[..., Study]:
    """``ask(race, **protocol)``: three methods on a tiny task, three rates, five seeds."""
    task = tiny_task(tmp_path_factory.mktemp("data"))

    def make(
        race: str = "recommendation", limits: Any = None, methods: Any = None, **protocol: Any
    ) -> Study:
        raw: dict[str, Any] = {
            "study": "tiny",
            "tasks": [task.model_dump(exclude_none=True)],
            "models": [{"name": str(tiny_model("bert")), "label": "tiny"}],
            "methods": methods or ["full", "lora", "prompt"],
            "protocol": {"outer": "split", "folds": 2, "race": race, **protocol},
            "training": {"precision": "fp32"},
            "limits": limits or {},
        }
        return Study.parse(raw)

    return make


@pytest.fixture(scope="module")
def caches() -> ProcessCache:
    return ProcessCache()
