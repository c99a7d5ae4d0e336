"""Where fetched data lies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from paretune.data.cache_dir import data_home


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "here"))
    assert data_home() == tmp_path / "here"


@pytest.mark.skipif(sys.platform != "linux", reason="the folder for caches is the platform's")
def test_the_folder_for_caches_is_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PARETUNE_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_home() == tmp_path / "paretune" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_home() == tmp_path / ".cache" / "paretune" / "data"
