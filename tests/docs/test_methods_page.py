"""The page of methods has what a reader looks for."""

from __future__ import annotations

from types import ModuleType

import pytest
from support.pages import docs_script

from paretune import methods
from paretune.methods import baselines


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docs_script("methods")


@pytest.mark.parametrize("name", sorted({*methods.available()} - baselines.NAMES))
def test_every_file_tells_what_a_reader_looks_for(script: ModuleType, name: str) -> None:
    module = methods.get(name)
    blocks = "\n".join(script.section(module))
    headings = ["When", "Equation", "Trained parameters", "Start"]
    if name != "stack":
        headings.append("Source")
    assert [word for word in headings if f"- **{word}**: " not in blocks] == []


def test_the_baselines_are_described() -> None:
    assert [name for name in baselines.METHODS if f"- ``{name}``: " not in baselines.__doc__] == []
