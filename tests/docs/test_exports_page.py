"""What the page of exports says of PEFT is what PEFT really answers."""

from __future__ import annotations

from types import ModuleType

import pytest
from support.pages import docs_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docs_script("exports")


def test_every_exception_is_still_one(script: ModuleType) -> None:
    """Where PEFT has come to do it, the exception and the sentence about it have to go."""
    attempts = [*script.prefixes(), *script.prompts(), *script.missing(), script.stacked()]
    obsolete = [(one.method, one.model) for one in attempts if one.error().startswith("none")]
    assert obsolete == []
