"""What a search has proposed, kept in the store and decided once.

A search is replayed from its results whenever it goes on. Its arithmetic may round otherwise on
another processor or with other libraries, and propose other configurations there: trials that have
ended would no longer be its own. It would also be repeated by each command, and a proposal of
Optuna's Gaussian process takes seconds. So each batch is a setting of the store, by the digest of
all that it follows from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from paretune.autopeft.schedule import History
from paretune.autopeft.space import Configuration
from paretune.store import Store
from paretune.study import digest

PREFIX = "proposals/"


@dataclass(frozen=True)
class StoredProposals:
    """Batches of one search (:class:`~paretune.autopeft.schedule.Proposals`).

    Attributes:
        store: None where nothing is kept beyond this process.
        search: digest of all that its proposals follow from beside its trials.
        known: batches that were read or proposed already.
    """

    store: Store | None
    search: str
    known: dict[History, Sequence[Configuration]]

    def find(self, history: History) -> Sequence[Configuration] | None:
        """The batch that followed; None where none is known."""
        if history not in self.known and self.store is not None:
            text = self.store.get_setting(self._name(history))
            if text is not None:
                self.known[history] = _read(text)
        return self.known.get(history)

    def keep(self, history: History, batch: Sequence[Configuration]) -> Sequence[Configuration]:
        """Keep a batch unless there is one; return the one that is kept."""
        if self.store is not None and self.store.is_writable:
            text = json.dumps([asdict(one) for one in batch])
            batch = _read(self.store.set_default_setting(self._name(history), text))
        return self.known.setdefault(history, batch)

    def _name(self, history: History) -> str:
        # Scores are in the records to the bit; their variances are computed, and may round.
        trials = [
            [asdict(one), trial.score, trial.lost] for one, trial in zip(*history, strict=True)
        ]
        return f"{PREFIX}{digest([self.search, trials])}"


def _read(text: str) -> tuple[Configuration, ...]:
    return tuple(
        Configuration(tuple(map(tuple, one["groups"])), one["rate"]) for one in json.loads(text)
    )
