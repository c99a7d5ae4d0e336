"""METEOR of one sentence pair, as NLTK 3.6.6 computes it and SloBench shows it.

Lavie and Agarwal, 2007: "METEOR: An Automatic Metric for MT Evaluation with High Levels of
Correlation with Human Judgments". Words are aligned in three rounds (equal, equal stems, synonyms);
precision P and recall R of the aligned words and the number of chunks (runs of words that stand
side by side in both) give ``(1 - 0.5 (chunks / aligned)^3) PR / (0.9 P + 0.1 R)``.

Two details are NLTK's, later versions included: a word takes the last free word that matches, both
read from their ends, where the paper asks for the fewest crossings; and the third round looks up
stems. Stems are Porter's and synonyms WordNet's, both of English: for Slovene, which SloBench shows
too, the score is little more than the share of equal words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from types import SimpleNamespace

from paretune.errors import MissingDependencyError, explain_missing
from paretune.metrics.metric import ScoreSegments, ScoringModel, SegmentMetric
from paretune_slovene.metrics.nltk_words import LANGUAGES, load_tokeniser
from paretune_slovene.metrics.wordnet import open_wordnet

Synonyms = Callable[[str], frozenset[str]]
Meteor = Callable[[Sequence[str], Sequence[str]], float]


@cache
def load_meteor(synonyms: Synonyms) -> Meteor:
    """METEOR of the words of a hypothesis and a reference, in 0..1, by NLTK.

    Args:
        synonyms: of a word, as :meth:`paretune_slovene.metrics.wordnet.WordNet.synonyms` has them.

    Raises:
        MissingDependencyError: NLTK is not installed.
    """
    with explain_missing("nltk>=3.9.1,<4", "METEOR"):
        from nltk.stem.porter import PorterStemmer
        from nltk.translate.meteor_score import single_meteor_score
    stemmer = SimpleNamespace(stem=lru_cache(maxsize=1 << 16)(PorterStemmer().stem))

    @lru_cache(maxsize=1 << 16)
    def list_synsets(word: str) -> list[SimpleNamespace]:
        lemmas = [*map(_Lemma, synonyms(word))]
        return [SimpleNamespace(lemmas=lambda: lemmas)]

    wordnet = SimpleNamespace(synsets=list_synsets)

    def score(hypothesis: Sequence[str], reference: Sequence[str]) -> float:
        return float(single_meteor_score(reference, hypothesis, stemmer=stemmer, wordnet=wordnet))

    return score


class _Lemma(str):
    """A synonym as NLTK reads it."""

    __slots__ = ()

    def name(self) -> str:
        return str(self)


def _prepare(language: str, encoder: ScoringModel | None) -> ScoreSegments:
    if language not in LANGUAGES:
        raise MissingDependencyError(
            f'METEOR is computed for {" and ".join(LANGUAGES)}, not for "{language}".',
            where="generation.metrics",
            remedy="Leave meteor out.",
        )
    tokenise, meteor = load_tokeniser(language), load_meteor(open_wordnet(None).synonyms)

    def score(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
        pairs = zip(hypotheses, references, strict=True)
        return [meteor(tokenise(a), tokenise(b)) for a, b in pairs]

    return score


METEOR = SegmentMetric(name="meteor", title="METEOR", prepare=_prepare)
