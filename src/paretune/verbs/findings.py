"""The audit's findings, kept in the store beside the study, so that a report can show them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from paretune.data.finding import Finding
from paretune.store import Store


def keep(store: Store, study_hash: str, found: Iterable[Finding]) -> None:
    """Keep what the audit found in this study's data, in place of what was kept before."""
    store.set_setting(f"findings/{study_hash}", json.dumps([_kept(finding) for finding in found]))


def findings(store: Store, study_hash: str) -> list[Finding]:
    """What the audit found when the study last started."""
    kept = store.setting(f"findings/{study_hash}")
    return [Finding(**finding) for finding in json.loads(kept)] if kept else []


def _kept(finding: Finding) -> dict[str, str]:
    """What a report shows; the rows of a finding about many can be had from `check` again."""
    return {name: value for name, value in vars(finding).items() if name != "places"}
