"""Every command and every program on every page is one that today's paretune takes."""

from __future__ import annotations

import ast
import inspect
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.page_commands import ROOT, explain_refusal, python_blocks, shown_commands
from support.peft_result_files import result
from support.tiny_study import command, finish, two_files

import paretune
from paretune import errors
from paretune.cli import INTERRUPTED, main
from paretune.errors import ParetuneError
from paretune.study import Study
from paretune.verbs.export import ExportOptions
from paretune.verbs.recommend import BudgetOptions
from paretune.verbs.workers import WorkerOptions


def test_every_command_of_every_page_is_parsed() -> None:
    commands = list(dict.fromkeys(shown_commands()))
    pages = Counter(command.page for command in commands)
    assert {"README.md", "AGENTS.md", "docs/cli.md", "docs/tutorial.md"} <= set(pages)
    refused = [
        f"{command.page}: {command.text}: {why}"
        for command in commands
        if (why := explain_refusal(command))
    ]
    assert refused == []


READERS = (
    "recommend",
    "compare",
    "why",
    "report",
    "watch",
    "merge",
    "doctor",
    "ls",
    "peft-results",
)
STANDS_FOR = {
    **dict.fromkeys(
        ("STUDY", "sample", "complaints", "reviews.yaml", "messages.yaml"), "study.yaml"
    ),
    **{"A": "lora", "B": "head_only", "full": "head_only", "loha": "lora"},
    **{"studies/a": "a", "studies/b": "b", "peft/method_comparison": "comparison"},
    **{"part-1-results": "a", "part-2-results": "b", "studies/NAME": "both"},
}
"""Words of pages, and what is there while the test runs."""
SMALLER = {
    "  - full\n": "",
    "  - {name: loha, rank: 8}\n": "",
    "  - {name: prompt, num_virtual_tokens: 20}\n": "  - head_only\n",
    "trials: 3": "trials: 1",
    "seeds: [1, 2, 3, 4, 5]": "seeds: [1, 2]",
    "outer: auto": "outer: split",
    "epochs: 10": "max_steps: 2",
    "max_length: 256": "max_length: 32",
    "precision: auto": "precision: fp32",
}


@pytest.mark.slow
def test_commands_that_only_read_run_as_the_pages_have_them(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """On a small finished study in the place of each page's own."""
    monkeypatch.chdir(tmp_path)
    data = two_files(tmp_path)
    code, out, err = command(
        capsys, "new", str(data), "--model", str(tiny_model("bert")), "-o", "study.yaml"
    )
    assert code == 0, (out, err)
    text = Path("study.yaml").read_text(encoding="utf-8")
    for before, after in SMALLER.items():
        assert before in text, before
        text = text.replace(before, after)
    Path("study.yaml").write_text(text, encoding="utf-8")
    study = Study.load("study.yaml")
    store = tmp_path / "studies" / study.study
    finish(study, store, costs=None).close()
    for copy in ("a", "b"):
        shutil.copytree(store, tmp_path / copy)
    result(tmp_path / "comparison" / "MetaMathQA" / "results", "lora", 600, n=1319)
    ran, failed = [], []
    for shown in dict.fromkeys(shown_commands()):
        words = [STANDS_FOR.get(word, word) for word in shown.words]
        if not shown.whole or words[0] not in READERS or "says" in words:
            continue
        if any("=" in word for word in words):  # settings with which nothing was run here
            continue
        ran.append(words[0])
        for left in ("both", "studies/both"):
            shutil.rmtree(tmp_path / left, ignore_errors=True)
        more = ["--once"] if words[0] == "watch" else []
        code, out, err = command(capsys, *words, *more)
        if code != 0:
            failed.append((shown.page, shown.text, err))
    assert failed == []
    assert {"recommend", "compare", "why", "merge", "doctor", "peft-results"} <= set(ran)


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
                if name not in _keywords(getattr(paretune, function.attr))
            ]
    assert wrong == [] and calls > 10


OPTIONS = {one.__name__: one for one in (WorkerOptions, ExportOptions, BudgetOptions)}


def _keywords(function: Any) -> set[str]:
    """Names that a function takes, those of ``**options: Unpack[...]`` included."""
    names = set()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            options = str(parameter.annotation).removeprefix("Unpack[").removesuffix("]")
            names |= set(OPTIONS[options].__annotations__)
        names.add(parameter.name)
    return names


def table(text: str) -> dict[int, str]:
    """Codes and meanings of the table of exit codes."""
    part = text.partition("## Exit codes")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    return {int(row[0]): row[1].strip() for row in rows if row[0].strip().isdigit()}


def subclasses(of: type[ParetuneError]) -> set[type[ParetuneError]]:
    return {of} | {one for own in of.__subclasses__() for one in subclasses(own)}


def test_exit_codes_are_those_of_the_page_and_of_the_code() -> None:
    listed = table((ROOT / "docs" / "cli.md").read_text(encoding="utf-8"))
    own = {cls.exit_code for cls in subclasses(ParetuneError) if cls.__module__ == errors.__name__}
    assert set(listed) == {0, INTERRUPTED} | own
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
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "error: here: is wrong. Mend it.\n")
