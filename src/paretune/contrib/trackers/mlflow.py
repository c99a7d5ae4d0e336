"""MLflow: a run for each entry, found again by the tag ``paretune.identity``.

Into a folder it writes ``mlflow.db`` (SQLite; ``mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db``
shows it); into an address (``http://...``) it writes to that server. The study is the experiment.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from paretune.contrib.trackers.entry import Entry, Tracker
from paretune.errors import TrackerError

_IDENTITY = "paretune.identity"
_BATCH = 100
"""Maximum number of parameters in one request to a server; of metrics it is 1,000."""


class MLflow(Tracker):
    """An experiment of a server, or of a database in a folder.

    Raises:
        TrackerError: it cannot be opened.
    """

    def __init__(self, into: str, study: str) -> None:
        # Read at import; without it MLflow reports usage to its makers.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        folder = None if "://" in into else Path(into).resolve()
        address = into if folder is None else f"sqlite:///{folder / 'mlflow.db'}"
        artifacts = None if folder is None else (folder / "artifacts").as_uri()
        self._into = into
        try:
            self._client: Any = MlflowClient(tracking_uri=address)
            experiment = self._client.get_experiment_by_name(study)
            self._experiment = (
                experiment.experiment_id
                if experiment
                else self._client.create_experiment(study, artifacts)
            )
        except MlflowException as error:
            raise _refused(str(error), into) from error

    def has(self, identity: str) -> bool:
        """See :class:`Tracker`."""
        return any(run.info.status == "FINISHED" for run in self._find_runs(identity))

    def write(self, entry: Entry) -> None:
        """See :class:`Tracker`."""
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException

        tags = {_IDENTITY: entry.identity, "kind": entry.kind, "cell": entry.group}
        tags |= {"outcome": entry.outcome, **entry.texts}
        settings = [Param(name, str(value)) for name, value in entry.settings.items()]
        points = [(step, values) for step, values in (*entry.curve, (0, entry.numbers))]
        try:
            for partial in self._find_runs(entry.identity):
                self._client.delete_run(partial.info.run_id)
            run = self._client.create_run(self._experiment, tags=tags, run_name=entry.name)
            begun, at = run.info.start_time, run.info.run_id
            for start in range(0, len(settings), _BATCH):
                self._client.log_batch(at, params=settings[start : start + _BATCH])
            for step, values in points:
                metrics = [Metric(name, value, begun, step) for name, value in values.items()]
                self._client.log_batch(at, metrics=metrics)
            self._client.set_terminated(at, "FINISHED")
        except MlflowException as error:
            raise _refused(f"{entry.identity}: {error}", self._into) from error

    def _find_runs(self, identity: str) -> list[Any]:
        from mlflow.exceptions import MlflowException

        try:
            query = f"tags.`{_IDENTITY}` = '{identity}'"
            return list(self._client.search_runs([self._experiment], query))
        except MlflowException as error:
            raise _refused(str(error), self._into) from error


def _refused(reason: str, into: str) -> TrackerError:
    return TrackerError(
        f"MLflow refused it: {reason}.",
        where=into,
        remedy="The same command continues from there.",
    )
