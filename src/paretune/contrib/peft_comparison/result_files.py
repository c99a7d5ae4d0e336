"""Result files of peft's own ``method_comparison``, as values. Nothing of peft is imported.

One JSON for each experiment: ``run_info`` (name, configuration, error), ``train_info`` (memory,
seconds, sizes, status, and under ``metrics`` the last entry's ``test accuracy``), ``meta_info``.
Keys of memory begin with ``accelerator_`` in newer files and with ``cuda_`` in older ones. The
number of test examples of an accuracy is in none of them. Files of ``image-gen`` have no accuracy
but ``test dino_similarity``, a mean over ``train_config.test_size`` images. The folders once held
several files of one experiment, told apart by a time in their names.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paretune.errors import DataError

UNKNOWN_SIZE = 99_999_999
"""What the files have as ``file_size`` where the checkpoint could not be saved."""


@dataclass(frozen=True)
class Experiment:
    """One experiment. What its file does not have is None.

    ``accuracy`` is the share of right answers on the test part, ``reserved_bytes`` the largest
    reserved memory in bytes, ``size`` that of the checkpoint. ``other_metrics`` names what else was
    measured on the test part, over ``test_size`` examples. ``has_duplicates``: another file has the
    same name, and ``name`` is the file's.
    """

    name: str
    model: str
    status: str
    accuracy: float | None
    reserved_bytes: int | None
    seconds: float | None
    size: int | None
    trained: int | None
    seed: int | None
    device: str
    version: str
    error_message: str
    other_metrics: tuple[str, ...] = ()
    test_size: int | None = None
    has_duplicates: bool = False


def read_experiments(folder: Path) -> tuple[Experiment, ...]:
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
    found = [_experiment(path) for path in files]
    names = Counter((one.model, one.name) for one in found)
    return tuple(
        replace(one, name=path.stem, has_duplicates=True) if names[one.model, one.name] > 1 else one
        for one, path in zip(found, files, strict=True)
    )


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
        reserved_bytes=_whole(_either(train, "memory_max")),
        seconds=_number(train.get("train_time")),
        size=None if size == UNKNOWN_SIZE else _whole(size),
        trained=_whole(train.get("num_trainable_params")),
        seed=_whole(settings.get("seed")),
        device=str(system.get("accelerator") or system.get("gpu") or ""),
        version=str(_part(meta, "package_info").get("peft-version") or ""),
        error_message=str(run.get("error_msg") or ""),
        other_metrics=_others(train.get("metrics")),
        test_size=_whole(settings.get("test_size")),
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


def _others(metrics: Any) -> tuple[str, ...]:
    """Names of what is there of the test part beside an accuracy."""
    entries = [entry for entry in metrics if isinstance(entry, Mapping)] if metrics else []
    names = (name for entry in entries for name in entry if str(name).startswith("test "))
    return tuple(name for name in dict.fromkeys(map(str, names)) if name != "test accuracy")


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
