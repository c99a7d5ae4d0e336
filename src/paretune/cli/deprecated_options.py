"""Deprecated names of options: they still work, and no help shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paretune.terminal import echo

DEPRECATED: Mapping[str, Mapping[str, str]] = {
    "export": {"--to": "--output"},
    "track": {"--into": "--output"},
    "data": {"--to": "--output"},
}
"""By the first word of the verb."""


def translate_deprecated(words: Sequence[str]) -> list[str]:
    """A command line, from its verb on, with current option names."""
    if not words:
        return []
    names = DEPRECATED.get(words[0], {})
    translated = []
    for word in words:
        option, equals, value = word.partition("=")
        translated.append(f"{names.get(option, option)}{equals}{value}")
    return _translate_json_file(translated) if words[0] == "report" else translated


def _translate_json_file(words: list[str]) -> list[str]:
    """``--json FILE`` was an option of `report`; ``--json`` is a flag now, as everywhere."""
    for place, word in enumerate(words):
        file = word.removeprefix("--json=") if word.startswith("--json=") else ""
        after = place + 1
        if word == "--json" and after < len(words) and words[after].lower().endswith(".json"):
            file, after = words[after], after + 1
        if file:
            echo("note: --json FILE is now --json --output FILE, and shows no tables", error=True)
            return [*words[:place], "--json", "--output", file, *words[after:]]
    return words
