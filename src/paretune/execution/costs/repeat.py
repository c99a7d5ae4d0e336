"""A cost that the study's own steps contradict is measured again, in another process, once.

Somebody else may have used the machine just then. The faster of the two measurements is kept: what
else a machine does only makes it slower. Where the study's own steps contradict that one too, it is
kept with what contradicts it, for the report to show.
"""

from __future__ import annotations

import json
from typing import Any

from paretune.execution.run_executor import Outcome
from paretune.store import Claim, Store
from paretune.store.canonical_json import to_canonical_json

REPEAT_PREFIX = "again/"
"""A setting of the store for a cost that is measured again: what was measured first."""


def needs_repeat(store: Store, study_hash: str, claim: Claim, outcome: Outcome) -> bool:
    """Whether the run is to be measured once more; otherwise the outcome is what is kept of it."""
    from paretune.analysis.pareto.costs import find_contradiction

    before = store.get_setting(f"{REPEAT_PREFIX}{claim.run_id}")
    own = [r for r in store.load_records(study_hash) if r.run.cell == claim.run.cell]
    found = find_contradiction(outcome.measured, claim.run, own)
    if found and before is None:
        first = to_canonical_json(dict(outcome.measured), "measured")
        store.set_setting(f"{REPEAT_PREFIX}{claim.run_id}", first)
        return True
    if before is not None:
        first_measured: dict[str, Any] = json.loads(before)
        both = sorted((dict(outcome.measured), first_measured), key=_step_seconds)
        outcome.measured.clear()
        outcome.measured.update(both[0])
        outcome.measured["measured_again"] = {"other_step_seconds": _step_seconds(both[1])}
        found = find_contradiction(outcome.measured, claim.run, own)
    if found:
        outcome.measured["contradicted"] = found
    return False


def _step_seconds(measured: dict[str, Any]) -> float:
    return float(measured["step_seconds"]["median"])
