"""The conclusions of the paper as values: which methods have more of what, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from ruamel.yaml import YAML

Kind = Literal["score", "memory", "parameters"]
MARGIN = 0.05
"""For ``not_below``: how much lower a score may be and still count as not lower."""


@dataclass(frozen=True)
class Claim:
    """One conclusion: each of ``more`` has more of ``kind`` than each of ``less``.

    Attributes:
        id: anchor on the page.
        says: the conclusion, paraphrased.
        place: in the paper.
        share: how many cases have to support it.
        models: the paper's short names; empty for all.
        relation: ``not_below`` allows :data:`MARGIN`.
        times: at least this many times as much.
        together: all comparisons on one task and model are one case; otherwise each is one.
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
        """The methods compared, the one with more first."""
        return tuple((a, b) for a in self.more for b in self.less)


@cache
def load_claims() -> tuple[Claim, ...]:
    """The paper's conclusions, in its order."""
    return tuple(_claim(entry) for entry in _file()["claims"])


def paper_title() -> str:
    """The title of the paper."""
    return str(_file()["title"])


def hub_names() -> dict[str, str]:
    """The paper's short name for each name of its models on the hub."""
    return {hub: short for short, names in _file()["models"].items() for hub in names}


def find_flaw(task: str, model: str, method: str) -> str:
    """Why a run of the paper is not what the paper takes it for; mostly empty."""
    run = {"task": task, "model": model, "method": method}
    return "; ".join(e["what"] for e in _file()["flaws"] if run.items() <= e.items())


def _claim(entry: Mapping[str, Any]) -> Claim:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Claim(**fields)


@cache
def _file() -> Mapping[str, Any]:
    text = (files("paretune_slovene.paper") / "claims.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = YAML(typ="safe", pure=True).load(text)
    return loaded
