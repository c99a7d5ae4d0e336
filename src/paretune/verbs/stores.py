"""``merge`` and ``verify``: stores as a whole. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.errors import ParetuneError, StoreError, StudyError
from paretune.files import converted_models_home, has_valid_checksum
from paretune.models.sources.convert import is_whole_copy
from paretune.store import Store
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs import study_input
from paretune.verbs.options import Flag, Folder, StoreFolder, StudyLike
from paretune.verbs.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.terminal.rich_console import Terminal


@dataclass(frozen=True)
class MergedStore:
    """Numbers of runs that one store gave.

    Attributes:
        folder: of the store.
        added: runs that are new in the merged store.
        present: that it had already, with the same result.
        contradictory: that it had already, with another result that stays.
        running: that a worker executes there now, and that were left to it.
    """

    folder: Path
    added: int
    present: int
    contradictory: int
    running: int


@dataclass(frozen=True, repr=False)
class MergeResult(Result):
    """The merged results.

    Attributes:
        folder: of the merged results.
        stores: what each store gave: folder, added, present, contradictory, running.
    """

    folder: Path
    stores: tuple[MergedStore, ...]

    def describe(self) -> Iterable[RenderableType]:
        """A line for each store, and what comes next."""
        for store in self.stores:
            parts = [f"{pluralise(store.added, 'run')} added"]
            if store.present:
                parts.append(f"{store.present} already there")
            if store.contradictory:
                parts.append(f"{store.contradictory} with another result, not added")
            if store.running:
                parts.append(f"{store.running} left to the worker that executes them")
            yield f"{sanitise_line(store.folder)}: {', '.join(parts)}"
        into = sanitise_line(self.folder)
        yield f"Results: {into}; `paretune run STUDY --store` it does what is missing."


def merge(
    stores: Annotated[Sequence[Path | str], typer.Argument(metavar="STORE...")],
    output: Folder,
    *,
    keep_own: Flag = False,
) -> MergeResult:
    """Bring the results of several machines together.

    Each run that has ended is taken once.

    A run's identity is what it trained on and how, so it does not matter which machine it ran on.
    A study whose runs ended in several stores is whole in the merged one, and ``run`` there
    executes only what is missing. The given stores stay as they are.

    Args:
        stores: Folders of results.
        output: The merged results; may exist.
        keep_own: Where a run has different results in two places, keep those of the output, or
            else of the store that is named first.

    Raises:
        StudyError: no store is given, or one that is also the output.
        StoreError: a store is missing or damaged; or runs contradict each other. What came from
            the stores before it stays.
    """
    folders = [Path(store) for store in stores]
    into = Path(output)
    if not folders:
        raise StudyError("names no store.", where="merge", remedy="Name folders of results.")
    if any(folder.resolve() == into.resolve() for folder in folders):
        raise StudyError(
            "is both a source and the output.",
            where=str(into),
            remedy="The output takes from the others: name only those.",
        )
    for folder in folders:  # all can be read, before anything is written
        Store.open(folder).close()
    results = []
    with Store.open(into, create=True) as merged:
        for folder in folders:
            with Store.open(folder) as source:
                plan = merged.merge(source, keep_own=keep_own)
            counts = map(len, (plan.added, plan.present, plan.contradictory, plan.running))
            results.append(MergedStore(folder, *counts))
    return MergeResult(into, tuple(results))


@dataclass(frozen=True, repr=False)
class VerifyResult(Result):
    """Whether a store still says what was written to it.

    Attributes:
        folder: of the results.
        runs: how many ended runs were read.
        problems: a sentence each; exit code 6 where there are any.
    """

    folder: Path
    runs: int
    problems: tuple[str, ...]

    def describe(self) -> Iterable[RenderableType]:
        """Say that all is well, or name each problem."""
        verdict = (
            "all as written" if not self.problems else pluralise(len(self.problems), "problem")
        )
        yield f"{sanitise_line(self.folder)}: {pluralise(self.runs, 'ended run')}, {verdict}."
        yield from (f"  {sanitise_line(problem)}" for problem in self.problems)

    def show(self, out: Terminal) -> None:
        """Print that all is well; problems are what the command fails with."""
        if not self.problems:
            super().show(out)

    @property
    def failure(self) -> ParetuneError | None:
        """The problems."""
        if not self.problems:
            return None
        problems = "\n".join(f"  {sanitise_line(problem)}" for problem in self.problems)
        return StoreError(
            f"{pluralise(len(self.problems), 'problem')}:\n{problems}\n",
            where=str(self.folder),
            remedy="Restore what is damaged from a copy of the store. Without one, "
            "`paretune run STUDY --retry` makes all of it again.",
        )


def verify(study: StudyLike, *, store: StoreFolder = None) -> VerifyResult:
    """Compare every stored result with its checksum.

    Names what changed since it was written: records, blobs, checkpoints of runs that have not
    ended, and converted models, which all studies of this user share.

    Raises:
        StudyError: no such study, or its file cannot be used.
        StoreError: the store is missing, or cannot be read at all.
    """
    folder = study_input.store_folder(study_input.load_study(study), store)
    with Store.open(folder) as opened:
        problems = list(opened.verify())
        # No result rests on these files; a checkpoint goes when its run ends.
        problems += [
            f"{path}: a checkpoint has changed since it was written; its run starts anew"
            for path in sorted((folder / "checkpoints").glob("*.safetensors"))
            if not has_valid_checksum(path) and path.exists()
        ]
        problems += [
            f"{path}: a converted model has changed since it was written; it is converted again"
            for path in sorted(converted_models_home().glob("[!.]*"))
            if not is_whole_copy(path) and path.exists()
        ]
        return VerifyResult(folder, opened.count_ended(), tuple(problems))
