"""docs/methods.md says what the method files say."""

from __future__ import annotations

from types import ModuleType

import pytest
from support.docs_script import DOCS, docs_script

from paretune import methods


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docs_script("methods")


def test_the_page_is_up_to_date(script: ModuleType) -> None:
    committed = (DOCS / "methods.md").read_text(encoding="utf-8")
    assert committed == script.page(), "run: python docs/methods.py"


@pytest.mark.parametrize("name", sorted(methods.available()))
def test_every_file_tells_what_a_reader_looks_for(script: ModuleType, name: str) -> None:
    module = methods.get(name)
    blocks = "\n".join(script.section(module))
    headings = ["When"]
    if isinstance(module, methods.Method):
        headings += ["Equation", "Trained parameters", "Start"]
        if name != "stack":
            headings.append("Source")
    assert [word for word in headings if f"- **{word}**: " not in blocks] == []
