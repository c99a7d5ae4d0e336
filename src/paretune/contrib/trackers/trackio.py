"""trackio, into a folder: one project for the study, a run for each entry.

``TRACKIO_DIR=FOLDER trackio show`` opens its dashboard. trackio tells of a failed write only by a
warning, so what it has is counted afterwards; and it has no mark of a whole run, so the project's
metadata keep one.
"""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
from pathlib import Path
from typing import Any

from paretune.contrib.trackers.entry import Entry, Tracker
from paretune.errors import TrackerError


class Trackio(Tracker):
    """One project in trackio's database.

    Raises:
        TrackerError: this process has used trackio for another folder, which it cannot change.
    """

    def __init__(self, into: str, study: str) -> None:
        folder = Path(into).resolve()
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
        self._trackio: Any = trackio
        self._project = study

    def has(self, identity: str) -> bool:
        """See :class:`Tracker`."""
        storage = self._trackio.SQLiteStorage
        if not storage.get_project_db_path(self._project).exists():
            return False
        return bool(storage.get_project_metadata(self._project, f"paretune/{identity}") == "whole")

    def write(self, entry: Entry) -> None:
        """See :class:`Tracker`."""
        storage, name = self._trackio.SQLiteStorage, f"{entry.name} {entry.identity}"
        points: list[tuple[int, dict[str, Any]]] = [(step, dict(v)) for step, v in entry.curve]
        last = (points[-1][0] if points else 0) + 1
        points.append((last, {**entry.numbers, "outcome": entry.outcome, **entry.texts}))
        # It prints to standard output, which belongs to the user.
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                rows = self._log(entry, name, points)
            except (ValueError, OSError, sqlite3.Error) as error:
                raise self._refused(entry, str(error)) from error
        if rows != len(points):
            raise self._refused(
                entry, f"{rows} of {len(points)} rows. {printed.getvalue().strip()}"
            )
        storage.set_project_metadata(self._project, f"paretune/{entry.identity}", "whole")

    def _log(self, entry: Entry, name: str, points: list[tuple[int, dict[str, Any]]]) -> int:
        """The number of rows afterwards."""
        storage = self._trackio.SQLiteStorage
        if storage.get_project_db_path(self._project).exists():
            storage.delete_run(self._project, name)
        run = self._trackio.init(
            project=self._project,
            name=name,
            group=entry.group,
            config={**entry.settings, "kind": entry.kind, "identity": entry.identity},
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        for step, values in points:
            run.log(values, step=step)
        self._trackio.finish()  # not the run's own: it would be ended again at exit
        return int(storage.get_log_count(self._project, name))

    def _refused(self, entry: Entry, reason: str) -> TrackerError:
        return TrackerError(
            f"trackio did not store {entry.identity} completely ({reason}).",
            where=str(self._trackio.TRACKIO_DIR),
            remedy="The same command continues from there.",
        )
