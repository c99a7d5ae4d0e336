"""What the methods of this package are called; torch is not needed to ask."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from paretune.methods.peft.supported import PEFT_PREFIX, SUPPORTED


@cache
def title_of(key: str) -> str:
    """What a method is called where a person reads: ``LoRA`` for ``lora``; a label as it is.

    A title of this package is read from the source, since importing a method imports torch. A
    plug-in is called by its name.
    """
    tuner = key.removeprefix(PEFT_PREFIX)
    if tuner != key and tuner in SUPPORTED:
        return f"{SUPPORTED[tuner].title} (peft)"
    if key not in list_built_in():
        return key
    package, _, name = list_built_in()[key].rpartition(".")
    source = pkgutil.get_data(package, f"{name}.py") or b""
    titles = re.findall(r'^    title="(.+)",$', source.decode("utf-8"), re.MULTILINE)
    return titles[0] if titles else key


@cache
def list_built_in() -> Mapping[str, str]:
    """Module names of the methods by the methods' names: those of the files."""
    folder = Path(__file__).parents[1]
    return {
        info.name: f"{package}.{info.name}"
        for package, path in (
            ("paretune.methods", folder),
            ("paretune.methods.baselines", folder / "baselines"),
        )
        for info in pkgutil.iter_modules([str(path)])
        if not info.ispkg
    }
