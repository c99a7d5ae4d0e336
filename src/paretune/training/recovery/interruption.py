"""Interrupts (Ctrl-C, SIGTERM) while a run trains, deferred while its state is inconsistent.

A step that is interrupted in its forward or backward pass has changed no weight, so the run can be
saved as it was after the step before. Changing weights and counting the step must not be separated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class _Pending:
    """State of this process, whose main thread receives its signals."""

    depth = 0
    interrupted = False


def interrupt() -> None:
    """Raise KeyboardInterrupt, or let :func:`defer_interrupts` do it at its end; for handlers."""
    if not _Pending.depth:
        raise KeyboardInterrupt
    _Pending.interrupted = True


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Run the block to its end; an interrupt that came meanwhile is raised after it.

    Raises:
        KeyboardInterrupt: at the end of the outermost block.
    """
    _Pending.depth += 1
    try:
        yield
    finally:
        _Pending.depth -= 1
        interrupted = _Pending.interrupted and not _Pending.depth
        if interrupted:
            _Pending.interrupted = False
    if interrupted:
        raise KeyboardInterrupt
