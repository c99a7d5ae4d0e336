"""What runs in the page: one copy of a charting library, two short scripts of ours, and their data.

The library is Vega (https://vega.github.io) as the package ``vl-convert-python`` of its makers
brings it: nothing is fetched. The page's policy allows these scripts by their hashes and no other,
and forbids ``eval``: Vega's expressions are walked by its own interpreter.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

_TEMPLATES = files("paretune.report") / "templates"
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""What a bundle without more gives the page: the one function that draws."""


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, with its licence: about 0.9 MB.

    Putting it together takes about a second, once in a process; other threads go on meanwhile.
    """
    # Imported here: 80 MB of shared object that a report on a terminal does not need.
    import vl_convert

    licence = (_TEMPLATES / "vega-licence.txt").read_text(encoding="utf-8").strip()
    bundle = vl_convert.javascript_bundle(_SNIPPET)
    return _inert(f"/*!\n{licence}\n*/\n{bundle}")


@cache
def script(name: str) -> str:
    """One of our own scripts: ``front`` or ``disagree``."""
    return _inert((_TEMPLATES / f"{name}.js").read_text(encoding="utf-8"))


def data(values: Any) -> str:
    """Values as JSON that can stand in a ``<script type="application/json">``.

    No character in it can end the element, open another or be taken for markup: what could is
    written as an escape, which JSON reads as the same text.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def policy(scripts: list[str]) -> str:
    """The page's Content-Security-Policy: these scripts, our styles, and nothing else."""
    allowed = " ".join(f"'sha256-{_hash(text)}'" for text in scripts)
    run = f"; script-src {allowed}" if scripts else ""
    return f"default-src 'none'; style-src 'unsafe-inline'{run}"


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _inert(script: str) -> str:
    """A script in which nothing ends its own element: ``</`` only occurs in texts and patterns."""
    return script.replace("</script", r"<\/script").replace("<!--", r"<\!--")
