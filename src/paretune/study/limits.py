"""What a configuration of a study may cost at most: the limits of its recommendation."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from paretune.study import quantities
from paretune.study.specs import FrozenModel


def _size(name: str) -> BeforeValidator:
    def parse(value: Any) -> Any:
        return quantities.read_setting(quantities.parse_size, value, name)

    return BeforeValidator(parse)


def _duration(name: str, *, rounds: bool = True) -> BeforeValidator:
    def parse(value: Any) -> Any:
        return quantities.read_setting(quantities.parse_duration, value, name, rounds=rounds)

    return BeforeValidator(parse)


class Limits(FrozenModel):
    """Limits that ``recommend`` keeps where its options do not say otherwise.

    In a race, what is measured to exceed one is not trained; in a search, what is predicted to.
    ``max_memory`` (``4GiB``): peak memory in training; ``max_time`` (``10min``): to train one run
    alone; ``max_bytes`` (``20MB``): of what is saved; ``max_parameters``: trained ones;
    ``max_latency`` (``20ms``): inference of one example. Bare numbers are bytes and seconds.
    """

    max_memory: Annotated[int | None, _size("max_memory"), Field(gt=0)] = None
    max_time: Annotated[int | None, _duration("max_time"), Field(gt=0)] = None
    max_bytes: Annotated[int | None, _size("max_bytes"), Field(gt=0)] = None
    max_parameters: Annotated[int | None, Field(gt=0)] = None
    max_latency: Annotated[float | None, _duration("max_latency", rounds=False), Field(gt=0)] = None

    @property
    def by_axis(self) -> dict[str, float]:
        """The limits that are given, by the name of their cost."""
        named = {
            "memory": self.max_memory,
            "time": self.max_time,
            "saved": self.max_bytes,
            "parameters": self.max_parameters,
            "inference": self.max_latency,
        }
        return {axis: float(limit) for axis, limit in named.items() if limit is not None}
