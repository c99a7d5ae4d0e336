"""Pages of the site that are made from the code or from what was measured.

``python docs/reference_pages.py FOLDER`` writes them; the site's build asks for them
(:mod:`docs.site_hooks`), so they are no files of the repository.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.core import TyperGroup

import paretune
from paretune.cli import app
from paretune.reporting.table_files import COLUMNS
from paretune.study import Study

ROOT = Path(__file__).parents[1]
_NONE = type(None)
_SIGNS = {"Ge": "≥", "Gt": ">", "Le": "≤", "Lt": "<"}
_BOUNDS = {"Ge": "ge", "Gt": "gt", "Le": "le", "Lt": "lt"}


def commands() -> Iterator[tuple[str, Any, Any]]:
    """Words, command and context of every verb, those of groups included."""
    root: Any = typer.main.get_command(app)
    context = root.make_context("paretune", ["ls"])
    for verb in root.list_commands(context):
        _, command, _ = root.resolve_command(context, verb.split())
        if isinstance(command, TyperGroup):
            yield from ((f"{verb} {name}", sub, context) for name, sub in command.commands.items())
        else:
            yield verb, command, context


def cli_page() -> str:
    """Every verb with its arguments and options."""
    lines = [
        "# Command line",
        "",
        "Made from the program itself. What each verb is for, exit codes and what may be typed: "
        "[the command line](../your-study/index.md); the objects of `--json`: [JSON](json.md).",
        "",
    ]
    for verb, command, context in commands():
        own = command.context_class(command, parent=context, info_name=verb)
        usage = " ".join(command.collect_usage_pieces(own))
        lines += [f"## {verb}", "", f"`paretune {verb} {usage}`", ""]
        lines += [*_paragraphs(command.help or ""), ""]
        lines += ["| argument or option | |", "|---|---|"]
        lines += [_parameter_row(one, own) for one in command.params if one.get_help_record(own)]
        lines.append("")
    return "\n".join(lines)


def _parameter_row(parameter: Any, context: Any) -> str:
    """Names and help, as ``--help`` has them."""
    names, text = parameter.get_help_record(context)
    return f"| `{' '.join(names.split())}` | {_cell(text)} |"


def study_file_page() -> str:
    """Every section and key of a study file, from the models that validate it."""
    lines = [
        "# Study file",
        "",
        "Made from the models that validate a study file. `paretune new` writes one with comments; "
        "what is unknown or impossible is answered with its line and a remedy.",
        "",
        "## The file",
        "",
        *_paragraphs(_doc(Study)),
        "",
        *_field_table(Study),
    ]
    for name, model in sections():
        lines += [f"## {name}", "", *_paragraphs(_doc(model)), "", *_field_table(model)]
    return "\n".join(lines)


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """The parts of a study file that have keys of their own, by their name in it."""
    for name, field in Study.model_fields.items():
        for model in _models_in(field.annotation):
            yield name, model


def python_page() -> str:
    """The names of the package, for the tool that reads docstrings."""
    lines = [
        "# Python",
        "",
        "The verbs of the command line as functions that return values; in a "
        "notebook, values show themselves as tables. A first look: "
        "[your study](../your-study/index.md#python).",
        "",
    ]
    names = sorted(paretune.__all__, key=lambda name: (name[0].isupper(), name))
    for name in names:
        value = getattr(paretune, name)
        lines += [f"::: {value.__module__}.{value.__qualname__}", ""]
    return "\n".join(lines)


def tables_page() -> str:
    """The tables that ``report --tables`` writes, and their columns."""
    lines = [
        "# Tables",
        "",
        "`report --tables DIR` writes those of `scores`, `comparisons`, `costs`, `bytes`, `sizes`,",
        "`rates` and `failures` that have rows, and one of each further measure: `translations`,",
        "`shifted`, `forgetting` and those of plug-ins. These are the columns of",
        "`.csv`; a table has those that apply.",
    ]
    lines += ["", "Sizes are bytes, times are seconds.", "", "| column | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, (_, meaning) in COLUMNS.items()]
    return "\n".join(lines) + "\n"


def import_page(module: str, function: str = "page") -> Callable[[], str]:
    """The page that a script beside this one, or in bench, makes."""

    def make() -> str:
        sys.path[:] = dict.fromkeys([*sys.path, str(ROOT / "docs"), str(ROOT / "bench")])
        return str(getattr(importlib.import_module(module), function)())

    return make


def read_guarantees(name: str) -> Callable[[], str]:
    """What ``make guarantees`` found here, otherwise what it found when it was kept."""
    places = [ROOT / folder / f"{name}.md" for folder in ("build", "bench/results")]
    return lambda: next(path for path in places if path.exists()).read_text(encoding="utf-8")


PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli_page,
    "reference/study-file.md": study_file_page,
    "reference/python.md": python_page,
    "reference/json.md": import_page("json_page"),
    "reference/tables.md": tables_page,
    "reference/methods.md": import_page("methods"),
    "reference/exports.md": import_page("exports"),
    "reference/calibration.md": import_page("calibration", "make_page"),
    "reference/guarantees.md": read_guarantees("guarantees"),
    "reference/guarantees-decoders.md": read_guarantees("guarantees-decoders"),
}
"""By path in the site."""


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _field_table(model: type[BaseModel]) -> list[str]:
    lines = ["| key | value | default |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{_default(field)}`"
        lines.append(f"| `{field.alias or name}` | {_cell(_describe_value(field))} | {default} |")
    return [*lines, ""]


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "{}"
    if isinstance(value, tuple):
        return str(list(value))
    return {None: "null", True: "true", False: "false"}.get(value, str(value))


def _describe_value(field: FieldInfo) -> str:
    bounds = [
        f"{_SIGNS[kind]} {getattr(one, _BOUNDS[kind])}"
        for one in field.metadata
        if (kind := type(one).__name__) in _SIGNS
    ]
    return ", ".join([_describe_type(field.annotation), *bounds])


def _describe_type(annotation: Any) -> str:
    """``list of text, or null``; words of YAML, not of Python."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _describe_type(arguments[0])
    if origin in (Union, types.UnionType):
        return ", or ".join(_describe_type(one) for one in arguments)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin is tuple:
        return f"list of {_describe_type(arguments[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return "keys and values"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "keys, see below"
    known = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    return {**known, _NONE: "null", Any: "any"}.get(annotation, str(annotation))


def _doc(value: Any) -> str:
    return inspect.getdoc(value) or ""


def _paragraphs(text: str) -> list[str]:
    """A docstring as Markdown: code in single marks, roles as code."""
    plain = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", inspect.cleandoc(text)).replace("``", "`")
    return plain.splitlines()


def _cell(text: str) -> str:
    return re.sub(r"([|<\[])", r"\\\1", " ".join(text.split()))


if __name__ == "__main__":
    for path, page in PAGES.items():
        target = Path(sys.argv[1]) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page(), encoding="utf-8")
