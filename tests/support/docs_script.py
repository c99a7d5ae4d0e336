"""Scripts outside the package, as modules: those in docs/ write its generated pages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[2] / "docs"


def docs_script(name: str) -> ModuleType:
    """The script that writes ``docs/NAME.md``."""
    if str(DOCS) not in sys.path:
        sys.path.append(str(DOCS))  # where one script finds another
    return load_script(DOCS / f"{name}.py")


def load_script(path: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_page", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module
