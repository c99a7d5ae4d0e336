"""The statuses of a study's runs, read once; later only what has changed since the last look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from paretune.store.status import RunStatus


@dataclass(frozen=True)
class StoredStatus:
    """The status of a run as it is stored, without what depends on the moment.

    Attributes:
        revision: of its last change.
        position: its place in the order of the study.
        status: not claimable, and without ``seconds`` while it is running.
        started: when a running run was claimed, by the store's clock.
    """

    revision: int
    position: int
    status: RunStatus
    started: float | None = None


@dataclass(frozen=True)
class Moment:
    """What depends on the moment, and on who asks.

    Attributes:
        now: by the store's clock.
        training_waits: for a cost that is measured; ``cost_waits``: for what would disturb it.
        abandoned: running runs whose claim has ended.
        by_worker: the runs that each worker executes now on the asker's device, of all studies.
    """

    now: float
    training_waits: bool
    cost_waits: bool
    abandoned: frozenset[str] = frozenset()
    by_worker: Sequence[Sequence[str]] = ()

    def is_claimable(self, status: RunStatus) -> bool:
        """Whether who asks could claim the run."""
        if self.cost_waits if status.stage == "cost" else self.training_waits:
            return False
        return status.state == "todo" or (
            status.state == "running" and status.run_id in self.abandoned
        )


@dataclass(frozen=True)
class StatusChanges:
    """What has changed since a revision.

    Attributes:
        revision: of the last change.
        changed: in the order of their revisions.
        gone: ids of runs that the study has no more.
        complete: ``changed`` are all runs that there are.
    """

    revision: int
    changed: Sequence[StoredStatus]
    gone: Sequence[str] = ()
    complete: bool = False


@dataclass
class StatusView:
    """The statuses of one study, as they were at ``revision``."""

    revision: int = 0
    _loaded_at: int = 0
    _stored: dict[str, StoredStatus] = field(default_factory=dict)  # by revision
    _gone: dict[str, int] = field(default_factory=dict)
    _open: dict[str, StoredStatus] = field(default_factory=dict)  # by position
    _open_in_order: bool = True
    _order: list[str] | None = None
    _assembled: dict[str, RunStatus] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)
    _running: set[str] = field(default_factory=set)
    _waits: dict[bool, bool] = field(default_factory=lambda: {False: False, True: False})

    def apply(self, changes: StatusChanges) -> None:
        """Take in what has changed since :attr:`revision`."""
        if changes.complete:
            before, self._stored, self._order = self._stored, {}, None
            for run_id in before.keys() - {one.status.run_id for one in changes.changed}:
                self._forget(run_id)
            self._gone.clear()
            self._loaded_at = changes.revision
        for stored in changes.changed:
            self._take(stored)
        for run_id in changes.gone:
            if self._stored.pop(run_id, None) is not None:
                self._forget(run_id)
                self._gone[run_id] = changes.revision
        self.revision = changes.revision

    def get(self, run_id: str) -> StoredStatus | None:
        """The status of a run of the study."""
        return self._stored.get(run_id)

    def list_changes(self, since: int) -> StatusChanges:
        """What has changed since a revision that another view is at."""
        if not 0 < self._loaded_at <= since <= self.revision:
            return StatusChanges(self.revision, list(self._stored.values()), complete=True)
        changed: list[StoredStatus] = []
        for stored in reversed(self._stored.values()):
            if stored.revision <= since:
                break
            changed.append(stored)
        gone = [run_id for run_id, revision in self._gone.items() if revision > since]
        return StatusChanges(self.revision, changed[::-1], gone)

    def iterate_open(self) -> Iterator[StoredStatus]:
        """The runs that have not ended, in the order of the study."""
        if not self._open_in_order:
            self._open = dict(sorted(self._open.items(), key=lambda item: item[1].position))
            self._open_in_order = True
        return iter(self._open.values())

    def assemble(self, moment: Moment) -> list[RunStatus]:
        """The statuses at a moment, in order; a value that is as before is the same object."""
        if self._order is None:
            self._order = sorted(self._stored, key=lambda run_id: self._stored[run_id].position)
        for is_cost, waits in ((False, moment.training_waits), (True, moment.cost_waits)):
            if waits != self._waits[is_cost]:
                self._waits[is_cost] = waits
                of_this_kind = (r for r, s in self._open.items() if _is_cost(s) == is_cost)
                self._changed.update(of_this_kind)
        for run_id in self._changed | self._running:
            self._assembled[run_id] = _assemble(self._stored[run_id], moment)
        self._changed.clear()
        return [self._assembled[run_id] for run_id in self._order]

    def _take(self, stored: StoredStatus) -> None:
        run_id, status = stored.status.run_id, stored.status
        before = self._stored.pop(run_id, None)
        if before is None or before.position != stored.position:
            self._order = None
        if status.ended:
            self._open.pop(run_id, None)
        else:
            known = self._open.get(run_id)
            self._open_in_order &= known is not None and known.position == stored.position
            self._open[run_id] = stored
        (self._running.add if status.state == "running" else self._running.discard)(run_id)
        self._stored[run_id] = stored
        self._gone.pop(run_id, None)
        self._changed.add(run_id)

    def _forget(self, run_id: str) -> None:
        self._open.pop(run_id, None)
        self._assembled.pop(run_id, None)
        self._changed.discard(run_id)
        self._running.discard(run_id)
        self._order = None


def _is_cost(stored: StoredStatus) -> bool:
    return stored.status.stage == "cost"


def _assemble(stored: StoredStatus, moment: Moment) -> RunStatus:
    status, claimable = stored.status, moment.is_claimable(stored.status)
    if stored.started is not None:  # the clock may be set back
        seconds = max(0.0, moment.now - stored.started)
        return replace(status, is_claimable=claimable, seconds=seconds)
    return replace(status, is_claimable=True) if claimable else status
