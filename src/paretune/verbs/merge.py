"""``merge``: the ended runs of several stores in one. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paretune.errors import StudyError


@dataclass(frozen=True)
class MergeResult:
    """What one store gave; numbers of runs.

    Attributes:
        folder: of the store.
        added: runs that are new in the merged store.
        present: that it had already, with the same result.
        own: that it had already, with another result that stays.
        running: that a worker executes there now, and that were left to it.
    """

    folder: Path
    added: int
    present: int
    own: int
    running: int


def merge(
    stores: Sequence[Path | str], output: Path | str, *, keep_own: bool = False
) -> tuple[MergeResult, ...]:
    """Take the ended runs of stores into one, which may exist: each run once.

    A run's identity is what it trained on and how, so it does not matter which machine it ran on.
    A study whose runs ended in several stores is whole in the merged one, and ``run`` there
    executes only what is missing. The given stores stay as they are.

    Args:
        stores: folders of results.
        output: folder of the merged results.
        keep_own: where a run was done in two stores with different results, keep the first.

    Raises:
        StudyError: no store is given, or one that is also the output.
        StoreError: a store is missing or damaged; or runs contradict each other. What came from
            the stores before it stays.
    """
    from paretune.store import Store

    folders, into = [Path(store) for store in stores], Path(output)
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
            with Store.open(folder) as other:
                plan = merged.merge(other, keep_own=keep_own)
            results.append(
                MergeResult(
                    folder=folder,
                    added=len(plan.added),
                    present=len(plan.present),
                    own=len(plan.contradictory),
                    running=len(plan.running),
                )
            )
    return tuple(results)
