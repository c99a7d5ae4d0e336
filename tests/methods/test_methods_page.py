"""docs/methods.md says what the method files say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from paretune import methods

SCRIPT = Path(__file__).parents[2] / "docs" / "methods.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("methods_page", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(script: ModuleType) -> None:
    committed = SCRIPT.with_suffix(".md").read_text(encoding="utf-8")
    assert committed == script.page(), "run: python docs/methods.py"


@pytest.mark.parametrize("name", sorted(methods.available()))
def test_every_file_tells_what_a_reader_looks_for(script: ModuleType, name: str) -> None:
    module = methods.get(name)
    blocks = "\n".join(script.section(module))
    wanted = ["When"]
    if methods.trains_a_model(module):
        wanted += ["Equation", "Trained parameters", "Start"]
        if name != "stack":
            wanted.append("Source")
    assert [word for word in wanted if f"- **{word}**: " not in blocks] == []
