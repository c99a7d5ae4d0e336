"""Damage of every file of a study: what is shown is what was written, or the damage is told."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import as_file, command, finished
from test_kill_at_writes import save_checkpoint

NO_ANSWER = 6
"""Exit code where the store is damaged: nothing was shown as a result."""


def damages(content: bytes, chance: random.Random) -> dict[str, bytes]:
    """A bit, a line of bytes, a page of zeros, and a file that is cut off."""
    at = chance.randrange(len(content))
    bit, line, page = bytearray(content), bytearray(content), bytearray(content)
    bit[at] ^= 1 << chance.randrange(8)
    line[at : at + 16] = chance.randbytes(len(line[at : at + 16]))
    start = at // 4096 * 4096
    page[start : start + 4096] = bytes(len(page[start : start + 4096]))
    changed = {"bit": bit, "line": line, "page": page, "cut": content[: len(content) // 2]}
    return {name: bytes(new) for name, new in changed.items() if new != content}


@pytest.mark.slow
def test_no_damage_of_any_file_is_shown_as_a_result(
    capsys: Any, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    protocol = {"trials": 2, "folds": 1, "seeds": [1]}
    study, store = finished(tmp_path, tiny_model("bert"), protocol=protocol)
    save_checkpoint(store / "checkpoints", 1)
    db = sqlite3.connect(store / "study.db")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    shutil.copytree(store, tmp_path / "whole")
    file, chance = as_file(study, tmp_path / "s.yaml"), random.Random(22)  # noqa: S311 (no secret)

    def report() -> tuple[int, Any]:
        code, out, _ = command(capsys, "report", file, "--store", store, "--json")
        document = json.loads(out) if code == 0 else {}
        damage = [
            finding for finding in document.pop("findings", []) if "damaged" in finding["what"]
        ]
        return (NO_ANSWER if damage else code), document

    code, whole = report()
    assert code == 0
    files = [p for p in (tmp_path / "whole").rglob("*") if p.is_file()]
    kinds = {p.relative_to(tmp_path / "whole").parts[0] for p in files}
    assert {"study.db", "blobs", "checkpoints"} <= kinds
    for original in files:
        name = original.relative_to(tmp_path / "whole")
        for _ in range(12 if name.name == "study.db" else 1):
            for kind, content in damages(original.read_bytes(), chance).items():
                shutil.rmtree(store)
                shutil.copytree(tmp_path / "whole", store)
                (store / name).write_bytes(content)
                code, document = report()
                verify_code = command(capsys, "verify", file, "--store", store)[0]
                assert code in (0, NO_ANSWER) and verify_code in (0, NO_ANSWER), (name, kind)
                assert code == NO_ANSWER or document == whole, (name, kind)
                # A page of the database may be unused.
                if name.name not in ("study.db", "report.html"):
                    assert verify_code == NO_ANSWER, (name, kind)
                if code == NO_ANSWER:
                    assert verify_code == NO_ANSWER, (name, kind)
