"""Being told to stop (Ctrl-C, SIGTERM) while a run trains: at any instruction, but where it tears.

A step that is broken off in its forward or backward pass has changed no weight, so the run can be
kept as it was after the step before. What changes weights and counts the step must happen whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class _Pending:
    """Of this process, whose main thread receives its signals."""

    whole = 0
    asked = False


def interrupt() -> None:
    """Raise KeyboardInterrupt, or let :func:`defer_interrupts` do it at its end; for handlers."""
    if not _Pending.whole:
        raise KeyboardInterrupt
    _Pending.asked = True


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """What is inside happens whole; an interrupt that came meanwhile is raised after it.

    Raises:
        KeyboardInterrupt: at the end.
    """
    _Pending.whole += 1
    try:
        yield
    finally:
        _Pending.whole -= 1
        asked = _Pending.asked and not _Pending.whole
        if asked:
            _Pending.asked = False
    if asked:
        raise KeyboardInterrupt
