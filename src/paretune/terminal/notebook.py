"""Shows values in a notebook: plain HTML, everything escaped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from html import escape

from paretune.terminal.sanitise import sanitise_line


def in_notebook() -> bool:
    """Whether this process is the kernel of a Jupyter notebook, or of what is like one."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def show_output(value: object) -> Callable[[], None]:
    """Show a value as an output of the cell that is executed.

    Returns:
        Shows the value anew, as it is then, in the same place.
    """
    from IPython.display import display

    handle = display(value, display_id=True)
    return lambda: handle.update(value)


def html_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose cells are texts; numbers are formatted by the caller."""
    left = 'style="text-align:left"'
    head = "".join(f"<th {left}>{_escape(title)}</th>" for title in header)
    body = ""
    for row in rows:
        cells = "".join(f"<td {left}>{_escape(text)}</td>" for text in row)
        body += f"<tr>{cells}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_lines(lines: Iterable[object], *, bold: bool = False) -> str:
    """Sentences, each in a paragraph of its own."""
    begin, end = ("<b>", "</b>") if bold else ("", "")
    return "".join(f"<p>{begin}{_escape(line)}{end}</p>" for line in lines)


def html_block(lines: Iterable[object]) -> str:
    """Sentences that belong together, in one paragraph."""
    return f"<p>{'<br>'.join(_escape(line) for line in lines)}</p>"


def html_code(lines: Iterable[str]) -> str:
    """Lines of a program or commands; converters of notebooks style the tag as running text."""
    text = "<br>".join(_escape(line) for line in lines)
    return f'<pre style="font-family:monospace">{text}</pre>'


def _escape(text: object) -> str:
    return escape(sanitise_line(text))
