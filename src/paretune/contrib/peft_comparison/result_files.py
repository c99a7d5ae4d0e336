"""Result files of peft's own ``method_comparison``, as values. Nothing of peft is imported.

One JSON for each experiment: ``run_info`` (name, configuration, error), ``train_info`` (memory,
seconds, sizes, status, and under ``metrics`` the last entry's ``test accuracy``), ``meta_info``.
Keys of memory begin with ``accelerator_`` in newer files and with ``cuda_`` in older ones. The
number of test examples of an accuracy is in none of them. Files of ``image-gen`` have no accuracy
but ``test dino_similarity``, a mean over ``train_config.test_size`` images. The folders once held
several files of one experiment, which differ by a time in their names.
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
    """One experiment; None for what its file does not have.

    Attributes:
        name: of the experiment, or of its file if several files have that name.
        accuracy: on the test part, 0 to 1.
        reserved_bytes: largest reserved memory.
        size: of the checkpoint, in bytes.
        other_metrics: names of other metrics on the test part.
        has_duplicates: another file has the same experiment name.
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


def read_experiments(folder: Path) -> tuple[tuple[Experiment, ...], tuple[str, ...]]:
    """The experiments of a folder's ``*.json`` files, by file name, and files that are no results.

    Of one comparison of peft's (``MetaMathQA``), those of its ``results``; of the whole folder
    ``method_comparison``, those of all its comparisons.

    Raises:
        DataError: no such files, none that is a result, or one that is no JSON.
    """
    patterns = ("*.json", "results/*.json", "*/results/*.json")
    files = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    read = [(path, _read_experiment(path)) for path in files]
    results = [(path, experiment) for path, experiment in read if experiment is not None]
    ignored = tuple(str(p.relative_to(folder)) for p, experiment in read if experiment is None)
    if not results:
        what = "holds no result files of peft's method_comparison (*.json)"
        raise DataError(
            f"{what}; no run_info.experiment_name in {', '.join(ignored)}."
            if ignored
            else f"{what}.",
            where=str(folder),
            remedy="In peft's repository they are in method_comparison/MetaMathQA/results.",
        )
    counts = Counter((experiment.model, experiment.name) for _, experiment in results)
    experiments = tuple(
        replace(experiment, name=path.stem, has_duplicates=True)
        if counts[experiment.model, experiment.name] > 1
        else experiment
        for path, experiment in results
    )
    return experiments, ignored


def _read_experiment(path: Path) -> Experiment | None:
    """None where the file is no result."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"is not readable JSON ({error}).", where=str(path)) from None
    run, train, meta = (_section(content, name) for name in ("run_info", "train_info", "meta_info"))
    if not run or not train or not isinstance(run.get("experiment_name"), str):
        return None
    settings = _section(run, "train_config")
    size = _parse_number(train.get("file_size"))
    system = _section(meta, "system_info")
    return Experiment(
        name=run["experiment_name"],
        model=str(settings.get("model_id") or ""),
        status=str(train.get("status") or "unknown"),
        accuracy=_find_accuracy(train.get("metrics"), path),
        reserved_bytes=_parse_int(_find_memory(train)),
        seconds=_parse_number(train.get("train_time")),
        size=None if size == UNKNOWN_SIZE else _parse_int(size),
        trained=_parse_int(train.get("num_trainable_params")),
        seed=_parse_int(settings.get("seed")),
        device=str(system.get("accelerator") or system.get("gpu") or ""),
        version=str(_section(meta, "package_info").get("peft-version") or ""),
        error_message=str(run.get("error_msg") or ""),
        other_metrics=_list_other_metrics(train.get("metrics")),
        test_size=_parse_int(settings.get("test_size")),
    )


def _find_accuracy(metrics: Any, path: Path) -> float | None:
    """The test accuracy of the last entry that has one."""
    for entry in reversed(metrics if isinstance(metrics, list) else []):
        if isinstance(entry, Mapping) and "test accuracy" in entry:
            accuracy = _parse_number(entry["test accuracy"])
            if accuracy is not None and not 0 <= accuracy <= 1:
                raise DataError(f"its test accuracy {accuracy} is no share.", where=str(path))
            return accuracy
    return None


def _list_other_metrics(metrics: Any) -> tuple[str, ...]:
    """Names of metrics on the test part other than accuracy."""
    entries = [entry for entry in metrics if isinstance(entry, Mapping)] if metrics else []
    names = (name for entry in entries for name in entry if str(name).startswith("test "))
    return tuple(name for name in dict.fromkeys(map(str, names)) if name != "test accuracy")


def _section(value: Any, name: str) -> Mapping[str, Any]:
    section = value.get(name) if isinstance(value, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _find_memory(train: Mapping[str, Any]) -> Any:
    keys = ("accelerator_memory_max", "cuda_memory_max")
    return next((train[key] for key in keys if key in train), None)


def _parse_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def _parse_int(value: Any) -> int | None:
    number = _parse_number(value)
    return None if number is None else int(number)
