"""docs/exports.md says what the code says, and what PEFT really answers."""

from __future__ import annotations

from importlib.metadata import version
from types import ModuleType

import pytest
from support.docs_script import DOCS, docs_script

PAGE = DOCS / "exports.md"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docs_script("exports")


def test_forms_and_reasons_are_up_to_date(script: ModuleType) -> None:
    committed = PAGE.read_text(encoding="utf-8").partition(script.ENDS)[0]
    assert committed == "\n".join(script.forms()) + "\n", "run: python docs/exports.py"


def test_errors_are_those_that_peft_raises(script: ModuleType) -> None:
    version_note = f"Asked of peft {version('peft')} with transformers {version('transformers')}, "
    committed = PAGE.read_text(encoding="utf-8").partition(script.ENDS)[2]
    if version_note not in committed:
        pytest.skip("the page was written with other versions of peft or transformers")
    assert committed.strip() == "\n".join(script.errors()).strip(), "run: python docs/exports.py"


def test_every_exception_is_still_one(script: ModuleType) -> None:
    """Where PEFT has come to do it, the exception and the sentence about it have to go."""
    attempts = [*script.prefixes(), *script.prompts(), *script.missing(), script.stacked()]
    obsolete = [(one.method, one.model) for one in attempts if one.error().startswith("none")]
    assert obsolete == []
