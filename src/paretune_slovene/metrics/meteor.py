"""METEOR of one sentence pair, as NLTK 3.6.6 computes it and SloBench shows it.

Lavie and Agarwal, 2007: "METEOR: An Automatic Metric for MT Evaluation with High Levels of
Correlation with Human Judgments". Words are aligned in three rounds (equal, equal stems, synonyms);
precision P and recall R of the aligned words and the number of chunks (runs of words that stand
side by side in both) give ``(1 - 0.5 (chunks / aligned)^3) PR / (0.9 P + 0.1 R)``.

Two details are NLTK's: a word takes the last free word that matches, both read from their ends,
where the paper asks for the fewest crossings; and the third round looks up stems. Stems are
Porter's and synonyms WordNet's, both of English: for Slovene, which SloBench shows too, the score
is little more than the share of equal words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import pairwise

from paretune.errors import MissingDependencyError
from paretune.metrics.metric import ScoreSegments, ScoringModel, SegmentMetric
from paretune_slovene.metrics.nltk_words import LANGUAGES, load_tokeniser
from paretune_slovene.metrics.wordnet import find_wordnet

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5

Words = Sequence[str]
Stem = Callable[[str], str]
Synonyms = Callable[[str], frozenset[str]]


def meteor_score(hypothesis: Words, reference: Words, stem: Stem, synonyms: Synonyms) -> float:
    """METEOR of a hypothesis, in 0..1.

    Args:
        stem: Porter's stemmer (:func:`porter_stemmer`).
        synonyms: of a word, as :meth:`paretune_slovene.metrics.wordnet.WordNet.synonyms` has them.
    """
    pairs = align_words(hypothesis, reference, stem, synonyms)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(hypothesis), len(pairs) / len(reference)
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    penalty: float = GAMMA * (_count_chunks(pairs) / len(pairs)) ** BETA
    return (1 - penalty) * mean


def align_words(
    hypothesis: Words, reference: Words, stem: Stem, synonyms: Synonyms
) -> list[tuple[int, int]]:
    """Positions of aligned words, by position in the hypothesis."""
    unaligned = {i: word.lower() for i, word in enumerate(hypothesis)}
    unaligned_reference = {j: word.lower() for j, word in enumerate(reference)}
    pairs = _match_words(unaligned, unaligned_reference, lambda word: frozenset((word,)))
    unaligned = {i: stem(word) for i, word in unaligned.items()}
    unaligned_reference = {j: stem(word) for j, word in unaligned_reference.items()}
    pairs += _match_words(unaligned, unaligned_reference, lambda word: frozenset((word,)))
    pairs += _match_words(unaligned, unaligned_reference, lambda word: synonyms(word) | {word})
    return sorted(pairs)


@cache
def porter_stemmer() -> Stem:
    """NLTK's Porter stemmer with a cache of stems; it needs no data.

    Raises:
        MissingDependencyError: NLTK is not installed.
    """
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError:
        raise MissingDependencyError(
            "METEOR needs NLTK, which is not installed.", remedy='pip install "nltk>=3.9.1,<4"'
        ) from None
    stem: Stem = lru_cache(maxsize=1 << 16)(PorterStemmer().stem)
    return stem


def _match_words(
    unaligned: dict[int, str], unaligned_reference: dict[int, str], equivalents: Synonyms
) -> list[tuple[int, int]]:
    """Pair the words that match, and remove them from both."""
    pairs = []
    for i in sorted(unaligned, reverse=True):
        words = equivalents(unaligned[i])
        j = next(
            (
                j
                for j in sorted(unaligned_reference, reverse=True)
                if unaligned_reference[j] in words
            ),
            None,
        )
        if j is not None:
            pairs.append((i, j))
            del unaligned[i], unaligned_reference[j]
    return pairs


def _count_chunks(pairs: list[tuple[int, int]]) -> int:
    return 1 + sum((b[0] - a[0], b[1] - a[1]) != (1, 1) for a, b in pairwise(pairs))


def _prepare(language: str, encoder: ScoringModel | None) -> ScoreSegments:
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


METEOR = SegmentMetric(name="meteor", title="METEOR", prepare=_prepare)
