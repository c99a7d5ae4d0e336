"""Datasets of the Hugging Face hub. Code of a dataset is never run.

:func:`fetch_splits` asks the hub and keeps the splits as Parquet under the commit that was found;
:func:`load_splits` and :func:`pin_revision` read what is kept and never touch the network. So a
study reads the
same rows in every process and on every day, and only fetching needs the extra ``hub``. Kept as::

    DATA_HOME/hub/OWNER--NAME/refs/REVISION            the commit that it meant when it was fetched
    DATA_HOME/hub/OWNER--NAME/COMMIT/CONFIG/SPLIT.parquet, splits.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from paretune.atomic_write import replace_file, write_atomically
from paretune.data.finding import Finding
from paretune.data.formats import parquet
from paretune.data.formats.row import Row
from paretune.data.sources.cache_dir import data_home
from paretune.errors import DataError, NetworkError, ParetuneError
from paretune.study import TaskSpec

CONVERTED_REVISION = "refs/convert/parquet"
"""Where the hub keeps, as Parquet, datasets that came with a script; scripts are never run."""
_TEST_SPLITS = ("test", "validation", "dev")


@dataclass(frozen=True)
class HubSplits:
    """Rows of train and, where there are such, of the test parts; declared label names."""

    train: list[Row]
    test: list[Row] | None
    declared: tuple[str, ...] | None
    commit: str
    findings: tuple[Finding, ...]
    shifted: list[Row] | None = None


@dataclass(frozen=True)
class _CachedDataset:
    """One configuration of a dataset at one commit, as it lies on this machine."""

    commit: str
    folder: Path
    splits: dict[str, str]

    def file(self, part: str) -> Path:
        return self.folder / f"{_quote_name(self.splits[part])}.parquet"

    @property
    def is_complete(self) -> bool:
        return all(self.file(part).is_file() for part in self.splits)


def pin_revision(spec: TaskSpec) -> TaskSpec:
    """The task at the commit of its dataset that is kept here.

    Raises:
        DataError: it was never fetched.
    """
    return spec.model_copy(update={"revision": _require_cached(spec).commit})


def load_splits(spec: TaskSpec) -> HubSplits:
    """Read the splits that ``spec`` names, or train and the first of test, validation, dev.

    Raises:
        DataError: never fetched, no such split, or an empty one.
    """
    cached = _require_cached(spec)
    rows = {part: _read_rows(cached, part, str(spec.dataset)) for part in cached.splits}
    name = str(spec.dataset)
    findings = []
    if spec.revision != cached.commit:
        findings.append(
            Finding(
                "note",
                "unpinned-revision",
                name,
                f"is read at commit {cached.commit}; fetched elsewhere it may be another.",
                f"Give the task revision: {cached.commit}.",
            )
        )
    declared = None
    if spec.label:
        declared = parquet.parse_declared_labels(
            cached.file("train").read_bytes(), name, spec.label
        )
    return HubSplits(
        train=rows["train"],
        test=rows.get("test"),
        declared=declared,
        commit=cached.commit,
        findings=tuple(findings),
        shifted=rows.get("test_shifted"),
    )


def fetch_splits(spec: TaskSpec) -> None:
    """Fetch the splits that the task needs, unless they are here. Half a file is never left.

    Raises:
        DataError: the extra is missing, or there is no such dataset, configuration or split.
        NetworkError: the hub does not answer.
    """
    cached = _find_cached(spec)
    if cached is not None and cached.is_complete:
        return
    name = str(spec.dataset)
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"dataset {name} needs the package datasets, which is not installed.",
            remedy='Install it: pip install "datasets>=4".',
        ) from None
    with _translate_errors(name):
        commit = cached.commit if cached is not None else _resolve_commit(name, spec.revision)
        config, place = _resolve_config(datasets, spec, commit)
        available = datasets.get_dataset_split_names(name, config, revision=commit, **place)
        folder = _config_folder(spec, commit)
        cached = _CachedDataset(commit, folder, _select_splits(spec, available))
        folder.mkdir(parents=True, exist_ok=True)
        for part, split in cached.splits.items():
            if not cached.file(part).is_file():
                loaded = datasets.load_dataset(name, config, split=split, revision=commit, **place)
                with replace_file(cached.file(part)) as fresh:
                    loaded.to_parquet(fresh)
    write_atomically(folder / "splits.json", json.dumps(available))
    write_atomically(_revision_file(spec), commit)


def _require_cached(spec: TaskSpec) -> _CachedDataset:
    cached = _find_cached(spec)
    if cached is None or not cached.is_complete:
        at = f" at revision {spec.revision}" if spec.revision else ""
        raise DataError(
            f"has not been downloaded{at}, and downloads need --online.",
            where=f"dataset {spec.dataset}",
            remedy="Add --online, or name files of your own as train: FILE.",
        )
    return cached


def _find_cached(spec: TaskSpec) -> _CachedDataset | None:
    """What is here of the dataset, perhaps not all of it; None where its commit is not known."""
    ref = _revision_file(spec)
    commit = ref.read_text() if ref.is_file() else str(spec.revision)
    folder = _config_folder(spec, commit)
    listed = folder / "splits.json"
    if not listed.is_file():
        return None
    return _CachedDataset(commit, folder, _select_splits(spec, json.loads(listed.read_text())))


def _dataset_folder(spec: TaskSpec) -> Path:
    return data_home() / "hub" / _quote_name(str(spec.dataset).replace("/", "--"))


def _config_folder(spec: TaskSpec, commit: str) -> Path:
    return _dataset_folder(spec) / _quote_name(commit) / _quote_name(spec.config or "default")


def _revision_file(spec: TaskSpec) -> Path:
    return _dataset_folder(spec) / "refs" / _quote_name(spec.revision or "main")


def _quote_name(name: str) -> str:
    """One name of a file that can be read back; what was fetched is found by it again."""
    return quote(name, safe="").replace("..", "%2E%2E")


def _select_splits(spec: TaskSpec, available: list[str]) -> dict[str, str]:
    """Split names by part, ``train`` always and ``test`` where there is one."""
    splits: dict[str, str] = {str(part): split for part, split in (spec.splits or {}).items()}
    splits.setdefault("train", "train")
    for split in splits.values():
        if split not in available:
            raise DataError(
                f'has no split "{split}".',
                where=f"dataset {spec.dataset}",
                remedy=f"It has {', '.join(available)}: name them as splits: "
                f"{{train: ..., test: ...}}.",
            )
    if "test" not in splits:
        test_split = next(
            (s for s in _TEST_SPLITS if s in available and s != splits["train"]), None
        )
        if test_split is not None:
            splits["test"] = test_split
    return splits


def _read_rows(cached: _CachedDataset, part: str, name: str) -> list[Row]:
    rows = parquet.parse_rows(cached.file(part).read_bytes(), f"{name} {cached.splits[part]}")
    if not rows:
        raise DataError(
            "holds no rows.", where=f"{name} {cached.splits[part]}", remedy="Name another split."
        )
    return rows


def _resolve_config(
    datasets: Any, spec: TaskSpec, commit: str
) -> tuple[str | None, dict[str, str]]:
    """The configuration to ask for, or the folder that holds it where none is declared.

    A branch of converted Parquet declares nothing: its folders are what the script called so.
    """
    if spec.config is None:
        return None, {}
    declared = datasets.get_dataset_config_names(str(spec.dataset), revision=commit)
    return (spec.config, {}) if spec.config in declared else (None, {"data_dir": spec.config})


def _resolve_commit(name: str, revision: str | None) -> str:
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(name, revision=revision).sha)


@contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    """Errors of the hub's libraries as ours; their classes differ from version to version."""
    try:
        yield
    except ParetuneError:
        raise
    except Exception as error:
        raise _to_paretune_error(error, name) from error


def _to_paretune_error(error: Exception, name: str) -> ParetuneError:
    from huggingface_hub import errors

    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    where = f"dataset {name}"
    if isinstance(error, errors.GatedRepoError):
        return DataError(
            "is gated: its owner requires accepting terms first.",
            where=where,
            remedy="Accept them on the dataset's page, then log in with `hf auth login`.",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return DataError(
            "does not exist on the hub, or is private.",
            where=where,
            remedy="Check the spelling; files of your own are named as train: FILE.",
        )
    unknown = isinstance(error, errors.RevisionNotFoundError | FileNotFoundError | ValueError)
    library = type(error).__module__.split(".")[0]
    if not unknown and (isinstance(error, OSError) or library.startswith(("httpx", "requests"))):
        return NetworkError(
            f"could not be fetched ({reason}).",
            where=where,
            remedy="Try again with a network, or download the files and name them as train: FILE.",
        )
    return DataError(
        f"cannot be loaded ({reason}).",
        where=where,
        remedy="Check dataset, config, revision and splits; code of a dataset is never run: "
        f"where one has a script, give the task revision: {CONVERTED_REVISION}.",
    )
