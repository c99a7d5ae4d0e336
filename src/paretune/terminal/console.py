"""Rich's console, with texts that cannot steer the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from paretune.errors import OutputClosedError
from paretune.terminal.sanitise import sanitise_text


class Terminal(Console):
    """A console that takes text literally and cleans all of it; its own styles stay."""

    def __init__(
        self,
        *,
        file: IO[str] | None = None,
        width: int | None = None,
        force_terminal: bool | None = None,
    ) -> None:
        super().__init__(
            file=file,
            width=width,
            force_terminal=force_terminal,
            markup=False,
            highlight=False,
            emoji=False,
        )

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of anything that is printed; every text passes here, also of a table."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(sanitise_text(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Leave it to whoever runs the program; Rich would end it with exit code 1."""
        self.quiet = True
        raise OutputClosedError
