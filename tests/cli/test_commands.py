"""A study with commands: shown first, started only where the user allows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import small

from paretune.errors import MethodError, StudyError
from paretune.methods import check_options
from paretune.verbs.plan import plan
from paretune.verbs.run import run

WORDS = "touch started {test} {out}"


def with_command(folder: Path, model: Path, **options: Any) -> Any:
    method = {"name": "command", "label": "mine", "run": WORDS, "folder": str(folder), **options}
    return small(folder / "data", model, methods=[method])


def test_it_is_refused_without_leave_and_shown_by_plan(tmp_path: Path, tiny_model: Any) -> None:
    study = with_command(tmp_path, tiny_model("bert"))
    with pytest.raises(StudyError, match="allow_commands=True") as caught:
        run(study, store=tmp_path / "store")
    assert f"mine: {WORDS}" in str(caught.value)
    planned = plan(study, store=tmp_path / "store")
    assert next(iter(planned.describe())) == f"Command mine: {WORDS} (in {tmp_path})"
    assert not (tmp_path / "started").exists() and not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train {test} {out} {rate}", "{rate} is none of {train}, {validation}"),
        ("train {out}", "{test} is missing: it has to answer"),
        ("train '{test} {out}", "No closing quotation"),
        ("", "no command is given."),
    ],
)
def test_words_that_cannot_be(words: str, message: str, tmp_path: Path, tiny_model: Any) -> None:
    study = with_command(tmp_path, tiny_model("bert"), run=words)
    with pytest.raises(MethodError) as caught:
        check_options(study.methods[0], study)
    assert message in str(caught.value)
