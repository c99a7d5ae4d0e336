"""Pages: the scripts that write them, the commands in them, and HTML read strictly."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from paretune.cli import CommandLineError, app

DOCS = Path(__file__).parents[2] / "docs"


def docs_script(name: str) -> ModuleType:
    """The script that writes ``docs/NAME.md``."""
    if str(DOCS) not in sys.path:
        sys.path.append(str(DOCS))  # where one script finds another
    return load_script(DOCS / f"{name}.py")


def load_script(path: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_page", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "src/*/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"  # of what is past
)
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(
    r"(?<!`)`(?:uvx |pipx run )?((?:paretune [a-z]|python \w+/|make [a-z])[^`\n]*)`(?!`)"
)
_PROGRAM = re.compile(r"\s*(\$ )?(paretune|pip|pipx|uvx?|python|make|docker|ray|git) [a-z-.]")
"""How a command begins; in a block of another language it would be overlooked."""
_PLACEHOLDERS = ("...", "…")
_NUMBERS = {"N": "1", "SECONDS": "1", "PORT": "1"}
"""What stands for a number, and a number."""


@dataclass(frozen=True)
class ShownCommand:
    """A command on a page; ``whole`` where it is meant to be typed as it stands."""

    page: str
    text: str
    whole: bool

    @property
    def words(self) -> list[str]:
        """The words behind the program, up to a pipe or another command."""
        words = list(self._lexer())[1:]
        ends = [i for i, word in enumerate(words) if set(word) <= set("|&;<>")]
        return words[: ends[0]] if ends else words

    @property
    def program(self) -> str:
        """The first word: ``paretune``, ``pip`` ..."""
        return next(iter(self._lexer()))

    def _lexer(self) -> shlex.shlex:
        lexer = shlex.shlex(self.text, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split, lexer.commenters = True, "#"
        return lexer


def shown_commands() -> Iterator[ShownCommand]:
    """Every command of every page, in its order: each line of a block of ``sh``, each line behind a
    dollar sign in one of ``console``, then what stands in sentences.
    """
    for path in PAGES:
        text, page = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
        for _, language, block in _FENCE.findall(text):
            joined = re.sub(r"\\\n\s*", " ", block)
            for line in map(str.strip, joined.splitlines()):
                if language == "console" and line.startswith("$ "):
                    yield ShownCommand(page, line.removeprefix("$ "), whole=True)
                if language == "sh" and line and not line.startswith("#"):
                    yield ShownCommand(page, re.sub(r"\s+# .*", "", line), whole=True)
        for command in _INLINE.findall(_FENCE.sub("", text)):
            yield ShownCommand(page, command, whole=False)


def unmarked_commands() -> Iterator[tuple[str, str]]:
    """Page and line of what looks like a command in a block that is not marked as a shell's."""
    for path in PAGES:
        for _, language, block in _FENCE.findall(path.read_text(encoding="utf-8")):
            lines = block.splitlines() if language in ("", "text", "bash", "shell") else ()
            for line in filter(_PROGRAM.match, lines):
                yield str(path.relative_to(ROOT)), line


def python_blocks() -> Iterator[tuple[str, str]]:
    """Page and text of every Python block."""
    for path in PAGES:
        for _, language, block in _FENCE.findall(path.read_text(encoding="utf-8")):
            if language == "python":
                yield str(path.relative_to(ROOT)), block


def explain_refusal(command: ShownCommand) -> str:
    """What the command line would say against a command; empty where it takes it.

    A command in a sentence may leave out arguments; it may name only verbs and options that exist.
    """
    words = [_NUMBERS.get(word, word) for word in command.words if word not in _PLACEHOLDERS]
    try:
        parse_command(words)
    except CommandLineError as error:
        missing = type(error).__name__ in ("MissingParameter", "NoArgsIsHelpError")
        if command.whole or not (missing or "requires an argument" in str(error.format_message())):
            return str(error.format_message())
    except typer.Exit:
        pass  # --help, --version
    return ""


@cache
def _program() -> Any:
    return typer.main.get_command(app)


def parse_command(words: list[str]) -> dict[str, Any]:
    """The values that the command line reads behind ``paretune``; nothing is executed.

    Raises:
        CommandLineError: there is no such command or option.
    """
    return _parse(_program(), "paretune", words, None)


def _parse(command: Any, name: str, words: list[str], parent: Any) -> dict[str, Any]:
    context = command.make_context(name, list(words), parent=parent)
    if not hasattr(command, "commands"):
        return dict(context.params)
    rest = [
        *getattr(context, "_protected_args", getattr(context, "protected_args", [])),
        *context.args,
    ]
    verb, subcommand, rest = command.resolve_command(context, rest)
    return _parse(subcommand, verb, rest, context)


EVIL = '<script>alert(1)</script>"onload=x \x1b[31m'


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
