"""Metrics beside BLEU, chrF and TER that a study names: METEOR and BERTScore, by segment.

They need what paretune does not install (NLTK with its data, WordNet, an encoder), so what is
missing is an error before anything trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paretune.metrics import SEGMENT_METRICS
from paretune.models.load import load_headless_encoder
from paretune.models.sources.resolve import ModelSource
from paretune.study import Generation, ModelSpec

if TYPE_CHECKING:
    from paretune.training.caches import ProcessCache


@dataclass(frozen=True)
class _Encoder:
    source: ModelSource

    @property
    def name(self) -> str:
        return self.source.name

    def load(self) -> tuple[Any, Any]:
        return load_headless_encoder(self.source)


class OptionalMetrics:
    """The optional metrics of one run.

    Raises:
        MissingDependencyError: NLTK, its data or WordNet is missing, or does not know the language.
        ModelError: the encoder of BERTScore cannot be found.
    """

    def __init__(self, generation: Generation, language: str, caches: ProcessCache) -> None:
        encoder = None
        if generation.bertscore_model is not None:
            encoder = _Encoder(caches.source(ModelSpec(name=generation.bertscore_model)))
        self._scorers = {
            name: SEGMENT_METRICS[name].prepare(language, encoder) for name in generation.metrics
        }

    def score_segments(
        self, hypotheses: Sequence[str], references: Sequence[str]
    ) -> dict[str, list[float]]:
        """By metric, each segment's score, 0 to 1."""
        return {name: score(hypotheses, references) for name, score in self._scorers.items()}
