"""A picture file of matplotlib: same values, same bytes; its text can be searched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_DATED = {".svg": "Date", ".pdf": "CreationDate"}
"""What a format's metadata calls its date."""


@contextmanager
def open_canvas(path: Path, width: float, height: float) -> Iterator[Any]:
    """An empty matplotlib figure, in inches, saved to ``path`` (``.png``, ``.svg``, ``.pdf``)."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Constant ids and no date: the same records give the same file. Type 42: a PDF's fonts are
    # inside it as TrueType, so its text can be searched and copied.
    settings = {
        "svg.hashsalt": "paretune",
        "font.size": 9,
        "hatch.linewidth": 1.2,
        "pdf.fonttype": 42,
    }
    with rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        metadata = {_DATED[path.suffix]: None} if path.suffix in _DATED else {}
        figure.savefig(path, dpi=160, facecolor="white", metadata=metadata)


def escape_mathtext(text: str) -> str:
    """Without dollar signs that matplotlib would take for mathematics."""
    return text.replace("$", r"\$")


def set_ticks(axis: Any, x: Sequence[tuple[float, str]], y: Sequence[tuple[float, str]]) -> None:
    """Set ticks, each a place with its label, and hide the box."""
    axis.set_xticks([at for at, _ in x], [text for _, text in x])
    axis.set_yticks([at for at, _ in y], [text for _, text in y])
    axis.tick_params(length=2, labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_axisbelow(True)
