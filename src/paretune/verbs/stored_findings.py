"""Findings that a report shows: the audit's, kept beside the study, and runs that were lost."""

from __future__ import annotations

import json
from collections.abc import Iterable

from paretune.data.finding import MAX_SHOWN, Finding
from paretune.store import Store

LOST_RUNS = "lost-runs"


def save_findings(store: Store, study_hash: str, found: Iterable[Finding]) -> None:
    """Keep what the audit found in this study's data, in place of what was kept before."""
    store.set_setting(
        f"findings/{study_hash}", json.dumps([_stored_fields(finding) for finding in found])
    )


def load_findings(store: Store, study_hash: str) -> list[Finding]:
    """What the audit found when the study last started, after what the store has lost since."""
    kept = store.get_setting(f"findings/{study_hash}")
    audit = [Finding(**finding) for finding in json.loads(kept)] if kept else []
    return [*find_lost_runs(store, study_hash), *audit]


def _stored_fields(finding: Finding) -> dict[str, str]:
    """What a report shows; the rows of a finding about many can be had from `check` again."""
    return {name: value for name, value in vars(finding).items() if name != "places"}


def find_lost_runs(store: Store, study_hash: str) -> list[Finding]:
    """What had ended for the study and the database has lost: one warning, or nothing."""
    lost = store.find_lost_runs(study_hash)
    if not lost:
        return []
    named = "; ".join(run.description for run in lost[:MAX_SHOWN])
    more = f"; and {len(lost) - MAX_SHOWN} more" if len(lost) > MAX_SHOWN else ""
    runs, them = ("1 run", "it") if len(lost) == 1 else (f"{len(lost)} runs", "them")
    return [
        Finding(
            severity="warning",
            code=LOST_RUNS,
            where=str(store.folder / "study.db"),
            what=f"has lost {runs} that had ended ({named}{more}): its log was damaged, "
            "or it is an older copy.",
            remedy=f"`paretune run` makes {them} again.",
        )
    ]
