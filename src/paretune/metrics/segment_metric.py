"""The contract of a metric of texts that needs data or a model of its own.

It is computed only where a study names it (``generation.metrics``), when a run has ended; its score
of each segment is stored, so that no report needs what it was computed with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

ScoreSegments = Callable[[Sequence[str], Sequence[str]], list[float]]
"""From hypotheses and references to the score of each segment, 0 to 1."""


class Encoder(Protocol):
    """The model that a study names for a metric."""

    @property
    def name(self) -> str:
        """As on the hub, or of its folder."""

    def load(self) -> tuple[Any, Any]:
        """The model, in evaluation mode, and its tokenizer."""


class Prepare(Protocol):
    """Gets what the metric needs."""

    def __call__(self, language: str, encoder: Encoder | None, /) -> ScoreSegments:
        """A function that scores segments.

        Args:
            language: of the texts.
            encoder: the study's model, where it names one.

        Raises:
            MissingDependencyError: a package or data are not installed, or do not know the
                language.
        """


@dataclass(frozen=True, kw_only=True)
class SegmentMetric:
    """A metric whose score of a text is the mean over its segments, 0 to 1.

    Attributes:
        name: as study files and records have it.
        title: for readers.
        prepare: see :class:`Prepare`.
    """

    name: str
    title: str
    prepare: Prepare
