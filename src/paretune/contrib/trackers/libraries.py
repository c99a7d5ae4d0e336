"""The trackers: each writes an entry by its own library, which is imported when it is opened.

TensorBoard
    A folder of event files for each entry, ``task/model/method/kind_identity``, which is written
    under a temporary name and renamed: one with its final name is complete. ``tensorboard --logdir
    FOLDER`` shows curves under Time Series and settings under HParams. Needs no TensorFlow.
Weights & Biases
    Offline, a run folder for each entry, with its identity as run id. ``wandb sync
    FOLDER/wandb/offline-run-*`` uploads what was mirrored, to the account that is logged in there.
MLflow
    A run for each entry, found again by the tag ``paretune.identity``. Into a folder it writes
    ``mlflow.db`` (``mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db`` shows it); into an
    address (``http://...``) it writes to that server. The study is the experiment.
trackio
    One project for the study, a run for each entry. ``TRACKIO_DIR=FOLDER trackio show`` opens its
    dashboard.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretune.errors import TrackerError
from paretune.files import make_file_name

if TYPE_CHECKING:
    from paretune.contrib.trackers.entry import Entry

_PART = ".part-"
_WANDB_COMPLETE = "paretune-whole"
"""A file in a run's folder, written after everything else. W&B's own process writes the run and may
not be done when ``finish`` returns (half of the runs on a busy machine); it is once it has ended.
"""
_MLFLOW_IDENTITY = "paretune.identity"
_MLFLOW_BATCH = 100
"""Maximum number of parameters in one request to a server; of metrics it is 1,000."""


class Tracker(ABC):
    """Where entries are mirrored to.

    Attributes:
        output: the folder, or a server's address.
        errors: what the library raises where it refuses an entry.
    """

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, output: str, study: str) -> None:
        self.output, self._study = output, study

    @abstractmethod
    def has(self, identity: str) -> bool:
        """Whether the entry of this identity is stored completely."""

    @abstractmethod
    def write(self, entry: Entry) -> None:
        """Write an entry, in place of an incomplete one."""

    def flush(self) -> None:  # noqa: B027 (most store an entry as it is written)
        """Return when all written entries are stored; more may be written after that."""


class TensorBoard(Tracker):
    """Event files in a folder, whose first level is the study's name."""

    def __init__(self, output: str, study: str) -> None:
        super().__init__(output, study)
        self._folder = Path(output) / make_file_name(study)
        names = [path.name for path in self._folder.glob("*/*/*/*")]
        self._complete = {n.rpartition("_")[2] for n in names if not n.startswith(_PART)}

    def has(self, identity: str) -> bool:
        """See :class:`Tracker`."""
        return identity in self._complete

    def write(self, entry: Entry) -> None:
        """See :class:`Tracker`."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.plugins.text.summary_v2 import text_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        def scalars(values: Mapping[str, float]) -> Any:
            pairs = values.items()
            return Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in pairs])

        cell = Path(*(make_file_name(str(entry.settings[k])) for k in ("task", "model", "method")))
        part = self._folder / cell / f"{_PART}{entry.identity}"
        if part.exists():
            shutil.rmtree(part)
        texts = {"name": entry.name, "outcome": entry.outcome, **entry.texts}
        events = [(0, hparams_pb(dict(entry.settings), trial_id=entry.identity))]
        events += [(0, text_pb(name, text)) for name, text in texts.items()]
        events += [(step, scalars(values)) for step, values in (*entry.curve, (0, entry.numbers))]
        writer = EventFileWriter(str(part))
        try:
            for step, summary in events:
                writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
            writer.flush()
        finally:
            writer.close()
        part.rename(part.with_name(f"{entry.kind}_{entry.identity}"))
        self._complete.add(entry.identity)


class Wandb(Tracker):
    """Run folders in a folder; the study is the project."""

    def __init__(self, output: str, study: str) -> None:
        # Read at import; without it W&B sends its own errors to its makers, offline too.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        super().__init__(output, study)
        self.errors = (wandb.errors.Error, OSError)
        self._written: list[Path] = []

    def has(self, identity: str) -> bool:
        """See :class:`Tracker`."""
        return any((folder / _WANDB_COMPLETE).exists() for folder in self._folders(identity))

    def write(self, entry: Entry) -> None:
        """See :class:`Tracker`."""
        import wandb

        for partial in self._folders(entry.identity):
            shutil.rmtree(partial)
        run = wandb.init(
            project=self._study,
            id=entry.identity,
            name=entry.name,
            group=entry.group,
            job_type=entry.kind,
            tags=[entry.kind],
            config=dict(entry.settings),
            dir=self.output,
            mode="offline",
            reinit="create_new",
            # Only the entry: not the console, the repository or the machine that mirrors it.
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_save_requirements=False,
            ),
        )
        for step, values in entry.curve:
            run.log(dict(values), step=step)
        run.summary.update({**entry.numbers, **entry.texts, "outcome": entry.outcome})
        run.finish()
        self._written.append(Path(run.dir).parent)

    def flush(self) -> None:
        """End W&B's process, which starts again when it is needed, and mark what it wrote."""
        import wandb

        wandb.teardown()
        while self._written:
            (self._written.pop() / _WANDB_COMPLETE).touch()

    def _folders(self, identity: str) -> list[Path]:
        return list((Path(self.output) / "wandb").glob(f"offline-run-*-{identity}"))


