"""The check of names on pages for contributors: it finds what the source does not have."""

from pathlib import Path

import pytest
from support.pages import ROOT, load_script


def test_names_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "dev"))
    budgets = load_script(ROOT / "dev" / "check_budgets.py")
    page = tmp_path / "page.md"
    page.write_text("**data/** `audit`, `infer`.\n\n# B\n`infer`, `a/b.py`, `verbs/run.run`, `of/`")
    missing = [f"page.md: {name}" for name in ("infer in data/", "a/b.py", "of/")]
    assert [*budgets.find_missing_names((*budgets.PAGES, page))] == missing
