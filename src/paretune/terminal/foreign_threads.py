"""What a library prints from a thread of its own, beside our output."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any


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
