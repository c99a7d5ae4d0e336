"""The skill for agents: it is printed whole, and names fields and answers that there are."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest
from support.pages import ROOT, docs_script
from support.tiny_study import command

from paretune.judging.decide import Answer

SKILL = (ROOT / "src" / "paretune" / "SKILL.md").read_text(encoding="utf-8")
NAMES = {*re.findall(r"`([a-z_]+(?:\[\])?(?:\.[a-z_]+(?:\[\])?)+)`", SKILL)}
"""What has dots: fields of JSON objects, settings of a study, and names of Python and files."""


def test_it_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(capsys, "ls", "skill") == (0, SKILL, "")
    code, out, _ = command(capsys, "ls", "skill", "--json")
    assert code == 0 and json.loads(out)["skill"] == SKILL
    assert len(SKILL.split()) < 1200  # an agent reads all of it


def test_every_field_is_there() -> None:
    page: Any = docs_script("json_page")
    results = page.result_types()
    fields = {*page.list_fields()}
    advice = {
        name.replace("tasks[].recommendation", "advice")
        for name in fields
        if name.startswith("tasks[].recommendation.")
    }
    named = {name for name in NAMES if name.startswith(("tasks[]", "advice."))}
    assert len(named) > 12 and named - fields - advice == set()
    for verb, names in {
        "tune": {"advice", "folder", "file", "notes"},
        "new": {"doubts"},
        "check": {"can_run"},
        "plan": {"seconds_left", "runs"},
    }.items():
        assert names <= {*page.describe_fields(results[verb])}, verb


def test_answers_are_those_of_judge() -> None:
    judged = SKILL.partition("## Runs that you have trained yourself")[2].partition("\n## ")[0]
    assert [answer for answer in get_args(Answer) if f"`{answer}`" not in judged] == []
