"""Whether the passes between a model's products are compiled: the extra ``fast``.

Where numba is installed, dropout, attention's softmax and normalisations of packed batches in fp32
on a CPU run as machine code (:mod:`paretune.models.packing.compiled`), with the same dropout and
the same results to rounding. Neither this file nor ``paretune --help`` imports numba: it is
imported by the first tensor that it computes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from paretune.errors import StudyError

if TYPE_CHECKING:
    from torch import Tensor

VARIABLE = "PARETUNE_COMPILED"
PACKAGE = "numba"


@cache
def numba_version() -> str | None:
    """The version of numba; None without the extra."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def kernels_enabled() -> bool:
    """Whether the passes are to be compiled: numba is there, and :data:`VARIABLE` is not 0.

    Raises:
        StudyError: the variable is neither 0 nor 1, or 1 without numba.
    """
    told = os.environ.get(VARIABLE, "")
    if told not in ("", "0", "1"):
        raise StudyError(
            f'"{told}" is neither 0 nor 1.', where=VARIABLE, remedy="0 compiles nothing."
        )
    if told == "1" and numba_version() is None:
        raise StudyError(
            "numba is not installed, so nothing can be compiled.",
            where=VARIABLE,
            remedy="pip install numba, or leave the variable out.",
        )
    return told != "0" and numba_version() is not None


@contextmanager
def override_kernels(*, on: bool) -> Iterator[None]:
    """While it is open, passes are compiled, or not; then the variable is as it was."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "1" if on else "0"
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def can_use_kernels(*tensors: Tensor) -> bool:
    """Whether compiled passes take these tensors: all in fp32, on a CPU, with one thread.

    With several threads torch's own passes share the work; the compiled ones keep to one.
    """
    import torch

    return (
        all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
        and torch.get_num_threads() == 1
        and kernels_enabled()
    )


def preload_kernels() -> None:
    """Import numba and every kernel, if they would be used: some 80 MB that belong to no method."""
    import torch

    if can_use_kernels(torch.empty(0)):
        from paretune.models.kernels import add_norm, attention  # noqa: F401


def describe_kernels() -> tuple[str | None, str]:
    """The version that would be used, or None, and why not; for ``paretune doctor``."""
    if numba_version() is None:
        return None, "numba is not installed: pip install numba"
    if not kernels_enabled():
        return None, f"switched off by {VARIABLE}=0"
    return numba_version(), ""
