"""What the methods of this package are called; torch is not needed to ask."""

from __future__ import annotations

import pkgutil
import re
from functools import cache
from pathlib import Path

from paretune.methods import baselines
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
    if key in baselines.METHODS:
        return baselines.METHODS[key].title
    if key not in list_files():
        return key
    source = pkgutil.get_data("paretune.methods", f"{key}.py") or b""
    titles = re.findall(r'^    title="(.+)",$', source.decode("utf-8"), re.MULTILINE)
    return titles[0] if titles else key


@cache
def list_files() -> tuple[str, ...]:
    """The methods that have a file of this package, without the baselines."""
    modules = pkgutil.iter_modules([str(Path(__file__).parents[1])])
    return tuple(m.name for m in modules if not m.ispkg and m.name != "baselines")
