"""Whether compiled kernels are used: the extra ``fast``.

Where numba is installed, dropout, attention's softmax and normalisations of packed batches in fp32
on a CPU run as machine code (:mod:`paretune.models.kernels`), with the same dropout and the same
results to rounding. Neither this file nor ``paretune --help`` imports numba: the first tensor that
a kernel computes does.
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
    """Whether kernels are to be used: numba is installed, and :data:`VARIABLE` is not 0.

    Raises:
        StudyError: the variable is neither 0 nor 1, or 1 without numba.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise StudyError(
            f'invalid value "{value}": expected 0 or 1.',
            where=VARIABLE,
            remedy="0 switches compiled kernels off.",
        )
    if value == "1" and numba_version() is None:
        raise StudyError(
            "numba is not installed, so no kernel can be compiled.",
            where=VARIABLE,
            remedy="Run pip install numba, or unset the variable.",
        )
    return value != "0" and numba_version() is not None


@contextmanager
def override_kernels(*, on: bool) -> Iterator[None]:
    """Set the variable while the block runs."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "1" if on else "0"
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def can_use_kernels(*tensors: Tensor) -> bool:
    """Whether kernels take these tensors: all in fp32, on a CPU, with one thread.

    With several threads torch's own operations share the work; kernels run on one.
    """
    import torch

    return (
        all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
        and torch.get_num_threads() == 1
        and kernels_enabled()
    )


def preload_kernels() -> None:
    """Import numba and all kernels, if they would be used: some 80 MB that belong to no method."""
    import torch

    if can_use_kernels(torch.empty(0)):
        from paretune.models.kernels import add_norm, attention  # noqa: F401


def describe_kernels() -> tuple[str | None, str]:
    """The version of numba that would be used, or None and why; for ``paretune doctor``."""
    if numba_version() is None:
        return None, "numba is not installed: pip install numba"
    if not kernels_enabled():
        return None, f"switched off by {VARIABLE}=0"
    return numba_version(), ""
