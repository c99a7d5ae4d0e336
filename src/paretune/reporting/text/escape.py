"""Text of data and names in other formats' tables: what would steer them is taken literally."""

from __future__ import annotations

import json
import re
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from paretune.terminal.sanitise import sanitise_line

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",
    "]": "{]}",
    "`": r"\textasciigrave{}",
    "–": "--",
    "×": r"$\times$",
    "µ": r"\textmu{}",
    "²": r"\textsuperscript{2}",
    "\N{REPLACEMENT CHARACTER}": "?",
    "\0": "{}",
}
_MARKDOWN = re.compile(
    r"[\\`*|~]"
    r"|(?<!\w)_+|_+(?!\w)"  # within a word it is no emphasis
    r"|<(?=[A-Za-z/!?])"
    r"|(?<=\])[(\[:]"
    r"|^>|^[-+](?=\s|-[- ]*$)|(?<!\S)#(?=#*(?:\s|$))"
)
"""Characters that are markup where they stand, an entity's ampersand, the number of a list item."""
_FORMULA = re.compile("(^|[;|])(\\s*[=+@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
                      "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}-])")  # fmt: skip
"""The beginning of a formula where a cell may begin."""


def open_templates(*packages: str, html: bool = False) -> Environment:
    """Open the templates of packages; an unknown name in a template is an error.

    Args:
        html: every text is escaped; elsewhere filters of the caller do so.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=html,  # noqa: S701 - Markdown, LaTeX and YAML have escapes of their own
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not html,
    )


def escape_latex(text: str) -> str:
    """Escape for a LaTeX table; ``[`` in braces, since after a line's end it is an option.

    Two hyphens stay two, with an empty group between them.
    """
    line = re.sub("-(?=-)", "-\0", sanitise_line(text))
    return "".join(_LATEX.get(c, c) for c in line)


def escape_markdown(text: str) -> str:
    r"""Escape for a cell, heading, list item or paragraph of Markdown: no markup remains.

    What would not be markup where it stands is left as it is, so that the source can be read.

    >>> print(escape_markdown("copy_source, _x_ (1 < 2!) and [a](b)"))
    copy_source, \_x\_ (1 < 2!) and [a]\(b)
    """
    line = re.sub(r"&(?=#?\w+;)", "&amp;", sanitise_line(text).strip())
    line = _MARKDOWN.sub(lambda match: "".join(f"\\{c}" for c in match[0]), line)
    return re.sub(r"^(\d+)([.)])(?=\s)", r"\1\\\2", line)


def markdown_code(text: str) -> str:
    """Write code in a paragraph of Markdown, in marks longer than any that the text holds."""
    line = sanitise_line(text)
    marks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if len(marks) > 1 else ""
    return f"{marks}{pad}{line}{pad}{marks}"


def escape_csv(text: str) -> str:
    """Escape for a cell of a CSV: an apostrophe before what a spreadsheet would run as a formula.

    Some spreadsheets cut at semicolons or bars instead, so what follows one counts as a cell too.
    Quotes and commas are left to the CSV writer; a tab or a line break does not remain.
    """
    return _FORMULA.sub(r"\1'\2", sanitise_line(text))


def dump_script_json(values: Any) -> str:
    """Dump JSON in which no character can end the element or start another.

    ``<``, ``>`` and ``&`` are written as escapes, which JSON reads as the same text.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
