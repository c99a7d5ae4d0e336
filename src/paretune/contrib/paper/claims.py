"""A conclusion of the paper as a value: which methods it says have more of what, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from ruamel.yaml import YAML

Kind = Literal["score", "memory", "parameters"]
MARGIN = 0.05
"""``not_below``: what a score may be lower by and still count as no lower."""


@dataclass(frozen=True)
class Claim:
    """One conclusion: each of ``more`` has more of ``kind`` than each of ``less``.

    ``models`` are the paper's short names, empty for all. ``relation`` ``not_below`` allows
    :data:`MARGIN`. ``times``: at least so many times as much. ``together``: all comparisons on one
    task and model are one case; otherwise each is. ``share`` is how many cases have to come out.
    """

    id: str
    says: str
    place: str
    kind: Kind
    tasks: tuple[str, ...]
    more: tuple[str, ...]
    less: tuple[str, ...]
    share: Literal["all", "most"]
    models: tuple[str, ...] = ()
    relation: Literal["above", "not_below"] = "above"
    times: int | None = None
    together: bool = False

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """What is compared, each with more first."""
        return tuple((a, b) for a in self.more for b in self.less)


@cache
def load_claims() -> tuple[Claim, ...]:
    """The paper's conclusions, in its order."""
    return tuple(_claim(entry) for entry in _file()["claims"])


def paper_title() -> str:
    """The paper's."""
    return str(_file()["title"])


def hub_names() -> dict[str, str]:
    """The paper's short name of each hub name that its models have."""
    return {hub: short for short, names in _file()["models"].items() for hub in names}


def find_flaw(task: str, model: str, method: str) -> str:
    """What keeps a run of the paper from being what it is taken for; mostly nothing."""
    run = {"task": task, "model": model, "method": method}
    return "; ".join(e["what"] for e in _file()["flaws"] if run.items() <= e.items())


def _claim(entry: Mapping[str, Any]) -> Claim:
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Claim(**given)


@cache
def _file() -> Mapping[str, Any]:
    text = (files("paretune.contrib.paper") / "claims.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = YAML(typ="safe", pure=True).load(text)
    return loaded
