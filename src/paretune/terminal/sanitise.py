"""The one place that cleans: text that cannot steer a terminal."""

from __future__ import annotations

import json
import unicodedata
from typing import Any


def sanitise_line(text: object) -> str:
    """The text as one line of printable characters.

    Control characters (C0 and C1, so every escape sequence loses its beginning), bidirectional
    overrides, line separators, unassigned code points and lone surrogates become U+FFFD; a space of
    another kind becomes a space.
    """
    line = str(text)
    if line.isprintable():
        return line
    spaces = {c: " " for c in line if unicodedata.category(c) == "Zs"}
    return "".join(
        c if c.isprintable() else spaces.get(c, "\N{REPLACEMENT CHARACTER}") for c in line
    )


def sanitise_text(text: object) -> str:
    """The text as lines of printable characters; only line feeds stay as they are."""
    return "\n".join(map(sanitise_line, str(text).replace("\r\n", "\n").split("\n")))


def dump_json(value: Any) -> str:
    """JSON in which every character that is not printable is escaped.

    Raises:
        ValueError: a number is not finite, for which JSON has no word.
    """
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    # Outside of its strings JSON is printable but for line feeds, so only strings change.
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)
