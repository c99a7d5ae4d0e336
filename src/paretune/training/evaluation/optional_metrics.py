"""What a study asks to be scored beside BLEU, chrF and TER: METEOR and BERTScore, by segment.

Both need what paretune does not install (NLTK with its data, WordNet, an encoder), so they are
computed only where a study names them, and what is missing is told before anything trains.
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

Segments = Callable[[Sequence[str], Sequence[str]], list[float]]


class OptionalMetrics:
    """The further metrics of one run.

    Args:
        generation: which, and with what model.
        language: of the translations.
        bench: finds the model.

    Raises:
        MissingError: NLTK, its data or WordNet is not here, or does not know the language.
        ModelError: the encoder of BERTScore cannot be had.
    """

    def __init__(self, generation: Generation, language: str, bench: ProcessCache) -> None:
        self.scorers: dict[str, Segments] = {}
        if "meteor" in generation.metrics:
            self.scorers["meteor"] = _meteor(language)
        if "bertscore" in generation.metrics:
            self.scorers["bertscore"] = _bertscore(str(generation.bertscore_model), bench)

    def score_segments(
        self, hypotheses: Sequence[str], references: Sequence[str]
    ) -> dict[str, list[float]]:
        """By metric, each segment's score, 0 to 1."""
        return {name: score(hypotheses, references) for name, score in self.scorers.items()}


def _meteor(language: str) -> Segments:
    if language not in LANGUAGES:
        raise MissingDependencyError(
            f'METEOR is computed for {" and ".join(LANGUAGES)}, not for "{language}".',
            where="generation.metrics",
            remedy="Leave meteor out.",
        )
    cut, stem, words = load_tokeniser(language), porter_stemmer(), find_wordnet(None)

    def score(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
        pairs = zip(hypotheses, references, strict=True)
        return [meteor_score(cut(a), cut(b), stem, words.synonyms) for a, b in pairs]

    return score


def _bertscore(name: str, bench: ProcessCache) -> Segments:
    source = bench.source(ModelSpec(name=name))

    def score(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
        model, tokenizer = load_headless_encoder(source)
        layer = default_layer(source.name, int(model.config.num_hidden_layers))
        return score_pairs(hypotheses, references, model, tokenizer, layer)

    return score
