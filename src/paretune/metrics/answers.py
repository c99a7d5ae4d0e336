"""Free answers: exact match and token F1 after SQuAD's normalisation, last number, and ROUGE.

Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1, and the evaluation script of SQuAD 1.1: lower
case, no ASCII punctuation, no English articles, one blank between words. Token F1 is the harmonic
mean of precision and recall over the bag of words of prediction and reference, averaged over the
examples; two texts without a word are alike.

ROUGE-1, ROUGE-2 and ROUGE-L: F1 of words, word pairs and the longest common subsequence (Lin 2004,
"ROUGE: A Package for Automatic Evaluation of Summaries"), as Google's rouge-score computes it,
without stemming. Its own tokens are runs of a to z and 0 to 9, which cut words at every other
letter ("češnja" would be "e" and "nja"); here a token is a run of letters and digits of any script,
which is the same for texts in ASCII. Needs the extra ``rouge``.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from functools import cache, lru_cache, partial
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from paretune.errors import explain_missing
from paretune.metrics.metric import Array, Metric, Questions, Runs, Values

ANSWER = "answer"
"""The target type of texts that answer something: they are right or wrong, or nearly right."""
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_TOKEN = re.compile(r"[^\W_]+")
_CACHED = 1 << 16

Kind = Literal["rouge1", "rouge2", "rougeL"]
ScoreText = Callable[[str, str], float]
"""A function from a prediction and its reference to a score, 0 to 1."""


@lru_cache(maxsize=_CACHED)
def normalise_answer(text: str) -> str:
    """A text as SQuAD compares it."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def is_exact_match(prediction: str, reference: str) -> float:
    """1 where both are the same after normalisation, otherwise 0."""
    return float(normalise_answer(prediction) == normalise_answer(reference))


def token_f1(prediction: str, reference: str) -> float:
    """F1 of the words of one prediction, 0 to 1."""
    predicted, expected = (normalise_answer(t).split() for t in (prediction, reference))
    if not predicted or not expected:
        return float(predicted == expected)
    matched = (Counter(predicted) & Counter(expected)).total()
    return 2 * matched / (len(predicted) + len(expected)) if matched else 0.0


def is_same_number(prediction: str, reference: str) -> float:
    """1 where the last number of both is the same, as GSM8K's answers are judged, otherwise 0.

    Commas between thousands are left out (Cobbe et al. 2021, arXiv:2110.14168); a text without a
    number is never right.
    """
    predicted, expected = (_NUMBER.findall(t.replace(",", "")) for t in (prediction, reference))
    if not predicted or not expected:
        return 0.0
    return float(float(predicted[-1]) == float(expected[-1]))


def mean_of_texts(score: ScoreText) -> dict[str, Any]:
    """``statistics`` and ``from_sums`` of a metric that is a mean over examples."""

    def statistics(references: Values, predictions: Runs, questions: Questions = ()) -> Array:
        pairs = [zip(run, references, strict=True) for run in predictions]
        values = np.array([[score(str(p), str(r)) for p, r in run] for run in pairs], dtype=float)
        return np.stack([np.ones(values.shape), values], axis=-1)

    return {"statistics": statistics, "from_sums": lambda sums: sums[..., 1] / sums[..., 0]}


_EXACT = mean_of_texts(is_exact_match)
EXACT_MATCH = Metric(
    name="exact_match",
    title="exact match",
    description="share of answers that are the reference but for case, punctuation and articles",
    target_type=ANSWER,
    credit=lambda *compared: _EXACT["statistics"](*compared)[..., 1],
    **_EXACT,
)
TOKEN_F1 = Metric(
    name="token_f1",
    title="token F1",
    description="mean F1 of the words of answer and reference (SQuAD)",
    target_type=ANSWER,
    **mean_of_texts(token_f1),
)
LAST_NUMBER = Metric(
    name="last_number",
    title="last number",
    description="share of answers whose last number is that of the reference",
    target_type=ANSWER,
    **mean_of_texts(is_same_number),
)


@lru_cache(maxsize=_CACHED)
def rouge(kind: Kind, prediction: str, reference: str) -> float:
    """F1 of one text, 0 to 1; two texts without a word are alike.

    Raises:
        MissingDependencyError: rouge-score is not installed.
    """
    if not any(map(_TOKEN.search, (prediction, reference))):
        return 1.0
    return float(_rouge_scorer(kind).score(reference, prediction)[kind].fmeasure)


@cache
def _rouge_scorer(kind: Kind) -> Any:
    with explain_missing("rouge-score", "ROUGE"):
        from rouge_score.rouge_scorer import RougeScorer
    words = SimpleNamespace(tokenize=lambda text: _TOKEN.findall(text.lower()))
    return RougeScorer([kind], tokenizer=words)


def _rouge_metric(name: str, kind: Kind, title: str, of: str) -> Metric:
    return Metric(
        name=name,
        title=title,
        description=f"mean F1 of the {of} of text and reference (rouge-score)",
        target_type=ANSWER,
        signature=lambda: f"rouge-score:{version('rouge-score')}|stemmer:no|tokens:unicode",
        require=lambda: _rouge_scorer(kind),
        **mean_of_texts(partial(rouge, kind)),
    )


METRICS = (
    EXACT_MATCH,
    TOKEN_F1,
    LAST_NUMBER,
    _rouge_metric("rouge1", "rouge1", "ROUGE-1", "words"),
    _rouge_metric("rouge2", "rouge2", "ROUGE-2", "word pairs"),
    _rouge_metric("rouge_l", "rougeL", "ROUGE-L", "longest common subsequence"),
)
