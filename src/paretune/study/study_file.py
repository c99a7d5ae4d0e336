"""Reading a study file (YAML 1.2) into plain values that remember their lines. No torch.

The command line may replace values: ``training.epochs=3``. Such a key is a path with dots. In
``tasks``, ``models`` and ``methods`` an entry is given by its name or label, or by its number from
1: ``methods.lora.rank=16``. The value is YAML.

Size, depth and number of values are limited, so that a file with 100,000 methods, endless nesting
or aliases of aliases is refused within a second.
"""

from __future__ import annotations

import copy
import io
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from paretune.errors import StudyError, suggest

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 16
DATA_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".tmx", ".zip", ".xlsx", ".gz")
"""Suffixes of data files."""

LIST_KEYS = ("tasks", "models", "methods")
EXAMPLE = "Write key=value, as training.epochs=3 or protocol.seeds=[1,2]."

KeyPath = tuple[str | int, ...]
"""The path of keys to a value: ``("tasks", 0, "text")``."""


@dataclass(frozen=True)
class StudyFile:
    """The content of a study file.

    Attributes:
        lines: line of each key path, counted from 1.
        overrides: text of each override from the command line, by its key path.
    """

    values: dict[str, Any]
    where: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    overrides: Mapping[KeyPath, str] = field(default_factory=dict)

    def override(self, overrides: Iterable[str]) -> StudyFile:
        """Return the content with the values of the overrides instead of those of the file.

        Raises:
            StudyError: an override is not ``key=value``, or names an entry that does not exist.
        """
        values: dict[str, Any] = copy.deepcopy(self.values)
        texts: dict[KeyPath, str] = {}
        for text in overrides:
            key, equals, written = text.partition("=")
            if not equals or not all(key.split(".")):
                raise StudyError(f'"{text}" is no setting.', where="command line", remedy=EXAMPLE)
            try:
                refuse_large(written, text)
                value: Any = YAML(typ="safe", pure=True).load(written) if written.strip() else ""
            except (YAMLError, ValueError, TypeError, RecursionError):
                raise StudyError(
                    "the value is not valid YAML.",
                    where=text,
                    remedy="Close brackets and quotes; for the shell put all of it into '...'.",
                ) from None
            place = _set_value(values, key.split("."), value, text)
            if place in texts:
                raise StudyError(f"{key} is set twice.", where="command line", remedy="Keep one.")
            texts[place] = text
        return replace(self, values=values, overrides=texts)

    def find_line(self, place: KeyPath) -> tuple[int, str]:
        """Return the line of a place, or the nearest line around it, as a number and as text.

        The place of an override is its text, and comes before all lines.
        """
        for key, text in self.overrides.items():
            if key[: len(place)] == place or place[: len(key)] == key:
                return 0, text
        for end in range(len(place), -1, -1):
            if place[:end] in self.lines:
                line = self.lines[place[:end]]
                return line, f"{self.where} line {line}" if end else self.where
        return 0, self.where

    def locate(self, place: KeyPath, words: str) -> str:
        """Return line and words for a place; for an override its text alone, which says both."""
        _, at = self.find_line(place)
        return at if at in self.overrides.values() else ": ".join(filter(None, (at, words)))


