"""AutoPEFT's own space (Zhou et al. 2023, arXiv:2301.12132), of a model of any width and depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from saas import Array

from paretune.methods.core.layer_subset import list_layers, write_ranges

SERIAL, PARALLEL, PREFIX = MEMBERS = ("pfeiffer", "parallel", "prefix")
MOST_TOKENS = 512
"""That a prefix may have here."""


@dataclass(frozen=True)
class Setting:
    """One point of its space.

    Attributes:
        levels: of the sizes of the three methods, 0: absent.
        layers: whether each layer has them.
    """

    levels: tuple[int, ...]
    layers: tuple[bool, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is trained."""
        return not any(self.levels) or not any(self.layers)


@dataclass(frozen=True)
class OwnSpace:
    """Its space for a model of this width and so many layers."""

    width: int
    layers: int

    @property
    def factors(self) -> tuple[int, ...]:
        """By which the width is divided, largest first, each for another size."""
        by_size = {max(1, self.width // 2**k): 2**k for k in reversed(range(10))}
        return tuple(sorted(by_size.values(), reverse=True))

    def draw(self, rng: np.random.Generator) -> Setting:
        """A random setting that is not empty."""
        while True:
            levels = tuple(int(n) for n in rng.integers(0, len(self.factors) + 1, len(MEMBERS)))
            one = Setting(levels, tuple(bool(bit) for bit in rng.integers(0, 2, self.layers)))
            if not one.is_empty:
                return self.read(self.to_members(one))

    def move(self, one: Setting, rng: np.random.Generator) -> Setting:
        """A neighbour: one bit, or one size by a normal step of a fifth of their range."""
        most = len(self.factors)
        while True:
            levels, layers = list(one.levels), list(one.layers)
            n = int(rng.integers(len(levels) + len(layers)))
            if n < len(levels):
                levels[n] = int(np.clip(round(rng.normal(levels[n], 0.2 * most)), 0, most))
            else:
                layers[n - len(levels)] = not layers[n - len(levels)]
            moved = Setting(tuple(levels), tuple(layers))
            if not moved.is_empty and (read := self.read(self.to_members(moved))) != one:
                return read

    def to_features(self, settings: Sequence[Setting]) -> Array:
        """Numbers between 0 and 1; (settings, 3 + layers)."""
        rows = [[*(n / len(self.factors) for n in s.levels), *s.layers] for s in settings]
        return np.array(rows, dtype=np.float64)

    def to_members(self, one: Setting) -> list[dict[str, Any]]:
        """The members of a stack."""
        members = []
        for name, level in zip(MEMBERS, one.levels, strict=True):
            if level:
                factor = self.factors[level - 1]
                size = min(MOST_TOKENS, max(1, self.width // factor))
                own = (
                    {"num_virtual_tokens": size} if name == PREFIX else {"reduction_factor": factor}
                )
                own = {"name": name, **own}
                if not all(one.layers):
                    own["layers"] = write_ranges([n for n, bit in enumerate(one.layers) if bit])
                members.append(own)
        return members

    def count_parameters(self, one: Setting) -> int:
        """Trained ones, without the head's."""
        in_layer = 0
        for name, level in zip(MEMBERS, one.levels, strict=True):
            if level:
                size = max(1, self.width // self.factors[level - 1])
                if name == PREFIX:
                    in_layer += 2 * self.width * min(MOST_TOKENS, size)
                else:
                    in_layer += 2 * self.width * size + size + self.width
        return in_layer * sum(one.layers)

    def read(self, members: Sequence[Mapping[str, Any]]) -> Setting:
        """The inverse of :meth:`to_members`; of two settings that are the same, always one."""
        by_name = {member["name"]: member for member in members}
        inside = set(list_layers(str(members[0].get("layers", "all")), self.layers))
        layers = tuple(n in inside for n in range(self.layers))
        levels = [0, 0, 0]
        for place, name in enumerate(MEMBERS):
            for level in range(1, len(self.factors) + 1) if name in by_name else ():
                one = Setting(tuple(level * (n == place) for n in range(3)), layers)
                if self.to_members(one) == [by_name[name]]:
                    levels[place] = level
        return Setting(tuple(levels), layers)
