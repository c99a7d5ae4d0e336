"""What a store keeps of a study's data beside its runs, and what has changed since.

Kept are the findings of the audit; of the data a hash of each file and of the examples, and a
dataset without rows: its labels, prompt and columns, and one made-up example in the form of the
others. No row of the data is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from paretune.data.example import DATASET_VALUES, Dataset, Example
from paretune.data.finding import MAX_SHOWN, Finding
from paretune.errors import DataError
from paretune.files import expand_home
from paretune.store import Record, Store
from paretune.study import Study, TaskSpec, paths
from paretune.tasks import load_dataset
from paretune.terminal.plural import pluralise


@dataclass(frozen=True)
class TrainedData:
    """What is kept of one task's data.

    Attributes:
        content_hash: of the dataset's examples.
        files: sha256 by :func:`list_files`' names.
        outline: the dataset without its rows.
    """

    content_hash: str
    files: Mapping[str, str]
    outline: Dataset


def save_trained_data(store: Store, study: Study, datasets: Mapping[str, Dataset]) -> None:
    """Keep it of every task, in place of earlier data; ``datasets``: by the task's key."""
    values = {}
    for task in study.tasks:
        dataset = datasets[task.key]
        kept = TrainedData(dataset.content_hash, _hash_files(task), _outline(dataset))
        values[task.key] = asdict(kept)
    store.set_setting(f"data/{study.study_hash}", json.dumps(values))


def load_trained_data(store: Store, study: Study) -> dict[str, TrainedData]:
    """By the task's key; nothing where an older version ran the study."""
    values = json.loads(store.get_setting(f"data/{study.study_hash}") or "{}")
    return {
        key: TrainedData(
            kept["content_hash"], kept["files"], DATASET_VALUES.validate_python(kept["outline"])
        )
        for key, kept in values.items()
    }


def load_dataset_or_outline(
    store: Store, study: Study, task: TaskSpec, read: Callable[[TaskSpec], Dataset]
) -> Dataset:
    """The data of a task as its runs were trained on; without rows where it is not here so.

    Args:
        read: reads the data as it is here.

    Raises:
        DataError: it cannot be read, and the store keeps nothing of it.
    """
    kept = load_trained_data(store, study).get(task.key)
    try:
        dataset = read(task)
    except DataError:
        if kept is None:
            raise
        return kept.outline
    return dataset if kept is None or dataset.content_hash == kept.content_hash else kept.outline


def find_changed_data(store: Store, study: Study, records: Sequence[Record]) -> Iterator[Finding]:
    """A warning for each data file that is gone or is not what the study's runs were trained on."""
    kept_data = load_trained_data(store, study)
    for task in study.tasks:
        runs = sum(record.run.task.key == task.key for record in records)
        kept = kept_data.get(task.key)
        if kept is None or not runs:
            continue
        files, hashes = list_files(task), _hash_files(task)
        changed = [files[name] for name in hashes if hashes[name] != kept.files.get(name)]
        gone = [name for name in kept.files if name not in hashes]
        for name in gone:
            key, _, file_name = name.partition(": ")
            yield Finding(
                "warning",
                "data-gone",
                str(Path(getattr(task, key)).with_name(file_name)),
                "is gone; what is said comes from the store.",
                "`paretune run` needs the file again.",
            )
        if not changed or gone or _hash_content(task) == kept.content_hash:
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


def list_files(task: TaskSpec) -> dict[str, Path]:
    """The data files of a task that are here, each by its name and the key that names it."""
    files = {}
    for key in paths.FILE_KEYS:
        for path in _named_files(getattr(task, key), task.languages or ()):
            if path.is_file():
                files[f"{key}: {path.name}"] = path
    return files


def _named_files(value: str | None, languages: Iterable[str]) -> list[Path]:
    """The file that a study names; of a stem those of its languages; of a zip's member the zip."""
    if value is None:
        return []
    outer = value.partition("::")[0]
    return [expand_home(outer), *(expand_home(f"{outer}.{language}") for language in languages)]


def _hash_files(task: TaskSpec) -> dict[str, str]:
    hashes = {}
    for name, path in list_files(task).items():
        with path.open("rb") as file:
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _hash_content(task: TaskSpec) -> str:
    """Hash of the examples as the files are now; "" where they cannot be read."""
    try:
        return load_dataset(task).content_hash
    except DataError:
        return ""


def _outline(dataset: Dataset) -> Dataset:
    first = (*dataset.train[:1], *dataset.test[:1])[0]
    made_up = Example(
        uid="made-up",
        segments=tuple(
            ("A text.", None if pair is None else "A second text.") for _, pair in first.segments
        ),
        label=None if first.label is None else type(first.label)(0),
        where="",
        target=None if first.target is None else "A text.",
        messages=(("user", "A question."),) if first.messages else (),
    )
    return replace(dataset, train=(made_up,), test=(), shifted=(), unlabelled=(), findings=())


def save_findings(store: Store, study_hash: str, findings: Iterable[Finding]) -> None:
    """Store the findings of the audit in place of earlier ones."""
    values = [  # `check` lists all places of a finding again
        {name: value for name, value in vars(finding).items() if name != "places"}
        for finding in findings
    ]
    store.set_setting(f"findings/{study_hash}", json.dumps(values))


def load_findings(store: Store, study_hash: str) -> list[Finding]:
    """The findings of the audit when the study last started."""
    stored = store.get_setting(f"findings/{study_hash}")
    return [Finding(**finding) for finding in json.loads(stored)] if stored else []


def find_damaged_trials(store: Store, records: Iterable[Record]) -> list[Finding]:
    """One warning if predictions of trials were lost; ``records`` were loaded with predictions."""
    damaged = [record.run for record in records if record.lacks_predictions]
    if not damaged:
        return []
    runs = "; ".join(
        f"{' x '.join(run.cell)}, learning rate {run.learning_rate}" for run in damaged[:MAX_SHOWN]
    )
    runs += f"; and {len(damaged) - MAX_SHOWN} more" if len(damaged) > MAX_SHOWN else ""
    return [
        Finding(
            severity="warning",
            code="damaged-trials",
            where=str(store.folder / "blobs"),
            what=f"the predictions of trials are missing or damaged ({runs}); their scores "
            "are not.",
            remedy="`paretune run --retry` makes them again; `paretune verify` names the files.",
        )
    ]
