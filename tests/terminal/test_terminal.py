"""Nothing that comes from a file can steer the terminal, whichever verb prints it."""

from __future__ import annotations

import ast
import csv
import io
import json
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text
from support.tiny_study import as_file, command, finish, small

import paretune
from paretune.cli import VERBS
from paretune.study import Study
from paretune.terminal import console, echo, sanitise_tracebacks_and_warnings
from paretune.terminal.rich_console import Terminal, drop_output_of
from paretune.terminal.sanitise import dump_json
from paretune.verbs.result import Result

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202enekaj\u200f"
"""A window's title, a cleared screen, a C1 control, and text that reads backwards."""


def steers(text: str) -> list[str]:
    """Everything in a text that a terminal would obey."""
    return sorted({ascii(c) for c in text if c != "\n" and not c.isprintable()})


def test_no_other_module_prints() -> None:
    root = Path(paretune.__file__).parent
    calls = []
    for path in sorted(root.rglob("*.py")):
        if path.is_relative_to(root / "terminal"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Attribute):
                name = ast.unparse(node)
            if name in PRINTS and (str(path.relative_to(root)), name) not in EXCEPTIONS:
                calls.append(f"{path.relative_to(root)}:{node.lineno}: {name}")
    assert calls == []


EXCEPTIONS = {
    ("models/quantised.py", "logging.getLogger"),
    ("execution/command_guard.py", "sys.stdout"),
    ("execution/command_guard.py", "sys.stderr"),
}
"""Where a library's messages are turned off, and where a child process answers its parent, which
cleans what it shows."""
PRINTS = {
    *("print", "rich.print", "Console", "rich.console.Console", "logging.getLogger"),
    *("typer.echo", "typer.secho", "click.echo", "click.secho"),
    *("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"),
}


def test_the_console_cleans_text_wherever_it_stands_and_keeps_its_own_styles() -> None:
    stream = io.StringIO()
    out = Terminal(file=stream, width=60)
    table = Table(title=EVIL, caption=EVIL)
    table.add_column(EVIL)
    table.add_row(f"[red]{EVIL}[/red] :smile: [link=http://x]")
    out.print(EVIL, table, style="bold")
    output = stream.getvalue()
    assert steers(output) == []
    assert "[red]" in output and ":smile:" in output  # taken literally
    styled = io.StringIO()
    terminal = Terminal(file=styled, width=60, force_terminal=True)
    terminal.print(EVIL, style="bold")
    assert styled.getvalue().count("\x1b") == 2 and "\x1b]0" not in styled.getvalue()


