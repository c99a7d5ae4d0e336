"""Keeps facts about a study's data beside its runs, and finds what has changed since.

Kept are the findings of the audit; of the data a hash of each file and of the examples, and a
dataset without rows: its labels, prompt and columns, and one made-up example in the form of the
others. No row of the data is kept.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from paretune.data.example import Dataset
from paretune.data.finding import MAX_SHOWN, Finding
from paretune.errors import DataError
from paretune.files import expand_home
from paretune.objectives.example import Example
from paretune.store import Record, Store
from paretune.study import Study, TaskSpec
from paretune.study.specs import FILE_KEYS
from paretune.tasks import load_dataset
from paretune.terminal.plural import pluralise


@dataclass(frozen=True)
class TrainedData:
    """The record of one task's data.

    Attributes:
        content_hash: hash of the dataset's examples.
        files: SHA-256 by the names of :func:`hash_files`.
        outline: the dataset without its rows.
    """

    content_hash: str
    files: Mapping[str, str]
    outline: Dataset


TRAINED_DATA = TypeAdapter(dict[str, TrainedData])
"""Data by the task's key."""
FINDINGS = TypeAdapter(list[Finding])


def save_trained_data(store: Store, study: Study, datasets: Mapping[str, Dataset]) -> None:
    """Keep it of every task, in place of earlier data; ``datasets``: by the task's key."""
    values = {}
    for task in study.tasks:
        dataset = datasets[task.key]
        files = {name: sha256 for name, (_, sha256) in hash_files(task).items()}
        # In place of the rows one made-up example in their form.
        first = (*dataset.train[:1], *dataset.test[:1])[0]
        made_up = Example(
            uid="made-up",
            segments=tuple(
                ("A text.", None if pair is None else "A second text.")
                for _, pair in first.segments
            ),
            label=None if first.label is None else type(first.label)(0),
            where="",
            target=None if first.target is None else "A text.",
            messages=(("user", "A question."),) if first.messages else (),
        )
        outline = replace(
            dataset, train=(made_up,), test=(), shifted=(), unlabelled=(), findings=()
        )
        values[task.key] = TrainedData(dataset.content_hash, files, outline)
    store.set_setting(f"data/{study.study_hash}", TRAINED_DATA.dump_json(values).decode())


def load_trained_data(store: Store, study: Study) -> dict[str, TrainedData]:
    """Load the data by the task's key; there is none where the study was not run here."""
    return TRAINED_DATA.validate_json(store.get_setting(f"data/{study.study_hash}") or "{}")


def load_dataset_or_outline(
    store: Store, study: Study, task: TaskSpec, read: Callable[[TaskSpec], Dataset]
) -> Dataset:
    """The data of a task as its runs were trained on; without rows where it is not here so.

    Args:
        read: reads the data as it is here.

    Raises:
        DataError: it cannot be read, and the store keeps nothing of it.
    """
    trained = load_trained_data(store, study).get(task.key)
    try:
        dataset = read(task)
    except DataError:
        if trained is None:
            raise
        return trained.outline
    if trained is not None and dataset.content_hash != trained.content_hash:
        return trained.outline
    return dataset


def find_changed_data(store: Store, study: Study, records: Sequence[Record]) -> Iterator[Finding]:
    """A warning for each data file that is gone or is not what the study's runs were trained on."""
    stored_data = load_trained_data(store, study)
    for task in study.tasks:
        runs = sum(record.run.task.key == task.key for record in records)
        trained = stored_data.get(task.key)
        if trained is None or not runs:
            continue
        files = hash_files(task)
        gone = [name for name in trained.files if name not in files]
        for name in gone:
            key, _, file_name = name.partition(": ")
            yield Finding(
                "warning",
                "data-gone",
                str(Path(getattr(task, key)).with_name(file_name)),
                "is gone; what is said comes from the store.",
                "`paretune run` needs the file again.",
            )
        hashes = trained.files
        changed = [path for name, (path, sha256) in files.items() if sha256 != hashes.get(name)]
        if not changed or gone:
            continue
        with suppress(DataError):  # what cannot be read has changed
            if load_dataset(task).content_hash == trained.content_hash:
                continue
        for file in changed:
            edited = datetime.fromtimestamp(file.stat().st_mtime)
            yield Finding(
                "warning",
                "data-changed",
                str(file),
                f"is not what these runs were trained on (edited {edited:%Y-%m-%d %H:%M}).",
                f"`paretune run` would train {pluralise(runs, 'run')} on {task.key} anew.",
            )


def hash_files(task: TaskSpec) -> dict[str, tuple[Path, str]]:
    """The data files of a task that are here and their SHA-256, by the key that names each.

    A stem has the files of its languages; a member of a zip has the zip.
    """
    files = {}
    for key in FILE_KEYS:
        if (value := getattr(task, key)) is None:
            continue
        outer = value.partition("::")[0]
        for name in (outer, *(f"{outer}.{language}" for language in task.languages or ())):
            if (path := expand_home(name)).is_file():
                with path.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                files[f"{key}: {path.name}"] = path, sha256
    return files


def save_findings(store: Store, study_hash: str, findings: Sequence[Finding]) -> None:
    """Keep the findings of the audit, in place of earlier ones."""
    # `check` lists all places of a finding again.
    values = FINDINGS.dump_json(list(findings), exclude={"__all__": {"places"}})
    store.set_setting(f"findings/{study_hash}", values.decode())


def load_findings(store: Store, study_hash: str) -> list[Finding]:
    """The findings of the audit when the study last started."""
    return FINDINGS.validate_json(store.get_setting(f"findings/{study_hash}") or "[]")


def find_damaged_trials(store: Store, records: Iterable[Record]) -> list[Finding]:
    """One warning if predictions of trials were lost; ``records`` were loaded with predictions."""
    damaged = Counter(" x ".join(r.run.cell) for r in records if r.lacks_predictions)
    if not damaged:
        return []
    cells = [f"{cell}: {count}" for cell, count in damaged.items()]
    cells[MAX_SHOWN:] = [f"and {len(cells) - MAX_SHOWN} more"] if len(cells) > MAX_SHOWN else []
    return [
        Finding(
            severity="warning",
            code="damaged-trials",
            where=str(store.folder / "blobs"),
            what=f"the predictions of trials are missing or damaged ({'; '.join(cells)}); "
            "their scores are not.",
            remedy="`paretune run --retry` makes them again; `paretune verify` names the files.",
        )
    ]
