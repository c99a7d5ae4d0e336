"""What runs in the page: one copy of a charting library, two short scripts of ours, and their data.

The library is Vega (https://vega.github.io) as the package ``vl-convert-python`` of its makers
brings it: nothing is fetched. The page's policy allows these scripts by their hashes and no other,
and forbids ``eval``: Vega's expressions are walked by its own interpreter.
"""

from __future__ import annotations

import base64
import hashlib
import os
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from paretune.data.sources.cache_dir import data_home
from paretune.errors import StoreError
from paretune.reporting.writing import write_file

_TEMPLATES = files("paretune.reporting.html") / "templates"
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""What the bundle defines in the page: the function that draws."""


@cache
def load_vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, with its licence: about 0.9 MB.

    Building it takes about 1.5 s, so it is cached in the folder of downloaded data, one file for
    each version; where that folder cannot be written, each process builds it again. A damaged
    file is replaced.
    """
    licence = (_TEMPLATES / "vega-licence.txt").read_text(encoding="utf-8").strip()
    sources = f"{version('vl-convert-python')}\n{_SNIPPET}\n{licence}"
    cached = data_home() / "page" / f"vega-{_digest(sources)[:16]}.js"
    if (text := _read_cached(cached)) is not None:
        return text
    # Imported here: 80 MB of shared object that a report on a terminal does not need.
    import vl_convert

    text = _inert(f"/*!\n{licence}\n*/\n{vl_convert.javascript_bundle(_SNIPPET)}")
    # Where the folder is read-only or full, the next process builds it again.
    with suppress(StoreError):
        write_file(cached, f"{_digest(text)}\n{text}", "the page's library")
    return text


def _read_cached(path: Path) -> str | None:
    """The text of a cached file; None where there is none, or where it is damaged."""
    if not path.is_file() or not os.access(path, os.R_OK):
        return None
    digest, _, text = path.read_bytes().decode("utf-8", errors="replace").partition("\n")
    return text if digest == _digest(text) else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def load_script(name: str) -> str:
    """One of our own scripts: ``pareto`` or ``disagreement``."""
    return _inert((_TEMPLATES / f"{name}.js").read_text(encoding="utf-8"))


def content_security_policy(scripts: list[str]) -> str:
    """The page's Content-Security-Policy: these scripts, our styles, and nothing else."""
    allowed = " ".join(f"'sha256-{_hash(text)}'" for text in scripts)
    run = f"; script-src {allowed}" if scripts else ""
    return f"default-src 'none'; style-src 'unsafe-inline'{run}"


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _inert(script: str) -> str:
    """A script in which nothing ends its own element: ``</`` only occurs in texts and patterns."""
    return script.replace("</script", r"<\/script").replace("<!--", r"<\!--")
