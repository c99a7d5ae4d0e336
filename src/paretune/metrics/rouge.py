"""ROUGE-1, ROUGE-2 and ROUGE-L: F1 of words, word pairs and the longest common subsequence.

Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", as Google's rouge-score computes
it, without stemming. Its own tokens are runs of a to z and 0 to 9, which cut words at every other
letter ("češnja" would be "e" and "nja"); here a token is a run of letters and digits of any script,
which is the same for texts in ASCII. Needs the extra ``rouge``.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache, partial
from typing import Any, Literal

from paretune.errors import MissingDependencyError
from paretune.metrics.answers import ANSWER, mean_of_texts
from paretune.metrics.metric import Metric

Kind = Literal["rouge1", "rouge2", "rougeL"]
_TOKEN = re.compile(r"[^\W_]+")
_CACHED = 1 << 16


class Words:
    """The tokenizer that rouge-score is given."""

    def tokenize(self, text: str) -> list[str]:
        """Runs of letters and digits, in lower case."""
        return _TOKEN.findall(text.lower())


def require_rouge() -> None:
    """Check that rouge-score is installed.

    Raises:
        MissingDependencyError: it is not.
    """
    _scorer("rougeL")


@lru_cache(maxsize=_CACHED)
def rouge(kind: Kind, prediction: str, reference: str) -> float:
    """F1 of one text, 0 to 1; two texts without a word are alike.

    Raises:
        MissingDependencyError: rouge-score is not installed.
    """
    if not any(map(_TOKEN.search, (prediction, reference))):
        return 1.0
    return float(_scorer(kind).score(reference, prediction)[kind].fmeasure)


@cache
def signature(kind: Kind) -> str:
    """The package's version and what is not its default."""
    from importlib.metadata import version

    return f"rouge-score:{version('rouge-score')}|stemmer:no|tokens:unicode"


@cache
def _scorer(kind: Kind) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise MissingDependencyError(
            "ROUGE needs the package rouge-score, which is not installed.",
            remedy="Install it: pip install rouge-score; or choose another metric.",
        ) from None
    return RougeScorer([kind], tokenizer=Words())


def _metric(name: str, kind: Kind, title: str, of: str) -> Metric:
    return Metric(
        name=name,
        title=title,
        description=f"mean F1 of the {of} of text and reference (rouge-score)",
        target_type=ANSWER,
        signature=partial(signature, kind),
        require=require_rouge,
        **mean_of_texts(partial(rouge, kind)),
    )


METRICS = (
    _metric("rouge1", "rouge1", "ROUGE-1", "words"),
    _metric("rouge2", "rouge2", "ROUGE-2", "word pairs"),
    _metric("rouge_l", "rougeL", "ROUGE-L", "longest common subsequence"),
)
