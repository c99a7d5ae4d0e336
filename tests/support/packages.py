"""Installed packages with entry points, as pip leaves them: a module, and metadata beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from paretune import plugins

Install = Callable[[str, Mapping[str, Mapping[str, str]], str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install("ours", {GROUP: {"one": "ours:VALUE"}}, "VALUE = 1")``, of version 0.3."""
    monkeypatch.syspath_prepend(tmp_path)
    plugins._find_entries.cache_clear()
    plugins._load_entry.cache_clear()

    def write(package: str, groups: Mapping[str, Mapping[str, str]], source: str) -> None:
        (tmp_path / f"{package}.py").write_text(source)
        metadata = tmp_path / f"{package}-0.3.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Name: {package}\nVersion: 0.3\n")
        lines: list[str] = []
        for group, entries in groups.items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
        (metadata / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.delitem(sys.modules, package, raising=False)

    yield write
    plugins._find_entries.cache_clear()
    plugins._load_entry.cache_clear()
