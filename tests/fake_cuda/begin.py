"""``python begin.py GUARD CASE ...``: register the fake GPU, then walk the cases on it.

A case is ``FAMILY/METHOD/PRECISION/HOW``, and how ``fast`` or ``padded``; or it is
``self-check``, which shows that what a GPU refuses is refused, or ``keep-aside``.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path


def load_guard(path: str) -> None:
    """Register the device: before torch is imported, which asks once what there is."""
    torch_spec = importlib.util.find_spec("torch")
    assert torch_spec is not None and torch_spec.origin is not None
    libraries = Path(torch_spec.origin).parent / "lib"
    ctypes.CDLL(str(libraries / "libtorch_cpu.so"), ctypes.RTLD_GLOBAL)
    ctypes.CDLL(path)


if __name__ == "__main__":
    load_guard(sys.argv[1])
    import walk

    walk.main(sys.argv[2:])
