"""What travels between the process that owns the store and a node: values, no files.

An :class:`Assignment` goes out; events come back. All of them can be pickled, since Ray
sends them so between its own processes: its cluster is to be trusted as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paretune.execution.worker_settings import WorkerSettings
from paretune.planning.inputs import StudyInputs
from paretune.study import Run


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
    """A run has ended; arguments as of :meth:`paretune.store.Storage.finish`."""

    run_id: str
    result: Mapping[str, Any]
    measured: Mapping[str, Any]
    blobs: Mapping[str, bytes]


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
