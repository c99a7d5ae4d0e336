"""What always stands beside the methods under comparison; which of them, an objective says.

Without a model:

- ``majority``: the most frequent label of train, for every example; of numbers, their mean. Ties go
  to the label that comes first. What a collapsed run scores: no method below it has learned
  anything.
- ``tfidf``: words and word pairs, sublinear TF-IDF, scikit-learn's logistic regression with C = 1;
  for numbers its ridge regression with alpha = 1. A pair is joined to one text; of several choices
  each is classified as right or wrong, and the likeliest is the answer. What does not beat it needs
  no language model.
- ``gradient_boosting``: on the columns of a table (Friedman 2001, Annals of Statistics 29(5), in
  scikit-learn's histogram form, with its default settings). Columns of numbers are taken as
  numbers, all others as categories; what train did not know counts as missing.
- ``copy_source``: the source as its own translation, or the prompt as its own answer. Names,
  numbers and formatting are often the same in both languages, so this is not 0.
- ``frequent_text``: the most frequent completion of train, after SQuAD's normalisation; ties go to
  the one that comes first.
- ``majority_tag``: the most frequent tag of each word of train, as it is spelled; of others the
  most frequent of all. Ties go to the tag that comes first.
- ``gazetteer``: the entities of train, found again word by word, the longest first; each has its
  most frequent type.
- ``nearest_text``: the completion of the train prompt with the largest cosine of TF-IDF over words
  and word pairs; ties go to the first row. It is useful where prompts repeat almost word by word.

With a model:

- ``head_only``: the linear probe (Alain and Bengio 2016, arXiv:1610.01644): the backbone is frozen
  and the head trained. What does not beat it has learned nothing in the backbone.
- ``untuned``: the model as it comes, for tasks that it can answer without training. What does not
  beat it has made the model worse.
- ``few_shot``: the same after ``k`` solved examples in its prompt (Brown et al. 2020,
  arXiv:2005.14165), drawn from the training part by the run's seed, the labels in turn.

Nothing here imports torch, since analysis and reports ask which methods are baselines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from paretune.methods.core.method import Baseline, Head, Method, Trains
from paretune.methods.core.options import MethodOptions
from paretune.metrics.answers import normalise_answer
from paretune.metrics.tags import OUTSIDE, find_entities
from paretune.objectives.example import Example
from paretune.objectives.regression import fit_target_scale

if TYPE_CHECKING:
    from torch import nn

    from paretune.methods.core.injection import Injection
    from paretune.models.pass_context import PassContext
    from paretune.models.structure.anatomy import Anatomy

Examples = Sequence[Example]
PredictScores = Callable[[Examples], NDArray[np.float64]]
"""A function from examples to log-probabilities, (examples, labels).

For numbers it gives deviations from their mean in train, in standard deviations, (examples, 1).
"""
PredictTexts = Callable[[Examples], list[str]]
MAX_CATEGORIES = 200
"""At most so many values of a column count (scikit-learn takes 255); others count as missing."""


def fit_majority(
    train: Examples, num_labels: int, options: MethodOptions, seed: int
) -> PredictScores:
    """The most frequent label, or 0 deviations from the mean."""
    if fit_target_scale(train) is not None:
        return lambda examples: np.zeros((len(examples), 1))
    labels = [int(e.label) for e in train if e.label is not None]
    counts = np.bincount(labels, minlength=num_labels)
    scores = np.log((counts + 1) / (counts.sum() + num_labels))
    return lambda examples: np.tile(scores, (len(examples), 1))


def fit_tfidf(train: Examples, num_labels: int, options: MethodOptions, seed: int) -> PredictScores:
    """Words and word pairs; with one label in train, or no word in its texts, the majority."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    texts = [_join_segment(segment) for e in train for segment in e.segments]
    constant = fit_majority(train, num_labels, options, seed)
    if not any(map(words.build_analyzer(), texts)):
        return constant  # signs only: there is no word to learn from
    if (scale := fit_target_scale(train)) is not None:
        line = make_pipeline(words, Ridge(alpha=1.0))
        line.fit(texts, scale.standardise(train))
        return lambda examples: np.asarray(
            line.predict([_join_segment(e.segments[0]) for e in examples])
        ).reshape(-1, 1)
    choices = len(train[0].segments)
    if choices > 1:
        answers = [int(c == e.label) for e in train for c in range(choices)]
    else:
        answers = [int(e.label) if e.label is not None else -1 for e in train]
    if len(set(answers)) == 1:
        return constant
    classifier = LogisticRegression(C=1.0, max_iter=2000, random_state=seed % 2**32)
    model = make_pipeline(words, classifier)
    model.fit(texts, answers)
    known_labels = [int(c) for c in model[-1].classes_]

    def predict(examples: Examples) -> NDArray[np.float64]:
        flat = [_join_segment(segment) for e in examples for segment in e.segments]
        log_probabilities = model.predict_log_proba(flat)
        if choices > 1:
            right: NDArray[np.float64] = log_probabilities[:, known_labels.index(1)]
            return right.reshape(len(examples), choices)
        table = np.full((len(examples), num_labels), -np.inf)
        table[:, known_labels] = log_probabilities
        finite: NDArray[np.float64] = np.maximum(table, -1e3)  # a label unseen in train: storable
        return finite

    return predict


