"""Objectives: what each kind of task means, one file each (:mod:`.objective` has the contract).

An installed package adds its own by the entry point group ``paretune.objectives``, each pointing to
an :class:`Objective`. No other room compares kinds: it asks ``objectives.get(kind)``.
"""

from __future__ import annotations

from collections.abc import Callable

from paretune import plugins
from paretune.objectives.classification import (
    ANSWER_SET,
    CLASSIFICATION,
    EXTERNAL,
    MULTILABEL,
    MULTIPLE_CHOICE,
    PAIR,
    SCORES,
    SPAN_PAIR,
)
from paretune.objectives.language_modelling import INSTRUCTION, PREFERENCES, TRANSLATION
from paretune.objectives.objective import (
    LOSS_SETTINGS,
    SETTINGS_OF_SOME,
    HeadSpec,
    LossOptions,
    ModelPredictions,
    Objective,
    TargetScale,
)
from paretune.objectives.regression import EXTERNAL_REGRESSION, REGRESSION
from paretune.objectives.token_classification import TOKEN_CLASSIFICATION

__all__ = [
    "LOSS_SETTINGS",
    "SETTINGS_OF_SOME",
    "HeadSpec",
    "LossOptions",
    "ModelPredictions",
    "Objective",
    "TargetScale",
    "get",
    "guess",
    "names",
    "own_data_names",
]

_REGISTRY = plugins.Registry(
    plugins.OBJECTIVES,
    "kind",
    Objective,
    (
        CLASSIFICATION,
        PAIR,
        MULTIPLE_CHOICE,
        REGRESSION,
        TRANSLATION,
        SPAN_PAIR,
        ANSWER_SET,
        INSTRUCTION,
        MULTILABEL,
        TOKEN_CLASSIFICATION,
        SCORES,
        EXTERNAL,
        EXTERNAL_REGRESSION,
        *PREFERENCES,
    ),
)
names = _REGISTRY.names
get: Callable[[str], Objective] = _REGISTRY.get


def own_data_names() -> tuple[str, ...]:
    """Names of the objectives that a study may name for data of its own."""
    return tuple(n for n in names() if n not in _REGISTRY.built_in or get(n).reader)


def guess(*, between_languages: bool) -> Objective:
    """The objective of a task whose definition is gone: records outlive the package of a task."""
    return TRANSLATION if between_languages else CLASSIFICATION
