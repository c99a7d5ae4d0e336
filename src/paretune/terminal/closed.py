"""The error of a closed output."""

from __future__ import annotations


class OutputClosedError(Exception):
    """The reader of stdout has closed it, as ``| head`` does.

    Not a BrokenPipeError, since that may also come from a pipe between processes: a defect.
    """