@pytest.mark.parametrize("notebook", [False, True])
def test_text_of_a_result_prints_nothing_and_has_no_styles(
    notebook: bool, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The kernel of a notebook sets FORCE_COLOR, and Rich would show what is written to a file."""
    displayed: list[object] = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: notebook)
    monkeypatch.setattr("rich.jupyter.display", lambda *parts: displayed.append(parts))
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = Styled()
    assert str(result) == repr(result) == "a line\na title"
    assert "<br>a title" in result._repr_html_()
    assert (displayed, *capsys.readouterr()) == ([], "", "")


class Styled(Result):
    """A result with a title."""

    def describe(self) -> Iterable[Any]:
        return "a line", Text("a title", style="bold")


def test_json_for_scripts_escapes_and_loses_nothing(capsys: Any) -> None:
    echo(dump_json({EVIL: ["č", EVIL, "😀\U000e0001"]}))
    out = capsys.readouterr().out
    assert steers(out) == [] and "č" in out
    assert json.loads(out) == {EVIL: ["č", EVIL, "😀\U000e0001"]}


def test_warnings_and_tracebacks_of_libraries_are_cleaned(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    sanitise_tracebacks_and_warnings()
    warnings.showwarning(UserWarning(EVIL), UserWarning, "x.py", 1)
    try:
        raise KeyError(EVIL, EVIL.encode()) from ValueError(EVIL)
    except KeyError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    err = capsys.readouterr().err
    assert "UserWarning" in err and "ValueError" in err and steers(err) == []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any) -> Path:
    """A folder with a study of hostile file names, columns, labels and texts."""
    folder = tmp_path_factory.mktemp("hostile")
    for part, count in (("train", 40), ("test", 20)):
        with (folder / f"{EVIL}{part}.csv").open("w", encoding="utf-8", newline="") as handle:
            rows = [(f"{EVIL}text", f"{EVIL}label")]
            rows += [
                (f"a cat {part[:2]} {i // 2 * 2}{EVIL}", f"{EVIL}{i % 2}") for i in range(count)
            ]
            csv.writer(handle).writerows(rows)
    (folder / "model").symlink_to(tiny_model("bert"))
    return folder


@pytest.fixture(scope="module")
def study_file(hostile: Path) -> Path:
    """The study file, in a store of which all runs have ended."""
    task = {
        "name": "words", "kind": "classification", "text": f"{EVIL}text", "label": f"{EVIL}label",
        "train": str(hostile / f"{EVIL}train.csv"), "test": str(hostile / f"{EVIL}test.csv"),
        "labels": [f"{EVIL}0", f"{EVIL}1"],
    }  # fmt: skip
    study = small(hostile / "unused", hostile / "model", tasks=[task], methods=["majority"])
    refused = {**study.model_dump(mode="json", exclude_none=True), "models": [f"{EVIL}model"]}
    (hostile / "refused.yaml").write_text(json.dumps(refused), encoding="utf-8")
    return as_file(study, hostile / "hostile.yaml")


def list_command_lines(verb: str) -> list[list[object]]:
    """Command lines of a verb that print names, in the study's folder; some of them are refused."""
    study, store = "hostile.yaml", ["--store", "store"]
    file = f"{EVIL}train.csv"
    named: dict[str, list[list[object]]] = {
        "tune": [["tune", f"{EVIL}none.csv"], ["tune", file, "--label", EVIL]],
        "new": [["new", file], ["new", f"{EVIL}none.csv"], ["new", file, "--label", EVIL]],
        "check": [["check", study], ["check", f"{EVIL}.yaml"], ["check", "refused.yaml"]],
        "plan": [["plan", study, *store], ["plan", study, *store, "--every"]],
        "run": [["run", study, "--store", "fresh", "--workers", "1"], ["run", EVIL]],
        "report": [["report", study, *store, "--page", f"{EVIL}.html", "--tables", EVIL]],
        "recommend": [["recommend", study, *store], ["recommend", study, *store, "--task", EVIL]],
        "compare": [["compare", study, "majority", EVIL, *store]],
        "judge": [["judge", f"{EVIL}none.csv"], ["judge", file]],
        "merge": [["merge", EVIL, "-o", "merged"], ["merge", "store", "-o", f"{EVIL}merged"]],
        "export": [
            ["export", study, *store, "--method", EVIL],
            ["export", EVIL],
            ["export", "slobench", study, *store, "--release", EVIL],
            ["slobench", "check", file],
            ["slobench", "check", EVIL],
            ["slobench", "score", file, "--reference", EVIL],
        ],
        "ls": [["ls"], ["ls", EVIL]],
        "doctor": [["doctor", "--json"], ["doctor", EVIL]],
        "data sample": [["data", "sample", EVIL], ["data", "fetch", EVIL], ["data", EVIL]],
    }
    return named.get(verb, [[verb, study, *store], [verb, EVIL]])  # a verb that came later


@pytest.mark.parametrize(
    "verb", [pytest.param(v, marks=[pytest.mark.wide] * (v == "run")) for v in VERBS]
)
def test_no_verb_lets_an_escape_through(
    verb: str, hostile: Path, study_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """Also what workers say, and what the libraries do, which share the streams."""
    monkeypatch.chdir(hostile)
    if not Path("store").exists():
        finish(Study.load(study_file), Path("store"), costs=0).close()
        capfd.readouterr()
    n_echoed = 0
    for arguments in list_command_lines(verb):
        code, out, err = command(capfd, *arguments)
        assert steers(out) == [] and steers(err) == [], arguments
        assert "Traceback" not in err, arguments
        n_echoed += "owned" in out + err
        assert code in range(10) and code != 1
    assert n_echoed or verb in ("doctor", "track")


@pytest.mark.parametrize(
    "arguments",
    [["ls"], pytest.param(["new", "--help"], marks=pytest.mark.wide), ["ls", "nothing"]],
)
def test_a_closed_pipe_ends_quietly(arguments: list[str]) -> None:
    code = (
        "import os, subprocess, sys\n"
        "end = os.pipe()\n"
        "os.close(end[0])\n"
        "done = subprocess.run([sys.executable, '-m', 'paretune', *sys.argv[1:]], stdout=end[1], "
        "stderr=subprocess.PIPE, text=True)\n"
        "print(done.returncode, repr(done.stderr))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    if arguments == ["ls", "nothing"]:  # its message goes to stderr, where somebody reads
        assert done.stdout.startswith("2 ") and "Traceback" not in done.stdout
    else:
        assert done.stdout == "130 ''\n"


def test_nothing_is_written_where_the_stream_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    echo("nobody hears it")
    assert console().file is not None


def test_no_color_leaves_colours_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """https://no-color.org: bold and dim stay, since they are no colours."""

    def print_red() -> str:
        out = io.StringIO()
        Terminal(file=out, width=40, force_terminal=True).print("lost", style="bold red")
        return out.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "31m" in print_red()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "31m" not in print_red() and "lost" in print_red()


def test_what_one_thread_prints_is_dropped_and_all_else_stays(capsys: Any) -> None:
    def shout() -> None:
        sys.stdout.write("a log of twenty lines\n")

    def speak(name: str) -> None:
        thread = threading.Thread(target=shout, name=name)
        thread.start()
        thread.join()

    with drop_output_of("library"):
        speak("library")
        echo("ours")
        speak("another")
    speak("library")
    assert capsys.readouterr().out.splitlines() == ["ours", *["a log of twenty lines"] * 2]
