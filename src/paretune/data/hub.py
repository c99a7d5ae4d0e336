"""Datasets of the Hugging Face hub. Code of a dataset is never run.

:func:`fetch_splits` asks the hub and keeps the splits as Parquet under their commit.
:func:`load_splits` and :func:`pin_revision` read these files and never touch the network, so that
a study reads the same rows in every process and on every day. The cache of ``datasets`` cannot
serve a pinned study: without a network it ignores ``revision`` and reads the newest commit that it
has. Only fetching needs the extra ``hub``. Kept as::

    DATA_HOME/hub/OWNER--NAME/refs/REVISION            the commit that it meant when it was fetched
    DATA_HOME/hub/OWNER--NAME/COMMIT/CONFIG/SPLIT.parquet, splits.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from paretune.data.cache_dir import data_home
from paretune.data.finding import Finding
from paretune.data.rows import parse_parquet, read_declared_labels
from paretune.data.task import TaskRows
from paretune.errors import DataError, NetworkError, ParetuneError, first_line
from paretune.files import replace_file, write_atomically
from paretune.study import TaskSpec

CONVERTED_REVISION = "refs/convert/parquet"
"""Where the hub keeps, as Parquet, datasets that came with a script; scripts are never run."""
_TEST_SPLITS = ("test", "validation", "dev")


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


def load_splits(spec: TaskSpec) -> TaskRows:
    """Read the splits that ``spec`` names, or train and the first of test, validation, dev.

    Raises:
        DataError: never fetched, no such split, or an empty one.
    """
    cached, name = _require_cached(spec), str(spec.dataset)
    rows = {}
    for part, split in cached.splits.items():
        rows[part] = parse_parquet(cached.file(part).read_bytes(), f"{name} {split}")
        if not rows[part]:
            raise DataError("holds no rows.", where=f"{name} {split}", remedy="Name another split.")
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
        declared = read_declared_labels(cached.file("train"), spec.label)
    return TaskRows(
        rows["train"],
        rows.get("test", ()),
        findings=findings,
        shifted=rows.get("test_shifted", ()),
        declared=declared,
        source=f"{name} at commit {cached.commit} (hub)",
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
        import huggingface_hub
    except ImportError:
        raise DataError(
            f"dataset {name} needs the package datasets, which is not installed.",
            remedy='Install it: pip install "datasets>=4".',
        ) from None
    with _translate_errors(name):
        if cached is not None:
            commit = cached.commit
        else:
            commit = str(huggingface_hub.HfApi().dataset_info(name, revision=spec.revision).sha)
        config, place = spec.config, {}
        if config and config not in datasets.get_dataset_config_names(name, revision=commit):
            # A branch of converted Parquet declares no configuration: its folders are what the
            # script called so.
            config, place = None, {"data_dir": config}
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


@contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    """Errors of the hub's libraries as ours; their classes differ from version to version."""
    from huggingface_hub import errors

    where = f"dataset {name}"
    try:
        yield
    except ParetuneError:
        raise
    except errors.GatedRepoError as error:
        raise DataError(
            "is gated: its owner requires accepting terms first.",
            where=where,
            remedy="Accept them on the dataset's page, then log in with `hf auth login`.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DataError(
            "does not exist on the hub, or is private.",
            where=where,
            remedy="Check the spelling; files of your own are named as train: FILE.",
        ) from error
    except Exception as error:
        reason = first_line(error)
        unknown = isinstance(error, errors.RevisionNotFoundError | FileNotFoundError | ValueError)
        library = type(error).__module__.split(".")[0]
        network = isinstance(error, OSError) or library.startswith(("httpx", "requests"))
        if network and not unknown:
            raise NetworkError(
                f"could not be fetched ({reason}).",
                where=where,
                remedy="Try again with a network, or download the files and name them as "
                "train: FILE.",
            ) from error
        raise DataError(
            f"cannot be loaded ({reason}).",
            where=where,
            remedy="Check dataset, config, revision and splits; code of a dataset is never run: "
            f"where one has a script, give the task revision: {CONVERTED_REVISION}.",
        ) from error
