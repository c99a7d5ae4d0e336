"""Runs that mean nothing, for tests of the store and of execution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paretune.store import Store
from paretune.study import MethodSpec, ModelSpec, Run, TaskSpec, Training, digest

FORM = {"study": "tiny"}
STUDY = digest(FORM)[:16]


def a_run(seed: int = 0, stage: str = "tune", method: str = "lora", **options: Any) -> Run:
    return Run(
        stage=stage,
        task=TaskSpec(name="cb", language="sl"),
        model=ModelSpec(name="tiny"),
        method=MethodSpec.model_validate({"name": method, **options}),
        learning_rate=1e-3,
        seed=seed,
        training=Training(batch_size=8),
    )


def runs(number: int, stage: str = "tune", prefix: str = "run", **options: Any) -> list[Any]:
    return [(f"{prefix}{seed:03d}", a_run(seed, stage, **options)) for seed in range(number)]


def a_store(folder: Path, new_runs: list[Any] | None = None, study: str = STUDY) -> Store:
    store = Store.open(folder, create=True)
    store.save_study(study, "tiny", "study: tiny\n", FORM)
    store.add_runs(study, new_runs or [])
    return store
