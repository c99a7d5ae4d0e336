"""Metrics beside BLEU, chrF and TER that a study may name: METEOR and BERTScore, by segment.

Both need what paretune does not install (NLTK with its data, WordNet, an encoder). What is missing
is an error before anything trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from paretune.errors import MissingDependencyError
from paretune.metrics.bertscore import default_layer, score_pairs
from paretune.metrics.meteor import meteor_score, porter_stemmer
from paretune.metrics.nltk_words import LANGUAGES, load_tokeniser
from paretune.metrics.wordnet import find_wordnet
from paretune.models.headless_encoder import load_headless_encoder
from paretune.study import Generation, ModelSpec

if TYPE_CHECKING:
    from paretune.training.caches import ProcessCache

ScoreSegments = Callable[[Sequence[str], Sequence[str]], list[float]]
"""From hypotheses and references to a score of each segment, 0 to 1."""


class OptionalMetrics:
    """The optional metrics of one run.

    Args:
        generation: names the metrics, and BERTScore's model.
        language: of the translations.
        caches: find the model.

    Raises:
        MissingDependencyError: NLTK, its data or WordNet is missing, or the language is not served.
        ModelError: the encoder of BERTScore cannot be used.
    """

    def __init__(self, generation: Generation, language: str, caches: ProcessCache) -> None:
        self.scorers: dict[str, ScoreSegments] = {}
        if "meteor" in generation.metrics:
            self.scorers["meteor"] = _meteor(language)
        if "bertscore" in generation.metrics:
            self.scorers["bertscore"] = _bertscore(str(generation.bertscore_model), caches)

    def score_segments(
        self, hypotheses: Sequence[str], references: Sequence[str]
    ) -> dict[str, list[float]]:
        """By metric, each segment's score, 0 to 1."""
        return {name: score(hypotheses, references) for name, score in self.scorers.items()}


def _meteor(language: str) -> ScoreSegments:
    if language not in LANGUAGES:
        raise MissingDependencyError(
            f'METEOR is computed for {" and ".join(LANGUAGES)}, not for "{language}".',
            where="generation.metrics",
            remedy="Leave meteor out.",
        )
    tokenise, stem, wordnet = load_tokeniser(language), porter_stemmer(), find_wordnet(None)

    def score(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
        pairs = zip(hypotheses, references, strict=True)
        return [meteor_score(tokenise(a), tokenise(b), stem, wordnet.synonyms) for a, b in pairs]

    return score


def _bertscore(name: str, caches: ProcessCache) -> ScoreSegments:
    source = caches.source(ModelSpec(name=name))

    def score(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
        model, tokenizer = load_headless_encoder(source)
        layer = default_layer(source.name, int(model.config.num_hidden_layers))
        return score_pairs(hypotheses, references, model, tokenizer, layer)

    return score
