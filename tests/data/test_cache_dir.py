"""Where fetched data lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from paretune.data.cache_dir import data_home


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "here"))
    assert data_home() == tmp_path / "here"
    monkeypatch.delenv("PARETUNE_HOME")
    assert data_home().parts[-2:] == ("paretune", "data")
