"""What ``paretune doctor`` says of plug-ins, working ones and broken ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paretune import plugins
from paretune.verbs.doctor import check_plugins

ENTRY_POINTS = """\
[paretune.tasks]
chess = pt_chess:TASK
[paretune.metrics]
elo = pt_chess:ELO
accuracy = pt_chess:ACCURACY
"""
SOURCE = """\
from dataclasses import replace
from paretune import metrics, tasks
TASK = replace(tasks.get("routing"), name="chess")
ACCURACY = replace(metrics.get("accuracy"), title="another")
"""


@pytest.fixture(autouse=True)
def _chess_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    metadata = tmp_path / "pt_chess-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: pt-chess\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "pt_chess.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    plugins._find_entries.cache_clear()
    yield
    plugins._find_entries.cache_clear()


def test_each_plug_in_is_listed_with_its_fault() -> None:
    faults = {(row["group"], row["name"]): row["fault"] for row in check_plugins()}
    assert faults[plugins.TASKS, "chess"] is None
    broken = faults[plugins.METRICS, "elo"]
    assert broken is not None
    assert "has no attribute 'ELO'" in broken and "pip uninstall pt-chess" in broken
    hidden = faults[plugins.METRICS, "accuracy"]
    assert hidden == "paretune has one of this name and uses that"
    assert faults["paretune.protocols", "paper"] is None
