"""Result files in the form of peft's method_comparison, with made-up numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def result(
    folder: Path, name: str, right: int | None, *, n: int = 500, old: bool = False, **changes: Any
) -> None:
    """A file in the form of peft's method_comparison, with made-up numbers."""
    memory = "cuda_memory_max" if old else "accelerator_memory_max"
    metrics: list[dict[str, Any]] = [{"step": 10, "valid accuracy": 0.3, "train loss": 0.9}]
    if right is not None:
        metrics.append({"step": 20, "test accuracy": right / n, "train loss": 0.8})
    contents = {
        "run_info": {
            "experiment_name": name,
            "train_config": {"model_id": changes.pop("model", "made/up-1B"), "seed": 0},
            "error_msg": changes.pop("error", ""),
        },
        "train_info": {
            memory: changes.pop("memory", 2**30),
            "train_time": 60.5,
            "file_size": changes.pop("size", 5_000_000),
            "num_trainable_params": 1_000_000,
            "status": changes.pop("status", "success"),
            "metrics": metrics,
        },
        "meta_info": {
            "package_info": {"peft-version": "0.19.0"},
            "system_info": {"gpu" if old else "accelerator": changes.pop("card", "card A")},
        },
    }
    assert not changes
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name.replace('/', '--')}.json"
    file.write_text(json.dumps(contents), encoding="utf-8")
