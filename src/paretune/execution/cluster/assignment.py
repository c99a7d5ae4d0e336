"""What travels between the process that owns the store and a node: values, no files.

Datasets and the forgetting text travel by hash. Models do not: a node must have the same files
under the same name. Whether everything is the same is decided by the runs' own ids, which cover
data, model and code (:meth:`~paretune.training.caches.ProcessCache.identify`).

An :class:`Assignment` goes out; events come back. All of them can be pickled, since Ray
sends them so between its own processes: its cluster is to be trusted as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paretune.data.example import PACKED_ENDING, pack_dataset
from paretune.data.rows import read_bytes
from paretune.errors import ModelError, StudyError
from paretune.execution.worker_settings import WorkerSettings
from paretune.files import write_atomically
from paretune.planning.prepare import PreparedStudy, find_source
from paretune.study import NO_MODEL, ModelSpec, Run
from paretune.study.paths import SHIPPED_LANGUAGES
from paretune.training.caches import ProcessCache
from paretune.training.runs.outcome import Outcome


@dataclass(frozen=True)
class StudyInputs:
    """What runs read.

    Attributes:
        datasets: name of the packed file, by the task's key.
        texts: name of the file of a forgetting text, by its path where the study was planned.
        weights_hashes: of the files of each model.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    weights_hashes: Mapping[ModelSpec, str] = field(default_factory=dict)

    def select(self, runs: Iterable[Run]) -> StudyInputs:
        """What these runs read."""
        runs = list(runs)
        tasks, models = {run.task.key for run in runs}, {run.model for run in runs}
        texts = {run.forgetting.text for run in runs if run.forgetting is not None}
        return StudyInputs(
            {key: name for key, name in self.datasets.items() if key in tasks},
            {text: name for text, name in self.texts.items() if text in texts},
            {model: sha256 for model, sha256 in self.weights_hashes.items() if model in models},
        )

    def file_names(self) -> set[str]:
        """The files, each named by its content."""
        return {*self.datasets.values(), *self.texts.values()}

    def relocate(self, run: Run, folder: Path) -> Run:
        """The same run, reading the files in the folder."""
        if run.task.key in self.datasets:
            source = str(folder / self.datasets[run.task.key])
            run = run.model_copy(update={"task": run.task.model_copy(update={"source": source})})
        if run.forgetting is not None and run.forgetting.text in self.texts:
            text = {"text": str(folder / self.texts[run.forgetting.text])}
            run = run.model_copy(update={"forgetting": run.forgetting.model_copy(update=text)})
        return run


def collect_inputs(prepared: PreparedStudy) -> tuple[StudyInputs, dict[str, bytes]]:
    """What the study's runs read, and the content of each file.

    Raises:
        DataError: the forgetting text cannot be read.
    """
    contents: dict[str, bytes] = {}

    def keep(content: bytes, ending: str) -> str:
        name = f"{hashlib.sha256(content).hexdigest()}{ending}"
        contents[name] = content
        return name

    datasets = {key: keep(pack_dataset(d), PACKED_ENDING) for key, d in prepared.datasets.items()}
    texts = {}
    if (text := prepared.study.forgetting) is not None and text not in SHIPPED_LANGUAGES:
        texts[text] = keep(read_bytes(text)[0], "".join(Path(text).suffixes[-1:]))
    hashes = {spec: prepared.sources[spec.key].weights_hash for spec in prepared.models}
    return StudyInputs(datasets, texts, hashes), contents


def write_inputs(contents: Mapping[str, bytes], folder: Path) -> None:
    """Write the files that the folder does not have yet."""
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        if not (folder / name).exists():
            write_atomically(folder / name, content)


def check_models(inputs: StudyInputs, caches: ProcessCache) -> None:
    """Check that this machine has the same models.

    Raises:
        ModelError: one is missing, or has other files.
    """
    for spec, sha256 in inputs.weights_hashes.items():
        if spec.name == NO_MODEL.name:
            continue
        remedy = "Copy it to every node, under the same name or path."
        try:
            source = find_source(spec, caches)
        except ModelError as error:
            raise ModelError(
                f"{error.what.rstrip('.')} on this node.", where=f"model {spec.name}", remedy=remedy
            ) from error
        if source.weights_hash != sha256:
            raise ModelError(
                f"has other files on this node ({source.weights_hash[:12]}) than where the study "
                f"was planned ({sha256[:12]}).",
                where=f"model {spec.name}",
                remedy=remedy,
            )


def check_identity(runs: Iterable[tuple[str, Run]], caches: ProcessCache) -> None:
    """Check that this machine would execute the very runs.

    Raises:
        StudyError: a run would be another one here.
    """
    for run_id, run in runs:
        if caches.identify(run) != run_id:
            raise StudyError(
                "would be another run on this node: its code of the method or its model's "
                "settings differ.",
                where=" x ".join(run.cell),
                remedy="Install the same version of paretune, with the same plug-ins, as where "
                "the study was planned.",
            )


@dataclass(frozen=True)
class Assignment:
    """Runs for one task: a fleet, or one alone.

    Attributes:
        number: tells the tasks of one process apart.
        version: of paretune where the runs were claimed; a node has the same.
        inputs: what the runs read; ``contents`` are its files, by name.
        settings: of the worker.
        stored_settings: of the store, about these runs.
        checkpoints: the newest of each run that has one, by run id.
    """

    number: int
    version: str
    runs: Mapping[str, Run]
    settings: WorkerSettings
    inputs: StudyInputs = field(default_factory=StudyInputs)
    contents: Mapping[str, bytes] = field(default_factory=dict)
    stored_settings: Mapping[str, str] = field(default_factory=dict)
    checkpoints: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def measures_cost(self) -> bool:
        """Whether it is the measurement of a cost, which has its node to itself."""
        return any(run.stage == "cost" for run in self.runs.values())


@dataclass(frozen=True)
class Progress:
    """The newest ``step``, ``steps``, ``loss``, ``note`` of a run."""

    run_id: str
    progress: Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run in the middle: another node goes on from it."""

    run_id: str
    content: bytes


@dataclass(frozen=True)
class Done:
    """A run has ended."""

    run_id: str
    outcome: Outcome


@dataclass(frozen=True)
class Failed:
    """A run has failed; arguments as of :meth:`paretune.store.Storage.fail`."""

    run_id: str
    kind: str
    message: str
    measured: Mapping[str, Any]


@dataclass(frozen=True)
class Learned:
    """A setting about a run that the node has made: such as why it left its fleet."""

    key: str
    value: str


@dataclass(frozen=True)
class TaskEnded:
    """A task is over; what it has not ended is given back.

    Attributes:
        number: of its assignment.
        node: where it ran; "" where it never began.
        lost: its node is gone: no fault of its runs.
        crash: how its process ended; None: by itself.
        out_of_memory: the process was ended for lack of memory on its node.
        refusal: why that node can execute none of the study's runs; None: it can.
    """

    number: int
    node: str = ""
    lost: bool = False
    crash: str | None = None
    out_of_memory: bool = False
    refusal: str | None = None


Event = Progress | Checkpoint | Done | Failed | Learned | TaskEnded
