"""Weights & Biases, offline: a run folder for each entry, with the entry's identity as run id.

Nothing is sent. ``wandb sync FOLDER/wandb/offline-run-*`` uploads what was mirrored, to the account
that is logged in there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from paretune.contrib.trackers.entry import Entry
from paretune.errors import TrackerError

_WHOLE = "paretune-whole"
"""A file in a run's folder, written when all else is. W&B's own process writes the run, and has not
done so when ``finish`` returns (half of the runs on a busy machine); it has when it was ended.
"""


def open_in(into: str, study: str) -> Wandb:
    """For the folder ``into``; the study is the project."""
    # Read when it is imported: it would send its own errors to its makers, offline too.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    return Wandb(Path(into), study)


class Wandb:
    """See :class:`paretune.contrib.trackers.tracker.Tracker`."""

    def __init__(self, folder: Path, project: str) -> None:
        self._folder, self._project = folder, project
        self._written: list[Path] = []

    def has(self, identity: str) -> bool:
        """See :class:`paretune.contrib.trackers.tracker.Tracker`."""
        return any((found / _WHOLE).exists() for found in self._folders(identity))

    def write(self, entry: Entry) -> None:
        """See :class:`paretune.contrib.trackers.tracker.Tracker`."""
        import wandb

        try:
            for left in self._folders(entry.identity):
                shutil.rmtree(left)
            run = wandb.init(
                project=self._project,
                id=entry.identity,
                name=entry.name,
                group=entry.group,
                job_type=entry.kind,
                tags=[entry.kind],
                config=dict(entry.settings),
                dir=str(self._folder),
                mode="offline",
                reinit="create_new",
                # The entry alone: not the console, the repository, the machine that mirrors it.
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
        except (wandb.errors.Error, OSError) as error:
            raise TrackerError(
                f"Weights & Biases did not take {entry.identity} ({error}).",
                where=str(self._folder),
                remedy="The same command goes on from there.",
            ) from error

    def flush(self) -> None:
        """End W&B's process, which starts again when it is needed, and mark what it wrote."""
        import wandb

        wandb.teardown()
        while self._written:
            (self._written.pop() / _WHOLE).touch()

    def _folders(self, identity: str) -> list[Path]:
        return list((self._folder / "wandb").glob(f"offline-run-*-{identity}"))
