"""Weights & Biases, offline: a run folder for each entry, with the entry's identity as run id.

Nothing is sent. ``wandb sync FOLDER/wandb/offline-run-*`` uploads what was mirrored, to the account
that is logged in there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from paretune.contrib.trackers.entry import Entry, Tracker
from paretune.errors import TrackerError

_COMPLETE = "paretune-whole"
"""A file in a run's folder, written after everything else. W&B's own process writes the run and may
not be done when ``finish`` returns (half of the runs on a busy machine); it is once it has ended.
"""


class Wandb(Tracker):
    """Run folders in a folder; the study is the project."""

    def __init__(self, into: str, study: str) -> None:
        # Read at import; without it W&B sends its own errors to its makers, offline too.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        self._folder, self._project = Path(into), study
        self._written: list[Path] = []

    def has(self, identity: str) -> bool:
        """See :class:`Tracker`."""
        return any((folder / _COMPLETE).exists() for folder in self._folders(identity))

    def write(self, entry: Entry) -> None:
        """See :class:`Tracker`."""
        import wandb

        try:
            for partial in self._folders(entry.identity):
                shutil.rmtree(partial)
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
        except (wandb.errors.Error, OSError) as error:
            raise TrackerError(
                f"Weights & Biases refused {entry.identity} ({error}).",
                where=str(self._folder),
                remedy="The same command continues from there.",
            ) from error

    def flush(self) -> None:
        """End W&B's process, which starts again when it is needed, and mark what it wrote."""
        import wandb

        wandb.teardown()
        while self._written:
            (self._written.pop() / _COMPLETE).touch()

    def _folders(self, identity: str) -> list[Path]:
        return list((self._folder / "wandb").glob(f"offline-run-*-{identity}"))
