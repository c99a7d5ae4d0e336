"""A cost that the study's own steps contradict is measured once more, in another process.

Something else may have used the machine at that moment. The faster of the two measurements is kept:
other load only makes a step slower. Where the study's steps contradict that one too,
it is kept together with what contradicts it, for the report to show.
"""

from __future__ import annotations

import json
from typing import Any, cast

from paretune.store import Claim, Storage
from paretune.store.encoding import to_canonical_json
from paretune.store.record import Measurements
from paretune.training.runs.outcome import Outcome

REPEAT_PREFIX = "again/"
"""A setting of the store for a cost that is measured again: what was measured first."""


def needs_repeat(store: Storage, study_hash: str, claim: Claim, outcome: Outcome) -> bool:
    """Whether the cost is to be measured once more; if not, ``outcome`` gets what is kept."""
    from paretune.analysis.pareto.costs import find_contradiction

    key = f"{REPEAT_PREFIX}{claim.run_id}"
    stored = store.get_setting(key)
    cell = [r for r in store.load_records(study_hash) if r.run.cell == claim.run.cell]
    contradicted = find_contradiction(cast(Measurements, outcome.measured), claim.run, cell)
    if contradicted and stored is None:
        store.set_setting(key, to_canonical_json(dict(outcome.measured), "measured"))
        return True
    if stored is not None:
        first: dict[str, Any] = json.loads(stored)
        faster, slower = sorted((dict(outcome.measured), first), key=_step_seconds)
        outcome.measured.clear()
        outcome.measured.update(faster)
        outcome.measured["measured_again"] = {"other_step_seconds": _step_seconds(slower)}
        contradicted = find_contradiction(cast(Measurements, outcome.measured), claim.run, cell)
    if contradicted:
        outcome.measured["contradicted"] = contradicted
    return False


def _step_seconds(measured: dict[str, Any]) -> float:
    return float(measured["step_seconds"]["median"])
