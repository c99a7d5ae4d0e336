"""Result files of peft's own ``method_comparison``, as values. Nothing of peft is imported.

One JSON for each experiment: ``run_info`` (name, configuration, error), ``train_info`` (memory,
seconds, sizes, status, and under ``metrics`` the last entry's ``test accuracy``), ``meta_info``.
Keys of memory begin with ``accelerator_`` in newer files and with ``cuda_`` in older ones. The
number of test examples is in none of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretune.errors import DataError

UNKNOWN_SIZE = 99_999_999
"""What the files have as ``file_size`` where the checkpoint could not be saved."""


@dataclass(frozen=True)
class Experiment:
    """One experiment. What its file does not have is None.

    ``accuracy`` is the share of right answers on the test part, ``reserved`` the largest
    reserved memory in bytes, ``size`` that of the checkpoint.
    """

    name: str
    model: str
    status: str
    accuracy: float | None
    reserved: int | None
    seconds: float | None
    size: int | None
    trained: int | None
    seed: int | None
    device: str
    version: str
    said: str


def experiments(folder: Path) -> tuple[Experiment, ...]:
    """The experiments of a folder's ``*.json`` files, by file name.

    Raises:
        DataError: no such files, or one that is no result of method_comparison.
    """
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        raise DataError(
            "holds no result files (*.json).",
            where=str(folder),
            remedy="In peft's repository they are in method_comparison/MetaMathQA/results.",
        )
    return tuple(_experiment(path) for path in files)


def _experiment(path: Path) -> Experiment:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"is not readable JSON ({error}).", where=str(path)) from None
    run, train, meta = (_part(found, name) for name in ("run_info", "train_info", "meta_info"))
    if not run or not train or not isinstance(run.get("experiment_name"), str):
        raise DataError(
            "is no result of peft's method_comparison: run_info.experiment_name and train_info "
            "are expected.",
            where=str(path),
        )
    settings = _part(run, "train_config")
    size = _number(train.get("file_size"))
    system = _part(meta, "system_info")
    return Experiment(
        name=run["experiment_name"],
        model=str(settings.get("model_id") or ""),
        status=str(train.get("status") or "unknown"),
        accuracy=_accuracy(train.get("metrics"), path),
        reserved=_whole(_either(train, "memory_max")),
        seconds=_number(train.get("train_time")),
        size=None if size == UNKNOWN_SIZE else _whole(size),
        trained=_whole(train.get("num_trainable_params")),
        seed=_whole(settings.get("seed")),
        device=str(system.get("accelerator") or system.get("gpu") or ""),
        version=str(_part(meta, "package_info").get("peft-version") or ""),
        said=str(run.get("error_msg") or ""),
    )


def _accuracy(metrics: Any, path: Path) -> float | None:
    """The test accuracy of the last entry that has one."""
    for entry in reversed(metrics if isinstance(metrics, list) else []):
        if isinstance(entry, Mapping) and "test accuracy" in entry:
            found = _number(entry["test accuracy"])
            if found is not None and not 0 <= found <= 1:
                raise DataError(f"its test accuracy {found} is no share.", where=str(path))
            return found
    return None


def _part(value: Any, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _either(train: Mapping[str, Any], name: str) -> Any:
    return next((train[k] for k in (f"accelerator_{name}", f"cuda_{name}") if k in train), None)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def _whole(value: Any) -> int | None:
    found = _number(value)
    return None if found is None else int(found)
