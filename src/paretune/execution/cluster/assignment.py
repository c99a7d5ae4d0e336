"""What travels between the process that owns the store and a node: values, no files.

Datasets and the forgetting text travel by hash. Models do not: a node must have the same files
under the same name. Whether everything is the same is decided by the runs' own ids, which cover
data, model and code (:meth:`~paretune.training.caches.ProcessCache.identify`).

An :class:`Assignment` goes out; events come back. All of them can be pickled, since Ray
sends them so between its own processes: its cluster is to be trusted as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from paretune.data.example import PACKED_ENDING, pack_dataset
from paretune.data.rows import read_bytes
from paretune.execution.worker_settings import WorkerSettings
from paretune.planning.prepare import PreparedStudy
from paretune.study import ModelSpec, Run
from paretune.study.specs import SHIPPED_LANGUAGES
from paretune.training import Outcome


@dataclass(frozen=True)
class StudyInputs:
    """What the runs of a study read; each file is named by its content.

    Attributes:
        datasets: name of the packed file, by the task's key.
        texts: name of the file of a forgetting text, by its path where the study was planned.
        weights_hashes: of the files of each model.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    weights_hashes: Mapping[ModelSpec, str] = field(default_factory=dict)

    def list_files(self, run: Run) -> set[str]:
        """Names of the files that a run reads."""
        text = "" if run.forgetting is None else run.forgetting.text
        return {self.datasets.get(run.task.key, ""), self.texts.get(text, "")} - {""}

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


@dataclass(frozen=True)
class Assignment:
    """Runs for one task: a fleet, or one alone.

    Attributes:
        number: tells the tasks of one process apart.
        settings: of the worker.
        inputs: what the runs of the study read; ``contents`` are the files of these runs, by name.
        stored_settings: of the store, about these runs.
        checkpoints: the newest of each run that has one, by run id.
        memory_bytes: that it takes of the node; 0: not known.
        whole_node: nothing runs beside it. All measurements of costs get the same node.
        version: of paretune where the runs were claimed; a node has the same.
    """

    number: int
    runs: Mapping[str, Run]
    settings: WorkerSettings
    inputs: StudyInputs = field(default_factory=StudyInputs)
    contents: Mapping[str, bytes] = field(default_factory=dict)
    stored_settings: Mapping[str, str] = field(default_factory=dict)
    checkpoints: Mapping[str, bytes] = field(default_factory=dict)
    memory_bytes: int = 0
    whole_node: bool = False
    version: str = field(default_factory=lambda: version("paretune"))

    @property
    def measures_cost(self) -> bool:
        """Whether it is the measurement of a cost."""
        return any(run.stage == "cost" for run in self.runs.values())


@dataclass(frozen=True)
class ProgressReport:
    """The newest ``step``, ``steps``, ``loss``, ``note`` of a run.

    ``checkpoint``: its state, from which another node goes on; None: not sent this time.
    """

    run_id: str
    progress: Mapping[str, Any]
    checkpoint: bytes | None = None


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


Event = ProgressReport | Done | Failed | Learned | TaskEnded
