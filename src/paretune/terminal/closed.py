"""Nobody reads the output any more."""

from __future__ import annotations


class OutputClosedError(Exception):
    """Whoever read stdout has closed it, as ``| head`` does.

    No BrokenPipeError, since that may also come from a pipe between processes, which is a defect.
    """
