"""Scores of tags: accuracy of words, and F1 of entities as conlleval and seqeval count them.

References and predictions are texts: as many tags as words, with a blank between them. An entity is
right where its type, its first and its last word are.
"""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from paretune.metrics.metric import Array, Metric, Questions, Runs, Values, divide

TAGS = "tags"
OUTSIDE = "O"
"""The tag of a word that belongs to no entity."""
Entity = tuple[str, int, int]
"""Type, first word, and the word behind the last."""


@lru_cache(maxsize=1 << 17)
def find_entities(tags: str, *, strict: bool = True) -> frozenset[Entity]:
    """The entities of a text's tags in IOB2.

    Args:
        strict: an entity begins with ``B-``, and an ``I-`` without one before it is none (seqeval's
            mode ``strict``); otherwise such an ``I-`` begins an entity (conlleval).
    """
    entities: list[Entity] = []
    kind: str | None = None
    begin = 0
    for place, tag in enumerate([*tags.split(), OUTSIDE]):
        prefix, _, name = tag.partition("-")
        if prefix == "I" and kind == name:
            continue
        if kind is not None:
            entities.append((kind, begin, place))
        starts = prefix == "B" or (prefix == "I" and not strict)
        kind, begin = name if starts else None, place
    return frozenset(entities)


def count_entities(
    references: Values, predictions: Runs, questions: Questions = (), *, strict: bool = True
) -> Array:
    """Right, predicted and true entities of each type; (runs, examples, 3 x types)."""
    find = partial(find_entities, strict=strict)
    true = [find(str(reference)) for reference in references]
    predicted = [[find(str(text)) for text in run] for run in predictions]
    types = _list_types(*true, *(entities for run in predicted for entities in run))
    place = {name: i for i, name in enumerate(types)}
    table = np.zeros((len(predicted), len(true), 3, len(types)), dtype=np.float32)
    for counts, run in zip(table, predicted, strict=True):
        for row, answered, expected in zip(counts, run, true, strict=True):
            for column, entities in zip(
                row, (answered & expected, answered, expected), strict=True
            ):
                for kind, _, _ in entities:
                    column[place[kind]] += 1
    return table.reshape(*table.shape[:2], -1)


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


def entity_f1_by_type(
    references: Values, predictions: Values, *, strict: bool = True
) -> dict[str, float]:
    """F1 of each type that occurs as reference or prediction."""
    table = count_entities(references, [predictions], strict=strict)[0].sum(axis=0, dtype=float)
    find = partial(find_entities, strict=strict)
    types = _list_types(*(find(str(text)) for text in (*references, *predictions)))
    return dict(zip(types, map(float, _f1(*table.reshape(3, -1))), strict=True))


def _list_types(*entities: frozenset[Entity]) -> list[str]:
    return sorted({kind for of_text in entities for kind, _, _ in of_text})


def _f1(hits: Array, predicted: Array, true: Array) -> Array:
    return divide(2 * hits, predicted + true)


def _micro_f1(sums: Array) -> Array:
    sums = np.asarray(sums, dtype=float)
    return _f1(*(part.sum(axis=-1) for part in np.split(sums, 3, axis=-1)))


def _entity_metric(name: str, title: str, description: str, *, strict: bool) -> Metric:
    return Metric(
        name=name,
        title=title,
        description=description,
        target_type=TAGS,
        statistics=partial(count_entities, strict=strict),
        from_sums=_micro_f1,
        by_class=partial(entity_f1_by_type, strict=strict),
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
