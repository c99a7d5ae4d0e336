"""How a kernel is compiled, and where its machine code is kept.

Compiling all of them takes some seconds, once for each machine and version; after that they are
read from ``compiled`` in paretune's cache folder. There numba keeps them by its own means, under
the processor's name and features, so that machines may share a folder; where it cannot be written,
they lie where Python keeps its own compiled files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numba

from paretune.data.sources.cache_dir import data_home
from paretune.errors import StudyError

Function = TypeVar("Function", bound=Callable[..., Any])

FUSED = {"contract"}
"""A product and a sum may be rounded once; nothing is moved."""
SUMMED = {"contract", "reassoc", "nsz"}
"""Terms of a sum may be added in any order, which is what lets a processor add many at once."""


def jit_helper(rounding: set[str] = FUSED) -> Callable[[Function], Function]:
    """A function that becomes part of the kernels that call it."""
    return numba.njit(nogil=True, error_model="numpy", fastmath=rounding)  # type: ignore[no-any-return]


def jit_kernel(signature: str) -> Callable[[Function], Function]:
    """A kernel for arguments of one signature; compiled, or read from the folder, when imported.

    Raises:
        StudyError: nowhere can machine code be kept.
    """
    made = numba.njit(signature, nogil=True, error_model="numpy", fastmath=FUSED, cache=True)

    def build(function: Function) -> Function:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = before or str(
            kernel_cache_folder()
        )  # a user's own NUMBA_CACHE_DIR comes first
        try:
            return made(function)  # type: ignore[no-any-return]
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            raise StudyError(
                f"Machine code cannot be kept in {kernel_cache_folder()}.",
                where=function.__name__,
                remedy="Set PARETUNE_HOME to a folder that can be written, or PARETUNE_COMPILED=0.",
            ) from error
        finally:
            numba.config.CACHE_DIR = before

    return build


@cache
def kernel_cache_folder() -> Path:
    """Where machine code is kept: a folder for each text of the kernels, which call one another."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    read = sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    return data_home() / "compiled" / read[:16]
