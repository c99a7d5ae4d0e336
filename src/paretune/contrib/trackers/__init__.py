"""``track``: mirror a store to an experiment tracker. Needs no torch.

The store is the source of truth. A tracker receives what the store holds, run by run, and reports
itself which runs it holds completely: mirroring again adds what is new, duplicates nothing, and
completes a mirror that was interrupted. No run of a study waits for a tracker or fails with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from paretune.errors import StudyError, TrackerError, require_name, spell_option
from paretune.verbs.options import Flag, Folder, Seconds, StoreFolder, StudyLike
from paretune.verbs.report import load_results
from paretune.verbs.result import Result, Tell, tell_nothing
from paretune.verbs.watch import open_progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.contrib.trackers.libraries import Tracker
    from paretune.verbs.report import StudyResults

POLL_SECONDS = 5.0


def open_tracker(name: str, output: str, study: str) -> Tracker:
    """A tracker that writes to ``output``, for the study of this name.

    Raises:
        StudyError: there is no such tracker, or it cannot write there.
        TrackerError: its library is not installed, or cannot use the place.
    """
    from paretune.contrib.trackers.libraries import TRACKERS

    require_name("tracker", name, TRACKERS, spell_option("to"))
    spec = find_spec(name)
    if spec is None or spec.origin is None:  # a folder of that name is no package
        raise TrackerError(
            f"the package {name} is not installed.",
            where=spell_option("to", name),
            remedy=f"pip install {name}",
        )
    if "://" not in output:
        try:
            Path(output).mkdir(parents=True, exist_ok=True)
            reason = "" if os.access(output, os.W_OK) else "Permission denied"
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            raise TrackerError(
                f"the folder cannot be written ({reason}).",
                where=output,
                remedy=f"Choose another with {spell_option('output')}.",
            )
    elif name != "mlflow":
        raise StudyError(
            f"{name} is mirrored into a folder.",
            where=spell_option("output", output),
            remedy="Name a folder.",
        )
    return TRACKERS[name](output, study)


@dataclass(frozen=True, repr=False)
class TrackResult(Result):
    """Runs and cells that a tracker has.

    Attributes:
        tracker: its name.
        output: where they are mirrored.
        new: mirrored now.
        there: mirrored before.
    """

    tracker: str
    output: str
    new: int
    there: int

    def describe(self) -> Iterable[RenderableType]:
        """One line."""
        yield f"{self.new} mirrored, {self.there} there before; {self.tracker} in {self.output}"


def track(
    study: StudyLike,
    *,
    to: Annotated[Literal["tensorboard", "wandb", "mlflow", "trackio"], typer.Option()],
    output: Folder,
    store: StoreFolder = None,
    follow: Flag = False,
    every: Seconds | None = None,
    tell: Tell = tell_nothing,
) -> TrackResult:
    """Copy results into an experiment tracker.

    Settings, curves, scores and costs. The store is only read; what the tracker has already is left
    alone, so the command may be repeated. Runs are mirrored when they have ended. Nothing is sent
    anywhere, except to an address that --output names.

    Args:
        to: The tracker; its package is installed apart.
        output: Folder to mirror into; for mlflow also a server's address.
        follow: Continue until the study is done, or Ctrl-C.
        every: With --follow: polling interval. [default: 5]
        tell: called with what was mirrored whenever another run has ended.

    Raises:
        StudyError: no such study or tracker.
        StoreError: the store is missing or damaged, or never ran this study.
        TrackerError: the tracker's library is not installed, or refused an entry; the same call
            continues from there.
    """
    if every is not None and not follow:
        follows = spell_option("follow", True)
        raise StudyError(f"needs {follows}.", where=spell_option("every"), remedy=f"Add {follows}.")
    results = load_results(study, store)
    tracker = open_tracker(to, str(output), results.study.study)
    mirrored = TrackResult(to, str(output), *mirror_results(results, tracker))
    if not follow:
        return mirrored
    with open_progress(results.study, results.folder) as read_progress:
        try:
            while not (progress := read_progress()).finished:
                time.sleep(every or POLL_SECONDS)
                if read_progress().ended != progress.ended:
                    tell(mirrored)
                    results = load_results(results.study, results.folder)
                    mirrored = TrackResult(to, str(output), *mirror_results(results, tracker))
        except KeyboardInterrupt:
            tell("Stopped following; the same command continues.")
    return mirrored


def mirror_results(results: StudyResults, tracker: Tracker) -> tuple[int, int]:
    """Write the entries that a tracker lacks; their number, and that of those it has.

    Raises:
        TrackerError: the tracker refused one.
    """
    from paretune.analysis.cells import group_into_cells
    from paretune.contrib.trackers.entry import cell_entry, cell_identity, run_entry, run_identity

    study = results.study
    cells = group_into_cells(study, results.records, results.states)
    metrics = {cell.task: cell.metric for cell in cells}
    # Intervals take time: an entry is made only where it is missing.
    entries = {
        run_identity(record): partial(run_entry, study, record, metrics[record.run.task.key])
        for record in results.records
    } | {
        cell_identity(cell): partial(cell_entry, study, cell)
        for cell in cells
        if cell.final and cell.finished
    }
    try:
        missing = [name for name in entries if not tracker.has(name)]
        try:
            for name in missing:
                tracker.write(entries[name]())
        finally:
            tracker.flush()
    except tracker.errors as error:
        raise TrackerError(
            f"{type(tracker).__name__} refused an entry ({error}).",
            where=tracker.output,
            remedy="The same command continues from there.",
        ) from error
    return len(missing), len(entries) - len(missing)
