"""The one place that prints: everything that a person sees on stdout or stderr is written here.

Labels, names, texts, file names and messages of libraries come from files that somebody else may
have written. Printed as they are, an escape sequence in them can retitle the window or clear the
screen, and a bidirectional override shows another text than there is. So no other module uses
``print``, ``sys.stdout``, ``sys.stderr`` or its own console (``tests/terminal/test_terminal.py``):

- ``echo(text)`` writes lines without wrapping; ``echo(text, error=True)`` to stderr.
- ``console()`` is Rich's console for tables, bars and sentences that wrap. It takes text literally
  (no markup, highlighting or emoji codes), so a style is passed separately:
  ``console().print(text, style="bold")``; paths and commands with ``soft_wrap=True``.
- ``echo(dump_json(value))`` writes JSON for scripts.

All of them sanitise what they write (:mod:`paretune.terminal.sanitise`). A text that has to stay on
one line or in one table cell goes through ``sanitise_line`` first, since a line break is not an
escape. A closed output (``| head``) raises :class:`OutputClosedError`, which ``paretune.cli.main``
ends quietly.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from typing import IO

from paretune.errors import OutputClosedError, StoredResultsWarning
from paretune.terminal.rich_console import Terminal
from paretune.terminal.sanitise import sanitise_text


def echo(text: object = "", *, error: bool = False) -> None:
    """Write one or several lines, cleaned, and flush.

    Args:
        text: without the last line break.
        error: to stderr instead of stdout.

    Raises:
        ReaderGoneError: nobody reads the stream any more.
    """
    stream = sys.stderr if error else sys.stdout
    if stream is None:  # the process was started with the stream closed
        return
    try:
        stream.write(f"{sanitise_text(text)}\n")
        stream.flush()
    except BrokenPipeError:
        raise OutputClosedError from None


def console(*, error: bool = False) -> Terminal:
    """A Rich console on stdout, or stderr, that cleans what it writes."""
    return Terminal(file=sys.stderr if error else None)


def is_terminal(*, error: bool = False) -> bool:
    """Whether stdout, or stderr, is a terminal, where bars can be drawn."""
    stream = sys.stderr if error else sys.stdout
    return stream is not None and stream.isatty()


def flush_output() -> None:
    """Write what the streams hold."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()


def detach_output() -> None:
    """After :class:`OutputClosedError`: Python does not try to write what is left, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        os.dup2(nowhere, stream.fileno())


def sanitise_tracebacks_and_warnings() -> None:
    """Clean tracebacks of defects and Python's warnings like all else from now on."""

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: IO[str] | None = None,
        line: str | None = None,
    ) -> None:
        text = f"warning: {message}"
        if not issubclass(category, StoredResultsWarning):
            text = warnings.formatwarning(message, category, filename, lineno, line)
        echo(text.rstrip(), error=True)

    sys.excepthook = lambda *error: echo(
        "".join(traceback.format_exception(*error)).rstrip(), error=True
    )
    warnings.showwarning = show_warning
