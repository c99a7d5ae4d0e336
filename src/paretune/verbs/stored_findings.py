"""Findings that a report shows: those of the audit, stored with the study, and damaged trials."""

from __future__ import annotations

import json
from collections.abc import Iterable

from paretune.data.finding import MAX_SHOWN, Finding
from paretune.store import Record, Store


def save_findings(store: Store, study_hash: str, findings: Iterable[Finding]) -> None:
    """Store the findings of the audit in place of earlier ones."""
    store.set_setting(
        f"findings/{study_hash}", json.dumps([_stored_fields(finding) for finding in findings])
    )


def load_findings(store: Store, study_hash: str) -> list[Finding]:
    """The findings of the audit when the study last started."""
    stored = store.get_setting(f"findings/{study_hash}")
    return [Finding(**finding) for finding in json.loads(stored)] if stored else []


def _stored_fields(finding: Finding) -> dict[str, str]:
    """The fields that a report shows; `check` lists all rows of a finding again."""
    return {name: value for name, value in vars(finding).items() if name != "places"}


def find_damaged_trials(store: Store, records: Iterable[Record]) -> list[Finding]:
    """One warning if predictions of trials were lost; ``records`` were loaded with predictions."""
    damaged = [record.run for record in records if record.lacks_predictions]
    if not damaged:
        return []
    runs = "; ".join(
        f"{' x '.join(run.cell)}, learning rate {run.learning_rate}" for run in damaged[:MAX_SHOWN]
    )
    more = f"; and {len(damaged) - MAX_SHOWN} more" if len(damaged) > MAX_SHOWN else ""
    return [
        Finding(
            severity="warning",
            code="damaged-trials",
            where=str(store.folder / "blobs"),
            what=f"the predictions of trials are missing or damaged ({runs}{more}); their scores "
            "are not.",
            remedy="`paretune run --retry` makes them again; `paretune verify` names the files.",
        )
    ]
