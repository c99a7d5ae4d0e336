"""Under which hash a store knows a study, also one that an older version kept with other paths."""

from __future__ import annotations

import json
import sqlite3

from paretune.paths import same_elsewhere
from paretune.study import Study


def known_as(db: sqlite3.Connection, study: Study) -> str:
    """The study's hash, or the older one under which its runs are kept here."""
    asked = "SELECT 1 FROM studies WHERE study_hash = ?"
    if db.execute(asked, (study.study_hash,)).fetchone():
        return study.study_hash
    form = study.canonical_form()
    rows = db.execute(
        "SELECT study_hash, canonical FROM studies WHERE name = ? ORDER BY created DESC",
        (study.study,),
    )
    same = (str(r["study_hash"]) for r in rows if same_elsewhere(json.loads(r["canonical"]), form))
    return next(same, study.study_hash)
