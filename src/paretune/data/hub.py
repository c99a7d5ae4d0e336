"""Datasets of the Hugging Face hub, through the extra `hub`. Code of a dataset is never run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paretune.data.finding import Finding
from paretune.data.read import Row
from paretune.errors import DataError, NetworkError, ParetuneError
from paretune.study import TaskSpec

_TEST_SPLITS = ("test", "validation", "dev")


@dataclass(frozen=True)
class HubParts:
    """Rows of train and, where there is one, test; names that the label column declares."""

    train: list[Row]
    test: list[Row] | None
    declared: tuple[str, ...] | None
    findings: tuple[Finding, ...]


def load(spec: TaskSpec) -> HubParts:
    """Load the splits that ``spec`` names, or train and the first of test, validation, dev.

    Raises:
        DataError: the extra is missing, or there is no such dataset, configuration or split.
        NetworkError: the hub cannot be reached and the dataset is not in its cache.
    """
    name = str(spec.dataset)
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"dataset {name} needs the package datasets, which is not installed.",
            remedy='Install it: pip install "paretune[hub]".',
        ) from None
    try:
        splits = dict(spec.splits or {})
        if set(splits) != {"train", "test"}:
            held = datasets.get_dataset_split_names(name, spec.config, revision=spec.revision)
            splits.setdefault("train", "train")
            found = next((s for s in _TEST_SPLITS if s in held and s != splits["train"]), None)
            if found is not None:
                splits.setdefault("test", found)
        loaded = {
            part: datasets.load_dataset(name, spec.config, split=split, revision=spec.revision)
            for part, split in splits.items()
        }
    except Exception as error:
        raise _translated(error, name) from error
    rows = {part: _rows(loaded[part], f"{name} {split}") for part, split in splits.items()}
    findings = []
    if spec.revision is None:
        findings.append(
            Finding(
                "note",
                "unpinned-revision",
                name,
                "is read at its newest revision, which may change.",
                "Give the task revision: COMMIT.",
            )
        )
    return HubParts(
        train=rows["train"],
        test=rows.get("test"),
        declared=_declared(loaded["train"].features, spec.label),
        findings=tuple(findings),
    )


def _rows(split: Any, name: str) -> list[Row]:
    rows = [Row(dict(values), f"{name} row {n}") for n, values in enumerate(split, 1)]
    if not rows:
        raise DataError("holds no rows.", where=name, remedy="Name another split.")
    return rows


def _declared(features: Mapping[str, Any], label: str | None) -> tuple[str, ...] | None:
    names = getattr(features.get(label or ""), "names", None)
    return tuple(names) if names else None


def _translated(error: Exception, name: str) -> ParetuneError:
    said = str(error).split("\n", 1)[0]
    library = type(error).__module__.split(".")[0]
    if isinstance(error, ConnectionError | TimeoutError) or library.startswith(
        ("httpx", "requests")
    ):
        return NetworkError(
            f"the hub could not be reached ({said}).",
            where=name,
            remedy="Try again with a network, or download the files and name them as train: FILE.",
        )
    return DataError(
        f"the hub's dataset cannot be loaded ({said}).",
        where=name,
        remedy="Check dataset, config, revision and splits; a dataset that needs its own code "
        "is not loaded: export it as Parquet.",
    )
