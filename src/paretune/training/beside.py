"""What a study asks to be scored beside BLEU, chrF and TER: METEOR and BERTScore, by segment.

Both need what paretune does not install (NLTK with its data, WordNet, an encoder), so they are
computed only where a study names them, and what is missing is told before anything trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from paretune.errors import MissingError
from paretune.metrics.bertscore import default_layer, f1
from paretune.metrics.meteor import meteor, porter
from paretune.metrics.wordnet import find
from paretune.metrics.words import LANGUAGES, tokeniser
from paretune.models.encoder import open_encoder
from paretune.study import Generation, ModelSpec

if TYPE_CHECKING:
    from paretune.training.workbench import Workbench

Segments = Callable[[Sequence[str], Sequence[str]], list[float]]


class Beside:
    """The further metrics of one run.

    Args:
        generation: which, and with what model.
        language: of the translations.
        bench: finds the model.

    Raises:
        MissingError: NLTK, its data or WordNet is not here, or does not know the language.
        ModelError: the encoder of BERTScore cannot be had.
    """

    def __init__(self, generation: Generation, language: str, bench: Workbench) -> None:
        self.scorers: dict[str, Segments] = {}
        if "meteor" in generation.metrics:
            self.scorers["meteor"] = _meteor(language)
        if "bertscore" in generation.metrics:
            self.scorers["bertscore"] = _bertscore(str(generation.bertscore_model), bench)

    def segments(
        self, hypotheses: Sequence[str], references: Sequence[str]
    ) -> dict[str, list[float]]:
        """By metric, each segment's score, 0 to 1."""
        return {name: score(hypotheses, references) for name, score in self.scorers.items()}


def _meteor(language: str) -> Segments:
    if language not in LANGUAGES:
        raise MissingError(
            f'METEOR is computed for {" and ".join(LANGUAGES)}, not for "{language}".',
            where="generation.metrics",
            remedy="Leave meteor out.",
        )
    cut, stem, words = tokeniser(language), porter(), find(None)

    def score(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
        pairs = zip(hypotheses, references, strict=True)
        return [meteor(cut(a), cut(b), stem, words.synonyms) for a, b in pairs]

    return score


def _bertscore(name: str, bench: Workbench) -> Segments:
    source = bench.source(ModelSpec(name=name))

    def score(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
        model, tokenizer = open_encoder(source)
        layer = default_layer(source.name, int(model.config.num_hidden_layers))
        return f1(hypotheses, references, model, tokenizer, layer)

    return score
