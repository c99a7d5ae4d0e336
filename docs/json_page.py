"""The page of the site on ``--json``, from the fields that the code has."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, get_args

from paretune import plugins
from paretune.cli import VERBS, load_verb
from paretune.reporting import Report
from paretune.reporting.document import FORMAT
from paretune.reporting.parts import Part
from paretune.verbs.judge import DecisionResult
from paretune.verbs.result import Result, ResultList

COMMON = ("format", "paretune", "verb")
"""Fields of every object but a report's: the version of its form, of the program, and the verb."""

# The script is not called json.py: beside itself it would stand before Python's own json.


def page() -> str:
    """The whole page."""
    lines = [
        "# A study as JSON",
        "",
        "`paretune report STUDY --json`, as `paretune judge FILE --json`, gives the whole study as",
        "one JSON object, on standard output or, with `--output FILE`, in a file",
        "([other verbs](#the-other-verbs)): what was",
        "asked for, every cell with its score and interval, comparisons with the baselines, costs,",
        "learning curves, environment and failures. It is written whole or not at all, and the",
        "same records give the same bytes. It works while the study runs.",
        "",
        "```python",
        "from pathlib import Path",
        "from paretune.reporting import read_json",
        "",
        'report = read_json(Path("study.json"))  # checked: another format is refused',
        "for cell in report.tasks[0].cells:",
        "    print(cell.method, cell.score)",
        "```",
        "",
        "- What is not there is `null`, never 0; NaN and infinity are never written.",
        "- Numbers are not rounded. Sizes are bytes, times are seconds.",
        "- Scores are means over seeds; their intervals are over seeds and test examples",
        "  ([how](../how-it-works/statistics.md)). Costs are solo measurements",
        "  ([how](../how-it-works/measuring.md)).",
        "- Under `runs` each score is one run's, so one seed. `scores` and `curve` have no",
        "  interval: they are there to be looked into, not to be concluded from.",
        f"- `format` is {FORMAT}. It grows when a field is removed or means something else; new",
        "  fields may come without it, so an older file may lack some.",
        "",
        "| field | meaning |",
        "|---|---|",
    ]
    lines += [f"| `{path}` | {meaning} |" for path, meaning in list_fields().items()]
    return "\n".join([*lines, "", *_verbs(), ""])


def list_fields(part: type[Part] = Report, before: str = "") -> dict[str, str]:
    """Every field with its meaning, by its path: ``tasks[].cells[].score.low``."""
    fields: dict[str, str] = {}
    for name, field in part.model_fields.items():
        path = f"{before}{field.alias or name}"
        fields[path] = field.description or ""
        for inner, listed in _find_parts(field.annotation):
            fields |= list_fields(inner, f"{path}{'[]' * listed}.")
    return fields


def _find_parts(annotation: Any, listed: bool = False) -> list[tuple[type[Part], bool]]:
    """The parts in an annotation, and whether they stand in a list."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [(annotation, listed)]
    listed = listed or getattr(annotation, "__origin__", None) is tuple
    return [pair for inner in get_args(annotation) for pair in _find_parts(inner, listed)]


def _verbs() -> list[str]:
    """The objects of all other verbs."""
    lines = [
        "## The other verbs",
        "",
        "Every verb takes `--json` and gives one object on standard output, or in `--output FILE`",
        "where it makes no file or folder of its own. What is told meanwhile, errors and the exit",
        "code are as without it; messages go to standard error. `null`, sizes and times are as",
        f"above. Each has the fields {', '.join(f'`{name}`' for name in COMMON)}, and:",
        "",
        "| verb | field | meaning |",
        "|---|---|---|",
    ]
    for verb, result in result_types().items():
        described = describe_fields(result)
        lines += [f"| `{verb}` | `{name}` | {text} |" for name, text in described.items()]
        if not described:
            lines.append(f"| `{verb}` | | {_plain(inspect.getdoc(result.to_json) or '')} |")
    return lines


def result_types() -> dict[str, type[Result]]:
    """The class of what each verb returns, but a report, which is described above."""
    verbs = {name: load_verb(name) for name in VERBS if name not in ("report", "judge")} | {
        name: verb
        for name, verb in plugins.load_all(plugins.COMMANDS, object)[0].items()
        if inspect.isfunction(verb)
    }
    return {name: _returns(verb) for name, verb in verbs.items()} | {"judge": DecisionResult}


def describe_fields(result: Any) -> dict[str, str]:
    """Fields of the JSON object of a result, each with what its docstring says; none where the
    class makes the object itself.
    """
    if result.to_json not in (Result.to_json, ResultList.to_json):
        return {}
    if issubclass(result, ResultList):
        names: tuple[str, ...] = ("tasks",)
    else:
        names = result.json_fields or tuple(field.name for field in fields(result))
    described = dict(_read_attributes(inspect.getdoc(result) or ""))
    for name in names:
        if isinstance(value := inspect.getattr_static(result, name, None), property):
            described[name] = inspect.getdoc(value) or ""
    return {name: _plain(described[name]) for name in names}


def _returns(verb: Callable[..., Any]) -> Any:
    return vars(inspect.getmodule(verb))[inspect.signature(verb).return_annotation]


def _read_attributes(doc: str) -> Iterator[tuple[str, str]]:
    """Names and texts of the section ``Attributes`` of a docstring."""
    section = doc.partition("Attributes:\n")[2]
    yield from re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, re.MULTILINE)


def _plain(text: str) -> str:
    """A docstring in one line, as Markdown."""
    return " ".join(re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`").split())