class MLflow(Tracker):
    """An experiment of a server, or of a database in a folder."""

    def __init__(self, output: str, study: str) -> None:
        # Read at import; without it MLflow reports usage to its makers.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        super().__init__(output, study)
        self.errors = (MlflowException,)
        folder = None if "://" in output else Path(output).resolve()
        address = output if folder is None else f"sqlite:///{folder / 'mlflow.db'}"
        artifacts = None if folder is None else (folder / "artifacts").as_uri()
        self._client: Any = MlflowClient(tracking_uri=address)
        try:
            experiment = self._client.get_experiment_by_name(study)
            self._experiment = (
                experiment.experiment_id
                if experiment
                else self._client.create_experiment(study, artifacts)
            )
        except MlflowException as error:
            raise TrackerError(f"MLflow cannot be opened ({error}).", where=output) from error

    def has(self, identity: str) -> bool:
        """See :class:`Tracker`."""
        return any(run.info.status == "FINISHED" for run in self._find_runs(identity))

    def write(self, entry: Entry) -> None:
        """See :class:`Tracker`."""
        from mlflow.entities import Metric, Param

        tags = {_MLFLOW_IDENTITY: entry.identity, "kind": entry.kind, "cell": entry.group}
        tags |= {"outcome": entry.outcome, **entry.texts}
        settings = [Param(name, str(value)) for name, value in entry.settings.items()]
        for partial in self._find_runs(entry.identity):
            self._client.delete_run(partial.info.run_id)
        run = self._client.create_run(self._experiment, tags=tags, run_name=entry.name)
        begun, run_id = run.info.start_time, run.info.run_id
        for start in range(0, len(settings), _MLFLOW_BATCH):
            self._client.log_batch(run_id, params=settings[start : start + _MLFLOW_BATCH])
        for step, values in (*entry.curve, (0, entry.numbers)):
            metrics = [Metric(name, value, begun, step) for name, value in values.items()]
            self._client.log_batch(run_id, metrics=metrics)
        self._client.set_terminated(run_id, "FINISHED")

    def _find_runs(self, identity: str) -> list[Any]:
        query = f"tags.`{_MLFLOW_IDENTITY}` = '{identity}'"
        return list(self._client.search_runs([self._experiment], query))


class Trackio(Tracker):
    """One project in trackio's database.

    A failed write is only a warning of trackio, so what it has is counted afterwards; and it has no
    mark of a whole run, so the project's metadata keep one.

    Raises:
        TrackerError: this process has used trackio for another folder, which it cannot change.
    """

    errors = (OSError, ValueError, sqlite3.Error)

    def __init__(self, output: str, study: str) -> None:
        folder = Path(output).resolve()
        # trackio reads its folder once, when it is imported; the other two would send it elsewhere.
        os.environ["TRACKIO_DIR"] = str(folder)
        for elsewhere in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
            os.environ.pop(elsewhere, None)
        import trackio

        if Path(trackio.TRACKIO_DIR).resolve() != folder:
            raise TrackerError(
                f"trackio writes to {trackio.TRACKIO_DIR} in this process already.",
                where=str(folder),
                remedy="Start a new process for another folder.",
            )
        super().__init__(str(folder), study)
        self._trackio: Any = trackio
        self._storage = trackio.SQLiteStorage

    def has(self, identity: str) -> bool:
        """See :class:`Tracker`."""
        if not self._storage.get_project_db_path(self._study).exists():
            return False
        mark = self._storage.get_project_metadata(self._study, f"paretune/{identity}")
        return bool(mark == "whole")

    def write(self, entry: Entry) -> None:
        """See :class:`Tracker`."""
        name = f"{entry.name} {entry.identity}"
        last = max((step for step, _ in entry.curve), default=0) + 1
        results = {**entry.numbers, "outcome": entry.outcome, **entry.texts}
        if self._storage.get_project_db_path(self._study).exists():
            self._storage.delete_run(self._study, name)
        # It prints to standard output, which belongs to the user.
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            run = self._trackio.init(
                project=self._study,
                name=name,
                group=entry.group,
                config={**entry.settings, "kind": entry.kind, "identity": entry.identity},
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            for step, values in (*entry.curve, (last, results)):
                run.log(dict(values), step=step)
            self._trackio.finish()  # not the run's own: it would be ended again at exit
        rows = int(self._storage.get_log_count(self._study, name))
        if rows != len(entry.curve) + 1:
            raise OSError(f"{rows} of {len(entry.curve) + 1} rows. {printed.getvalue().strip()}")
        self._storage.set_project_metadata(self._study, f"paretune/{entry.identity}", "whole")


TRACKERS: Mapping[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": MLflow,
    "trackio": Trackio,
}
"""By their names, which are also those of the packages."""