def read_study_file(path: Path) -> StudyFile:
    """Read a study file.

    Raises:
        StudyError: the file is missing, cannot be read, is not YAML, or exceeds the limits.
    """
    where = str(path)
    if path.suffix.casefold() in DATA_SUFFIXES:
        raise _data_file_error(path)
    try:
        if not path.exists():
            raise StudyError("no such study file.", where=where, remedy="paretune new writes one.")
        if not path.is_file():
            raise StudyError("cannot be read (it is no plain file).", where=where)
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise StudyError(
                f"is larger than {MAX_BYTES:,} bytes; a study file has some pages at most.",
                where=where,
                remedy="Is it a data file? `paretune new FILE` writes a study for it.",
            )
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise StudyError(
            "cannot be read (it is not UTF-8).",
            where=f"{where} line {line}",
            remedy="Save it as UTF-8.",
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise StudyError(f"cannot be read ({reason}).", where=where) from None
    try:
        refuse_large(text, where)
        yaml = YAML(typ="safe", pure=True)
        node = yaml.compose(text)
        lines: dict[KeyPath, int] = {}
        if node is not None:
            lines.update(_iterate_lines(node))
        values = None if node is None else yaml.constructor.construct_document(node)
    except YAMLError as error:
        raise _yaml_error(error, path) from None
    except (ValueError, TypeError) as error:  # a date of the 99th month, a key that is a list
        reason = "a number of thousands of digits" if "int_max_str" in str(error) else str(error)
        raise StudyError(f"holds a value that cannot be read ({reason}).", where=where) from None
    if not isinstance(values, dict):
        if path.suffix.casefold() == ".json":
            raise _data_file_error(path)
        raise StudyError(
            "has no settings.", where=where, remedy="paretune new writes a commented one."
        )
    return StudyFile(values, where, lines)


def open_yaml_editor() -> YAML:
    """Return an editor that loads a study file and dumps it again with its comments."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 200
    return yaml


def write_settings(text: str, overrides: Iterable[str]) -> str:
    """Replace settings in the text of a study file; its comments stay.

    Raises:
        StudyError: a setting is not ``key=value``, or names an entry that does not exist.
    """
    # The editor preserves comments, and creates no objects for tags.
    yaml, out = open_yaml_editor(), io.StringIO()
    yaml.dump(StudyFile(yaml.load(text), "").override(overrides).values, out)
    return out.getvalue()


def _data_file_error(path: Path) -> StudyError:
    if not path.exists():
        return StudyError("no such file.", where=str(path))
    return StudyError(
        "is a data file, not a study.",
        where=str(path),
        remedy=f"Write a study for it: paretune new {shlex.quote(str(path))}",
    )


def refuse_large(text: str, where: str) -> None:
    """Refuse YAML beyond the limits before a tree is built; an alias counts as its content.

    Raises:
        StudyError: the text exceeds the limits.
        YAMLError: the text is not YAML.
    """
    depth = count = 0
    anchors: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            depth += 1
            opened.append((event.anchor, count))
            count += 1
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            depth -= 1
            anchor, before = opened.pop()
            if anchor is not None:
                anchors[anchor] = count - before
        elif isinstance(event, AliasEvent):
            if any(anchor == event.anchor for anchor, _ in opened):
                raise StudyError(
                    f"*{event.anchor} is used inside its own anchor.",
                    where=f"{where} line {event.start_mark.line + 1}",
                    remedy="Write the value out.",
                )
            count += anchors.get(event.anchor, 1)
        elif isinstance(event, ScalarEvent):
            count += 1
        if depth > MAX_DEPTH:
            what = f"lists and groups are nested more than {MAX_DEPTH} deep."
        elif count > MAX_VALUES:
            what = f"holds more than {MAX_VALUES:,} values, more than one study can have."
        else:
            continue
        raise StudyError(
            what,
            where=f"{where} line {event.start_mark.line + 1}",
            remedy="Split it into several studies." if count > MAX_VALUES else "Write it flat.",
        )


def _iterate_lines(node: Any, place: KeyPath = ()) -> Iterator[tuple[KeyPath, int]]:
    """Yield each key path with the line of its key or entry."""
    if not place:
        yield place, node.start_mark.line + 1
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode):
                inner = (*place, str(key.value))
                yield inner, key.start_mark.line + 1
                yield from _iterate_lines(value, inner)
    elif isinstance(node, SequenceNode):
        for number, value in enumerate(node.value):
            yield (*place, number), value.start_mark.line + 1
            yield from _iterate_lines(value, (*place, number))


def _yaml_error(error: YAMLError, path: Path) -> StudyError:
    """Build an error with the line and the likely cause, without the parser's jargon."""
    problem = str(getattr(error, "problem", None) or error)
    text = f"{getattr(error, 'context', None) or ''} | {problem}"
    began, line = getattr(error, "context_mark", None), getattr(error, "problem_mark", None)
    what, remedy = next(
        (cause.format(*match.groups()), remedy)
        for pattern, cause, remedy in YAML_CAUSES
        if (match := re.search(pattern, text, re.DOTALL))
    )
    # A bracket or quote that is not closed is wrong where it was opened.
    line = began if began is not None and "not closed" in what else line
    where = str(path) if line is None else f"{path} line {line.line + 1}"
    return StudyError(f"is not valid YAML: {what}.", where=where, remedy=remedy)


YAML_CAUSES = (
    (r'\| found duplicate key "(.*)" with', 'the key "{}" is given twice', "Remove one of them."),
    (r"\|.*(?:\\t|\t)", "a tab is used for indentation", "Indent with spaces."),
    (
        r"quoted scalar.*\|.*end of stream|flow.*\|",
        "the quote or bracket that opens here is not closed",
        'Close it, or put "quotes" around a text that holds brackets or colons.',
    ),
    (
        "mapping values are not allowed",
        "a colon where none can be",
        'Put a text that holds ": " into "quotes", end the key above with a colon, and begin '
        "keys of one group in the same column.",
    ),
    (
        "",
        "the line, or the one above, cannot be understood",
        "A line is key: value, or a dash and a value; all keys of a group begin in the same "
        'column; texts with signs go into "quotes".',
    ),
)
"""The likely cause and what to do, by the parser's ``context | problem``; the first match counts.
"""


def _set_value(values: dict[str, Any], path: list[str], value: Any, text: str) -> KeyPath:
    """Set the value there; return its key path, with numbers for entries of lists."""
    group: Any = values
    place: list[str | int] = []
    for depth, part in enumerate(path[:-1]):
        if depth == 1 and path[0] in LIST_KEYS:
            section = path[0]
            names = [
                _entry_names(item, section) if isinstance(item, dict) else [] for item in group
            ]
            numbers = [number for number, of_entry in enumerate(names) if part in of_entry]
            if not numbers and part.isdecimal() and 0 < int(part) <= len(group):
                numbers = [int(part) - 1]
            if len(numbers) != 1 or not isinstance(group[numbers[0]], dict):
                first_names = [of_entry[0] for of_entry in names if of_entry]
                what = "names several" if numbers else "is none"
                suggestion = "" if numbers else suggest(part, first_names)
                listed = f"There are: {', '.join(first_names)}; or give the number, from 1."
                raise StudyError(
                    f'"{part}" {what} of the {section}.', where=text, remedy=suggestion or listed
                )
            group = group[numbers[0]]
            place.append(numbers[0])
            continue
        if depth == 0 and part in LIST_KEYS:
            values[part] = as_entries(values.get(part, []))
        elif not isinstance(group.get(part), dict):
            if group.get(part) is not None:
                raise StudyError(f"{part} is no group of keys.", where=text, remedy=EXAMPLE)
            group[part] = {}
        group = group[part]
        place.append(part)
    if isinstance(group, list):
        raise StudyError(
            f"{path[0]} is a list.",
            where=text,
            remedy=f"Name an entry and its key ({path[0]}.NAME.KEY=...), or give the whole list.",
        )
    group[path[-1]] = value
    return (*place, path[-1])


def as_entries(value: Any) -> list[Any]:
    """Expand ``methods: [full, lora]`` and ``models: NAME`` to the long form."""
    items = value if isinstance(value, list | tuple) else [value]
    return [{"name": item} if isinstance(item, str) else item for item in items]


def _entry_names(item: dict[str, Any], section: str) -> list[str]:
    """Return the names of an entry: as in the tables, and as in the file."""
    name = str(item.get("name", ""))
    if section == "tasks":  # the label of a task is a column
        languages = [str(item[k]) for k in ("language", "source_lang", "target_lang") if k in item]
        return ["-".join([name, *languages]), name]
    short = name.rstrip("/").split("/")[-1]
    return [str(name) for name in (item.get("label"), short, name) if name]
