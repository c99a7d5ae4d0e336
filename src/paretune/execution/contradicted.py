"""A cost that the study's own steps contradict is measured again, in another process, once.

Somebody else may have used the machine just then. Where the second measurement says the same, it is
kept with what contradicts it, for the report to show.
"""

from __future__ import annotations

from typing import Any

from paretune.execution.executor import Outcome
from paretune.store import Claim, Store

AGAIN = "again/"
"""A setting of the store for a cost that is measured again: the seconds of the first attempt."""


def again(store: Store, study_hash: str, claim: Claim, outcome: Outcome) -> bool:
    """Whether the run is to be measured once more; otherwise what was found is noted in it."""
    from paretune.analysis.costs import contradiction

    before = store.setting(f"{AGAIN}{claim.run_id}")
    own = [r for r in store.records(study_hash) if r.run.cell == claim.run.cell]
    found = contradiction(outcome.measured, claim.run, own)
    if found and before is None:
        step: Any = outcome.measured["step_seconds"]
        store.set_setting(f"{AGAIN}{claim.run_id}", str(step["median"]))
        return True
    if before is not None:
        outcome.measured["measured_again"] = {"first_step_seconds": float(before)}
    if found:
        outcome.measured["contradicted"] = found
    return False