def _join_segment(segment: tuple[str, str | None]) -> str:
    return segment[0] if segment[1] is None else f"{segment[0]} {segment[1]}"


def fit_gradient_boosting(
    train: Examples, num_labels: int, options: MethodOptions, seed: int
) -> PredictScores:
    """Trees on the columns; with one label in train, the majority."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    columns = [_encode_column(values) for values in zip(*(e.features for e in train), strict=True)]
    settings = {
        "categorical_features": [codes is not None for codes in columns],
        "random_state": seed % 2**32,
    }
    if (scale := fit_target_scale(train)) is not None:
        line = HistGradientBoostingRegressor(**settings)
        line.fit(_build_matrix(train, columns), scale.standardise(train))
        return lambda examples: np.asarray(line.predict(_build_matrix(examples, columns))).reshape(
            -1, 1
        )
    labels = [int(e.label) for e in train if e.label is not None]
    if len(set(labels)) == 1:
        return fit_majority(train, num_labels, options, seed)  # nothing to tell apart
    model = HistGradientBoostingClassifier(**settings)
    model.fit(_build_matrix(train, columns), labels)
    known_labels = [int(c) for c in model.classes_]

    def predict(examples: Examples) -> NDArray[np.float64]:
        answers = np.full((len(examples), num_labels), -1e3)  # a label unseen in train: storable
        probabilities = model.predict_proba(_build_matrix(examples, columns))
        answers[:, known_labels] = np.log(np.maximum(probabilities, 1e-300))
        return answers

    return predict


def _encode_column(column: Sequence[object]) -> dict[object, int] | None:
    """None if the values are numbers, otherwise the code of each category."""
    values = [value for value in column if value is not None]
    if all(isinstance(value, float) for value in values):
        return None
    counts = Counter(values)
    frequent = sorted(counts, key=lambda value: (-counts[value], str(value)))[:MAX_CATEGORIES]
    return {value: code for code, value in enumerate(frequent)}


def _build_matrix(
    examples: Examples, columns: Sequence[dict[object, int] | None]
) -> NDArray[np.float64]:
    """(examples, columns): numbers, or codes of categories; NaN for what is missing or unknown."""
    rows = np.full((len(examples), len(columns)), np.nan)
    for i, example in enumerate(examples):
        for j, (value, codes) in enumerate(zip(example.features, columns, strict=True)):
            if codes is not None:
                rows[i, j] = codes.get(value, np.nan)
            elif isinstance(value, float):
                rows[i, j] = value
    return rows


def fit_copy_source(
    train: Examples, num_labels: int, options: MethodOptions, seed: int
) -> PredictTexts:
    """The sources as they are."""
    return lambda examples: [example.segments[0][0] for example in examples]


def fit_frequent_text(
    train: Examples, num_labels: int, options: MethodOptions, seed: int
) -> PredictTexts:
    """Answer all examples with the most frequent text."""
    texts = [example.target or "" for example in train]
    counts = Counter(map(normalise_answer, texts))
    # max keeps the first of equals.
    most = max(texts, key=lambda text: counts[normalise_answer(text)])
    return lambda examples: [most for _ in examples]


def fit_nearest_text(
    train: Examples, num_labels: int, options: MethodOptions, seed: int
) -> PredictTexts:
    """The completion of the nearest prompt; the most frequent one where no word is shared."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    constant = fit_frequent_text(train, num_labels, options, seed)
    (default,) = constant(train[:1])
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    prompts = [example.segments[0][0] for example in train]
    if not any(map(vectorizer.build_analyzer(), prompts)):
        return constant  # signs only: there is no word to compare
    table = vectorizer.fit_transform(prompts)

    def predict(examples: Examples) -> list[str]:
        # Rows have length 1, so products are cosines; sparse, a thousand prompts at a time.
        texts: list[str] = []
        for start in range(0, len(examples), 1000):
            batch = examples[start : start + 1000]
            cosines = vectorizer.transform([e.segments[0][0] for e in batch]) @ table.T
            nearest = np.asarray(cosines.argmax(axis=1)).ravel().tolist()
            shared = cosines.max(axis=1).toarray()[:, 0] > 0
            texts += [
                (train[place].target or "") if shares_word else default
                for place, shares_word in zip(nearest, shared, strict=True)
            ]
        return texts

    return predict


def fit_majority_tag(
    train: Examples, num_labels: int, options: MethodOptions, seed: int
) -> PredictTexts:
    """Tags of each example's words, as a text."""
    rows = [(e.segments[0][0].split(" "), (e.target or "").split()) for e in train]
    pairs = [((word,), tag) for row in rows for word, tag in zip(*row, strict=True)]
    return _tag_spans(pairs, Counter(tag for _, tag in pairs).most_common(1)[0][0])


