"""Rich's console, with texts that cannot steer it, and a filter for what a library prints."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

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
            force_jupyter=False,  # Rich would show in the notebook what is meant for a file
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


@contextmanager
def drop_output_of(thread_name: str) -> Iterator[None]:
    """While the block runs, drop what threads of that name write to stdout.

    For libraries that have no setting for it: it would stand in the middle of a progress bar, or of
    JSON.
    """
    original = sys.stdout
    filtered: Any = _WithoutThread(original, thread_name)
    sys.stdout = filtered
    try:
        yield
    finally:
        sys.stdout = original


class _WithoutThread:
    def __init__(self, stream: IO[str], thread_name: str) -> None:
        self._stream, self._thread_name = stream, thread_name

    def write(self, text: str) -> int:
        if threading.current_thread().name == self._thread_name:
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
