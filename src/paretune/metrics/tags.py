"""Scores of tags: accuracy of words, and F1 of entities as conlleval and seqeval count them.

References and predictions are texts: as many tags as words, with a blank between them. An entity is
right where its type, its first and its last word are.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np

from paretune.metrics.classification import micro_f1
from paretune.metrics.metric import Array, Metric, Questions, Runs, Values, divide

TAGS = "tags"
OUTSIDE = "O"
"""The tag of a word that belongs to no entity."""
BEGINNING, CONTINUING, ENDING = map(frozenset, ("BSU", "IEL", "ESLU"))
"""Prefixes of the tags of a word that begins an entity, goes on with it, and ends it."""
Entity = tuple[str, int, int]
"""Type, first word, and the word behind the last."""


@lru_cache(maxsize=1 << 17)
def find_entities(tags: str, *, strict: bool = True) -> tuple[Entity, ...]:
    """The entities of a text's tags, in their order.

    Args:
        strict: of tags in IOB2: an ``I-`` without a ``B-`` before it is none (seqeval's mode
            ``strict``); otherwise it begins an entity, and any scheme is read (conlleval).
    """
    entities: list[Entity] = []
    kind: str | None = None
    begin = 0
    for place, tag in enumerate([*tags.split(), OUTSIDE]):
        prefix, _, name = tag.partition("-")
        if kind != name or prefix not in CONTINUING:
            if kind is not None:
                entities.append((kind, begin, place))
            starts = prefix in BEGINNING or (prefix in CONTINUING and not strict)
            kind, begin = name if starts else None, place
        if kind is not None and prefix in ENDING:
            entities.append((kind, begin, place + 1))
            kind = None
    return tuple(entities)


def count_entities(
    references: Values, predictions: Runs, *, strict: bool
) -> tuple[list[str], Array]:
    """Types, and right, predicted and true entities of each; (runs, examples, 3 x types)."""
    runs = [[{*find_entities(str(text), strict=strict)} for text in run] for run in predictions]
    true = [{*find_entities(str(text), strict=strict)} for text in references]
    types = sorted({kind for run in (true, *runs) for entities in run for kind, _, _ in entities})

    def count(entities: set[Entity]) -> list[int]:
        kinds = Counter(kind for kind, _, _ in entities)
        return [kinds[kind] for kind in types]

    table = [
        [[*count(a & b), *count(a), *count(b)] for a, b in zip(run, true, strict=True)]
        for run in runs
    ]
    return types, np.array(table, dtype=np.float32)


def count_words(references: Values, predictions: Runs, questions: Questions = ()) -> Array:
    """Words with the right tag, and all words; (runs, examples, 2)."""
    true = [str(reference).split() for reference in references]
    return np.array(
        [
            [
                (sum(a == b for a, b in zip(tags, str(text).split(), strict=True)), len(tags))
                for tags, text in zip(true, run, strict=True)
            ]
            for run in predictions
        ],
        dtype=float,
    )


def _entity_metric(name: str, title: str, description: str, *, strict: bool) -> Metric:
    def count(references: Values, predictions: Runs, questions: Questions = ()) -> Array:
        return count_entities(references, predictions, strict=strict)[1]

    return Metric(
        name=name,
        title=title,
        description=description,
        target_type=TAGS,
        statistics=count,
        from_sums=micro_f1,
        by_class=lambda references, predictions, _: count_entities(
            references, predictions, strict=strict
        )[0],
    )


ENTITY_F1 = _entity_metric(
    "entity_f1",
    "entity F1",
    "micro F1 of entities, each begun by B- (seqeval's mode strict, IOB2)",
    strict=True,
)
CONLL_F1 = _entity_metric(
    "conll_f1",
    "entity F1 (conlleval)",
    "micro F1 of entities, which an I- may begin (conlleval, seqeval's default)",
    strict=False,
)
TOKEN_ACCURACY = Metric(
    name="token_accuracy",
    title="token accuracy",
    description="share of words with the right tag",
    target_type=TAGS,
    statistics=count_words,
    from_sums=lambda sums: divide(sums[..., 0], sums[..., 1]),
)
METRICS = (ENTITY_F1, CONLL_F1, TOKEN_ACCURACY)
