"""The space of a search: for each group of neighbouring layers some methods, each in one size.

The layers of a model, lowest first, are divided into groups of about equal size. In each group at
most so many of the methods stand, each with one of five sizes (its size option at 1/4, 1/2, 1, 2
and 4 times the default, as far as its bounds allow), and all learn at one factor of their middle
rate. AutoPEFT (Zhou et al. 2023, arXiv:2301.12132) has one size for each method, one bit for each
layer and one fixed rate; sizes then compete by rate.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paretune.methods.core.options import ALL, write_ranges
from paretune.study import derive_seed
from paretune_autopeft.trials import RATE_FACTORS, Member, describe_member

if TYPE_CHECKING:
    from paretune.methods import ConfiguredMethod


@dataclass(frozen=True)
class Configuration:
    """One point of a space.

    Attributes:
        groups: for each group of layers the index of each member's size; -1 where it is absent.
        rate: index into :data:`RATE_FACTORS`.
    """

    groups: tuple[tuple[int, ...], ...]
    rate: int = 1

    @property
    def is_empty(self) -> bool:
        """Whether no method stands anywhere."""
        return all(size < 0 for group in self.groups for size in group)

    @property
    def lowest_group(self) -> int:
        """The lowest group in which something is trained."""
        return next(n for n, group in enumerate(self.groups) if any(size >= 0 for size in group))


@dataclass(frozen=True)
class Space:
    """Configurations of some members in the layers of one model.

    Attributes:
        layers: how many the model has.
        groups: into how many groups they are divided.
        at_most: members in one group.
    """

    members: tuple[Member, ...]
    layers: int
    groups: int
    at_most: int

    @property
    def boundaries(self) -> tuple[range, ...]:
        """The layers of each group, lowest first."""
        ends = [round(n * self.layers / self.groups) for n in range(self.groups + 1)]
        return tuple(range(a, b) for a, b in pairwise(ends))

    def everywhere(self) -> Iterator[Configuration]:
        """Each member alone, in all layers, in its middle size: what a hand would take."""
        for n, member in enumerate(self.members):
            sizes = [-1] * len(self.members)
            sizes[n] = len(member.sizes) // 2
            yield Configuration((tuple(sizes),) * self.groups)

    def draw(self, seed: int) -> Configuration:
        """A random configuration that is not empty.

        How many groups have something is uniform, or nearly all would reach the lowest layer.
        """
        draws = random.Random(seed)  # noqa: S311  (no secret)
        used = set(draws.sample(range(self.groups), draws.randint(1, self.groups)))
        groups = tuple(
            self._draw_group(draws) if n in used else (-1,) * len(self.members)
            for n in range(self.groups)
        )
        return Configuration(groups, draws.randrange(len(RATE_FACTORS)))

    def draw_distinct(self, seed: int, count: int) -> list[Configuration]:
        """Random configurations, always the same ones; fewer where the space has fewer."""
        drawn: dict[Configuration, None] = {}
        for attempt in range(20 * count):
            drawn[self.draw(derive_seed(seed, "random", attempt))] = None
            if len(drawn) == count:
                break
        return list(drawn)

    def _draw_group(self, draws: random.Random) -> tuple[int, ...]:
        count = draws.randint(1, min(self.at_most, len(self.members)))
        chosen = set(draws.sample(range(len(self.members)), count))
        return tuple(
            draws.randrange(len(member.sizes)) if n in chosen else -1
            for n, member in enumerate(self.members)
        )

    def mutate(
        self, point: Configuration, seed: int, weights: Sequence[float] | None = None
    ) -> Configuration:
        """A neighbour: one group drawn anew, emptied or copied, one size moved, or another rate.

        Args:
            weights: of the groups, by which the one that changes is drawn (its gradients).
        """
        draws = random.Random(seed)  # noqa: S311  (no secret)
        for _ in range(20):
            (n,) = draws.choices(range(self.groups), weights=weights)
            kind = draws.choice(("draw", "size", "size", "empty", "copy", "rate"))
            groups, rate = list(point.groups), point.rate
            match kind:
                case "rate":
                    rate = min(len(RATE_FACTORS) - 1, max(0, rate + draws.choice((-1, 1))))
                case "draw":
                    groups[n] = self._draw_group(draws)
                case "size":
                    groups[n] = self._move_size(groups[n], draws)
                case "empty":
                    groups[n] = (-1,) * len(self.members)
                case _:
                    groups[n] = groups[draws.randrange(self.groups)]
            changed = Configuration(tuple(groups), rate)
            if changed != point and not changed.is_empty:
                return changed
        return point

    def _move_size(self, group: tuple[int, ...], draws: random.Random) -> tuple[int, ...]:
        present = [n for n, size in enumerate(group) if size >= 0]
        if not present:
            return self._draw_group(draws)
        n = draws.choice(present)
        moved = group[n] + draws.choice((-1, 1))
        sizes = list(group)
        sizes[n] = min(len(self.members[n].sizes) - 1, max(0, moved))
        return tuple(sizes)

    def to_members(self, point: Configuration) -> list[dict[str, Any]]:
        """The members of a stack, each size of a method with the layers that have it."""
        layers_of: dict[tuple[int, int], list[int]] = {}
        for group, layers in zip(point.groups, self.boundaries, strict=True):
            for n, size in enumerate(group):
                if size >= 0:
                    layers_of.setdefault((n, size), []).extend(layers)
        stack = []
        for (n, size), inside in sorted(layers_of.items()):
            member = self.members[n]
            options: dict[str, Any] = {"name": member.name}
            if member.option:
                options[member.option] = member.sizes[size]
            if len(inside) < self.layers:
                options["layers"] = write_ranges(inside)
            stack.append(options)
        return stack

    def to_features(self, point: Configuration) -> NDArray[np.float64]:
        """Numbers between 0 and 1 for a model of the scores: sizes, rate, depth, how many stand."""
        levels = [
            0.0 if size < 0 else (size + 1) / len(self.members[n].sizes)
            for group in point.groups
            for n, size in enumerate(group)
        ]
        used = sum(any(size >= 0 for size in group) for group in point.groups)
        rate = point.rate / (len(RATE_FACTORS) - 1)
        depth = point.lowest_group / max(1, self.groups - 1)
        return np.array([*levels, rate, depth, used / self.groups])


def make_space(
    members: Sequence[ConfiguredMethod], layers: int, *, groups: int, at_most: int
) -> Space:
    """A space of these methods; fewer groups where the model has fewer layers."""
    described = tuple(describe_member(member.method) for member in members)
    return Space(described, layers, min(groups, layers), at_most)


def describe_layers(stack: Sequence[Mapping[str, Any]]) -> str:
    """``lora rank 16 in 0-5 + ia3``: a stack in words."""
    parts = []
    for member in stack:
        sizes = [f"{k} {v}" for k, v in member.items() if k not in ("name", "layers")]
        layers = member.get("layers", ALL)
        parts.append(" ".join([member["name"], *sizes, *([] if layers == ALL else ["in", layers])]))
    return " + ".join(parts)
