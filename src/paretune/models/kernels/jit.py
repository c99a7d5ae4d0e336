"""How kernels are compiled, and where their machine code is cached.

Compiling all of them takes some seconds, once for each machine and version; after that they are
read from ``compiled`` in paretune's cache folder. There numba stores them under the processor's
name and features, so that machines may share a folder; where it cannot be written, numba takes the
folder of Python's own compiled files.
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
"""A product and a sum may be rounded once; nothing is reordered."""
SUMMED = {"contract", "reassoc", "nsz"}
"""Terms of a sum may be added in any order, which lets a processor add many at once."""


def jit_helper(rounding: set[str] = FUSED) -> Callable[[Function], Function]:
    """A decorator for functions that become part of the kernels that call them."""
    return numba.njit(nogil=True, error_model="numpy", fastmath=rounding)  # type: ignore[no-any-return]


def jit_kernel(signature: str) -> Callable[[Function], Function]:
    """A decorator for kernels of one signature: compiled, or read from the cache, when imported.

    Raises:
        StudyError: machine code cannot be cached anywhere.
    """
    compile_function = numba.njit(
        signature, nogil=True, error_model="numpy", fastmath=FUSED, cache=True
    )

    def build(function: Function) -> Function:
        before = numba.config.CACHE_DIR
        # A user's own NUMBA_CACHE_DIR comes first.
        numba.config.CACHE_DIR = before or str(kernel_cache_folder())
        try:
            return compile_function(function)  # type: ignore[no-any-return]
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            raise StudyError(
                f"machine code cannot be cached in {kernel_cache_folder()}.",
                where=function.__name__,
                remedy="Set PARETUNE_HOME to a writable folder, or PARETUNE_COMPILED=0.",
            ) from error
        finally:
            numba.config.CACHE_DIR = before

    return build


@cache
def kernel_cache_folder() -> Path:
    """A folder for each state of the kernels' source, since kernels call one another."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    return data_home() / "compiled" / digest[:16]
