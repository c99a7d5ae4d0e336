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
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from paretune.data.finding import Finding
from paretune.data.rows import parse_parquet, read_declared_labels
from paretune.data.task import TaskRows
from paretune.errors import DataError, explain_hub_errors, explain_missing, spell_option
from paretune.files import data_home, replace_file, write_atomically
from paretune.study import TaskSpec

CONVERTED_REVISION = "refs/convert/parquet"
"""Where the hub keeps, as Parquet, datasets that came with a script; scripts are never run."""
_TEST_SPLITS = ("test", "validation", "dev")


@dataclass(frozen=True)
class _CachedDataset:
    """A configuration of a dataset at one commit: by part the split, and its file here or to be."""

    commit: str
    folder: Path
    splits: dict[str, str]

    def files(self) -> dict[str, Path]:
        return {
            part: self.folder / f"{_quote_name(split)}.parquet"
            for part, split in self.splits.items()
        }


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
    files, rows = cached.files(), {}
    for part, split in cached.splits.items():
        rows[part] = parse_parquet(files[part].read_bytes(), f"{name} {split}")
        if not rows[part]:
            raise DataError("holds no rows.", where=f"{name} {split}", remedy="Name another split.")
    findings = []
    if spec.revision != cached.commit:
        what = f"is read at commit {cached.commit}; fetched elsewhere it may be another."
        remedy = f"Give the task revision: {cached.commit}."
        findings.append(Finding("note", "unpinned-revision", name, what, remedy))
    return TaskRows(
        rows["train"],
        rows.get("test", ()),
        findings=findings,
        shifted=rows.get("test_shifted", ()),
        declared=read_declared_labels(files["train"], spec.label) if spec.label else None,
        source=f"{name} at commit {cached.commit} (hub)",
    )


def fetch_splits(spec: TaskSpec) -> None:
    """Fetch the splits that the task needs, unless they are here. Half a file is never left.

    Raises:
        DataError: the extra is missing, or there is no such dataset, configuration or split.
        NetworkError: the hub does not answer.
    """
    cached = _find_cached(spec)
    if cached is not None and all(file.is_file() for file in cached.files().values()):
        return
    name = str(spec.dataset)
    with explain_missing("datasets>=4", f"dataset {name}"):
        import datasets
        import huggingface_hub
    remedy = (
        "Check dataset, config, revision and splits, or name your files as train: FILE. Code of a "
        f"dataset is never run: where one has a script, give the task revision: "
        f"{CONVERTED_REVISION}."
    )
    with explain_hub_errors(f"dataset {name}", DataError, remedy):
        commit = cached.commit if cached else None
        if commit is None:
            commit = str(huggingface_hub.HfApi().dataset_info(name, revision=spec.revision).sha)
        config, place = spec.config, {}
        if config and config not in datasets.get_dataset_config_names(name, revision=commit):
            # A branch of converted Parquet declares no configuration: its folders are what the
            # script called so.
            config, place = None, {"data_dir": config}
        available = datasets.get_dataset_split_names(name, config, revision=commit, **place)
        folder = _dataset_folder(spec) / _quote_name(commit) / _quote_name(spec.config or "default")
        cached = _CachedDataset(commit, folder, _select_splits(spec, available))
        folder.mkdir(parents=True, exist_ok=True)
        for part, file in cached.files().items():
            if not file.is_file():
                split = cached.splits[part]
                loaded = datasets.load_dataset(name, config, split=split, revision=commit, **place)
                with replace_file(file) as fresh:
                    loaded.to_parquet(fresh)
    write_atomically(folder / "splits.json", json.dumps(available))
    write_atomically(_revision_file(spec), commit)


def _require_cached(spec: TaskSpec) -> _CachedDataset:
    cached = _find_cached(spec)
    if cached is None or not all(file.is_file() for file in cached.files().values()):
        at = f" at revision {spec.revision}" if spec.revision else ""
        online = spell_option("online", True)
        raise DataError(
            f"has not been downloaded{at}, and downloads need {online}.",
            where=f"dataset {spec.dataset}",
            remedy=f"Add {online}, or name files of your own as train: FILE.",
        )
    return cached


def _find_cached(spec: TaskSpec) -> _CachedDataset | None:
    """The part of the dataset that is here; None where its commit is not known."""
    reference = _revision_file(spec)
    commit = reference.read_text() if reference.is_file() else str(spec.revision)
    folder = _dataset_folder(spec) / _quote_name(commit) / _quote_name(spec.config or "default")
    if not (folder / "splits.json").is_file():
        return None
    available = json.loads((folder / "splits.json").read_text())
    return _CachedDataset(commit, folder, _select_splits(spec, available))


def _dataset_folder(spec: TaskSpec) -> Path:
    return data_home() / "hub" / _quote_name(str(spec.dataset).replace("/", "--"))


def _revision_file(spec: TaskSpec) -> Path:
    return _dataset_folder(spec) / "refs" / _quote_name(spec.revision or "main")


def _quote_name(name: str) -> str:
    """One name of a file that can be read back; what was fetched is found by it again."""
    return quote(name, safe="").replace("..", "%2E%2E")


def _select_splits(spec: TaskSpec, available: list[str]) -> dict[str, str]:
    """Split names by part, ``train`` always and ``test`` where there is one and train has none."""
    splits = {"train": "train", **{str(part): name for part, name in (spec.splits or {}).items()}}
    if missing := [split for split in splits.values() if split not in available]:
        raise DataError(
            f'has no split "{missing[0]}".',
            where=f"dataset {spec.dataset}",
            remedy=f"It has {', '.join(available)}: name them, splits: {{train: ..., test: ...}}.",
        )
    if "test" in splits or spec.split_by is not None:
        return splits
    free = [name for name in _TEST_SPLITS if name in available and name != splits["train"]]
    return {**splits, "test": free[0]} if free else splits