def fit_gazetteer(
    train: Examples, num_labels: int, options: MethodOptions, seed: int
) -> PredictTexts:
    """Tags of each example's words in IOB2, as a text."""
    pairs = [
        (
            tuple(e.segments[0][0].split(" ")[begin:end]),
            f"B-{name}" + f" I-{name}" * (end - begin - 1),
        )
        for e in train
        for name, begin, end in find_entities(e.target or "")
    ]
    return _tag_spans(pairs, OUTSIDE)


def _tag_spans(pairs: Sequence[tuple[tuple[str, ...], str]], default: str) -> PredictTexts:
    """Tags of words: of the longest span that ``pairs`` has the most frequent, of ties the first.

    Args:
        pairs: words that stand together, and their tags as a text.
        default: the tag of every other word.
    """
    counts: dict[tuple[str, ...], Counter[str]] = {}
    for words, tags in pairs:
        counts.setdefault(words, Counter())[tags] += 1
    tags_of = {words: tags.most_common(1)[0][0] for words, tags in counts.items()}
    longest = max(map(len, tags_of), default=0)

    def tag(words: list[str]) -> Iterator[str]:
        place = 0
        while place < len(words):
            spans = (tuple(words[place : place + n]) for n in range(longest, 0, -1))
            span = next((span for span in spans if span in tags_of), words[place : place + 1])
            yield tags_of.get(tuple(span), default)
            place += len(span)

    return lambda examples: [" ".join(tag(e.segments[0][0].split(" "))) for e in examples]


class FewShotOptions(MethodOptions):
    """``k``: how many solved examples. All have room for as many tokens as the texts of a study
    (``training.max_length``) times k + 1, or as many as the model takes; where they do not fit, the
    first ones are left out.
    """

    k: int = Field(default=5, ge=1, le=100)

    @property
    def shots(self) -> int:
        """All ``k``."""
        return self.k


def inject_nothing(
    model: nn.Module, anatomy: Anatomy, options: MethodOptions, context: PassContext, seed: int
) -> Injection:
    """Add nothing: a head is trained with every method."""
    from paretune.methods.core.injection import Injection

    return Injection({})


HEAD_ONLY = Method(
    name="head_only",
    title="linear probe",
    options=MethodOptions,
    learning_rates=(1e-3, 5e-3, 2e-2),
    inject=inject_nothing,
    count_parameters=lambda model, anatomy, options: 0,  # the head is counted apart
    code_epoch=2,  # 2: no dropout below the head
    trains=Trains.HEAD,
    head=Head.NEW,
)
UNTUNED = replace(
    HEAD_ONLY,
    name="untuned",
    title="untuned model",
    learning_rates=None,
    code_epoch=1,
    trains=Trains.NOTHING,
    head=Head.PRETRAINED,
    readouts=("head", "label_words", "text", "likelihood"),  # its reward would be 0
)
FEW_SHOT = replace(
    UNTUNED,
    name="few_shot",
    title="few-shot prompt",
    options=FewShotOptions,
    readouts=("label_words", "text"),
)
METHODS: Mapping[str, Method | Baseline] = {
    method.name: method
    for method in (
        Baseline("majority", "constant answer", fit_majority, is_useful=False),
        Baseline("tfidf", "TF-IDF", fit_tfidf, complexity=1),
        Baseline("gradient_boosting", "gradient boosting", fit_gradient_boosting, complexity=2),
        Baseline("copy_source", "copied source", fit_copy_source, is_useful=False),
        Baseline("frequent_text", "most frequent text", fit_frequent_text, is_useful=False),
        Baseline("nearest_text", "nearest prompt", fit_nearest_text, complexity=1),
        Baseline("majority_tag", "most frequent tag", fit_majority_tag, complexity=1),
        Baseline("gazetteer", "gazetteer of train", fit_gazetteer, complexity=1),
        HEAD_ONLY,
        UNTUNED,
        FEW_SHOT,
    )
}
NAMES = frozenset(METHODS)
WITH_MODEL = frozenset(name for name, method in METHODS.items() if isinstance(method, Method))
"""Baselines that use a model, and so are run once for each model."""
WITHOUT_TRAINING = ("untuned", "few_shot")
"""Baselines that need a model which can answer without training; they cannot fail."""
DRAWS_NOTHING = frozenset({"untuned"})
"""Baselines whose runs are all the same, whatever the seed."""
TRIVIAL = frozenset(
    name
    for name, method in METHODS.items()
    if isinstance(method, Baseline) and not method.is_useful
)
"""Baselines that are scores to be exceeded, and never recommended."""
OF_TABLES = frozenset({"gradient_boosting"})
"""Baselines that read the columns of a table, and not its text."""
CONSTANT = frozenset({"majority", "frequent_text"})
"""Baselines that give every example the same answer on purpose."""
COMPLEXITY = {
    name: method.complexity for name, method in METHODS.items() if isinstance(method, Baseline)
}
"""Complexity of the baselines without a model: it decides between equal scores."""
