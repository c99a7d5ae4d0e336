"""Objectives: what each kind of task means, one file each (:mod:`.objective` has the contract).

An installed package adds its own by the entry point group ``paretune.objectives``, each pointing to
an :class:`Objective`. No other room compares kinds: it asks ``objectives.get(kind)``.
"""

from __future__ import annotations

from paretune import plugins
from paretune.errors import StudyError
from paretune.objectives.classification import (
    ANSWER_SET,
    CLASSIFICATION,
    MULTIPLE_CHOICE,
    PAIR,
    SPAN_PAIR,
)
from paretune.objectives.language_modelling import INSTRUCTION, TRANSLATION
from paretune.objectives.objective import Objective
from paretune.objectives.regression import REGRESSION
from paretune.objectives.values import HeadSpec, LossOptions, ModelPredictions, TargetScale

__all__ = [
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

_BUILT_IN = {
    objective.name: objective
    for objective in (
        *(CLASSIFICATION, PAIR, MULTIPLE_CHOICE, REGRESSION, TRANSLATION, SPAN_PAIR, ANSWER_SET),
        INSTRUCTION,
    )
}


def names() -> tuple[str, ...]:
    """Names of all objectives; those of installed packages are not loaded for it."""
    return (
        *_BUILT_IN,
        *(name for name in plugins.names(plugins.OBJECTIVES) if name not in _BUILT_IN),
    )


def own_data_names() -> tuple[str, ...]:
    """Names of the objectives that a study may name for data of its own."""
    return tuple(n for n in names() if n not in _BUILT_IN or _BUILT_IN[n].own_data)


def get(name: str) -> Objective:
    """The objective of this kind of task.

    Raises:
        StudyError: there is none.
        PluginError: an installed package offers it, but it cannot be loaded.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if name in plugins.names(plugins.OBJECTIVES):
        return plugins.load(plugins.OBJECTIVES, name, Objective)
    raise StudyError(f'unknown kind "{name}".', remedy=f"Known are {', '.join(names())}.")


def guess(*, between_languages: bool) -> Objective:
    """The objective of a task whose definition is gone: records outlive the package of a task."""
    return TRANSLATION if between_languages else CLASSIFICATION
