"""Every command of every page is parsed; every program on a page calls what there is."""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from typing import Any

import pytest
from support.pages import ROOT, explain_refusal, python_blocks, shown_commands, unmarked_commands

import paretune
from paretune import errors
from paretune.cli import INTERRUPTED, main
from paretune.errors import ParetuneError


def test_every_command_of_every_page_is_parsed() -> None:
    commands = list(dict.fromkeys(c for c in shown_commands() if c.program == "paretune"))
    pages = Counter(command.page for command in commands)
    assert {"README.md", "AGENTS.md", "docs/your-study/index.md", "docs/index.md"} <= set(pages)
    refused = [
        f"{command.page}: {command.text}: {why}"
        for command in commands
        if (why := explain_refusal(command))
    ]
    assert refused == [] and list(unmarked_commands()) == []


def test_scripts_and_goals_in_sentences_are_there() -> None:
    goals = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    commands = [one for one in shown_commands() if one.program in ("python", "make")]
    assert len(commands) > 20
    for one in commands:
        if one.program == "make":
            assert one.words[0] in goals, (one.page, one.text)
        else:
            assert (ROOT / one.words[0]).is_file(), (one.page, one.text)


def test_programs_on_pages_are_python_and_call_what_there_is() -> None:
    wrong, calls = [], 0
    for page, text in python_blocks():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            if node.value.id == "paretune" and not hasattr(paretune, node.attr):
                wrong.append(f"{page}: paretune.{node.attr}")
        for node in ast.walk(ast.parse(text)):
            function = node.func if isinstance(node, ast.Call) else None
            if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
                continue
            if function.value.id != "paretune" or not hasattr(paretune, function.attr):
                continue
            calls += 1
            assert isinstance(node, ast.Call)
            names = [one.arg for one in node.keywords if one.arg is not None]
            wrong += [
                f"{page}: paretune.{function.attr}({name}=)"
                for name in names
                if name not in inspect.signature(getattr(paretune, function.attr)).parameters
            ]
    assert wrong == [] and calls > 10


def table(text: str) -> dict[int, str]:
    """Codes and meanings of the table of exit codes."""
    part = text.partition("## Exit codes")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    return {int(row[0]): row[1].strip() for row in rows if row[0].strip().isdigit()}


def subclasses(of: type[ParetuneError]) -> set[type[ParetuneError]]:
    return {of} | {one for own in of.__subclasses__() for one in subclasses(own)}


def test_exit_codes_are_those_of_the_page_and_of_the_code() -> None:
    listed = table((ROOT / "docs" / "your-study" / "index.md").read_text(encoding="utf-8"))
    own = {cls.exit_code for cls in subclasses(ParetuneError) if cls.__module__ == errors.__name__}
    assert set(listed) == {0, errors.ANSWER_NO, errors.ANSWER_OPEN, INTERRUPTED} | own
    assert not own & {errors.ANSWER_NO, errors.ANSWER_OPEN}  # a decision is no error
    documented = {
        int(line.split()[0]) for line in (errors.__doc__ or "").splitlines() if line[:1].isdigit()
    }
    assert documented == set(listed)


@pytest.mark.parametrize(
    "error",
    sorted({c for c in subclasses(ParetuneError) if c.__module__ == errors.__name__}, key=str),
    ids=lambda c: c.__name__,
)
def test_each_error_ends_the_program_with_its_code(
    error: type[ParetuneError], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error("is wrong.", where="here", remedy="Mend it.")

    monkeypatch.setattr("paretune.cli.app", refuse)
    with pytest.raises(SystemExit) as end:
        main(["ls"])
    assert end.value.code == error.exit_code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: here: is wrong. Mend it.\n")
