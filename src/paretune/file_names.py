"""Names of files: made of names that somebody else chose, or typed by a user."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

MAX_NAME_BYTES = 200
"""File systems take 255; suffixes, and the marks of temporary files, are added to a name."""
_UNSAFE = re.compile(r"[^\w.:-]+|(?<!\w):|:(?!\w)")
"""A colon within a name, as in ``peft:vera``, has a character of its own that is safe."""
_DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10)),
}


def make_file_name(*parts: str) -> str:
    """One name of a file or folder: no path, not hidden, no option, no device, not too long.

    A name that had to be changed ends in a hash, so that two names never become one file.

    >>> make_file_name("topics", "tiny", "lora")
    'topics-tiny-lora'
    >>> make_file_name("topics", "../lora")
    'topics-lora-48cbbd38'
    >>> make_file_name("topics", "peft:vera")
    'topics-peft+vera'
    """
    safe = (_UNSAFE.sub("-", part).strip("-.").replace(":", "+") for part in parts)
    name = "-".join(part for part in safe if part)
    if name.partition(".")[0].upper() in _DEVICES:
        name = f"_{name}"
    if name == "-".join(parts).replace(":", "+") and name and len(name.encode()) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:8]
    short = name.encode()[: MAX_NAME_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{short}-{digest}" if short else digest


def expand_home(path: Path | str) -> Path:
    """The path with the home folder for ``~``; ``~nobody`` stays as it is, and is nowhere."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(path)
