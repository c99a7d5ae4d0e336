"""Metrics: values with a name, a range and how they are computed (:mod:`.metric`).

A built-in metric stands in the list ``METRICS`` of its file; an installed package adds its own by
the entry point group ``paretune.metrics``, each pointing to a :class:`Metric`, or
``paretune.segment_metrics`` (:class:`SegmentMetric`).
"""

from __future__ import annotations

from collections.abc import Collection

from paretune import plugins
from paretune.errors import StudyError
from paretune.metrics import answer_sets, answers, classification, regression, translation
from paretune.metrics.bertscore import BERTSCORE
from paretune.metrics.metric import Array, Metric, SegmentMetric, Value

__all__ = [
    "Array",
    "Metric",
    "Value",
    "built_in",
    "get",
    "names",
    "of_types",
    "segment_metrics",
    "selectable_names",
    "signatures",
]

_BUILT_IN: dict[str, Metric] = {
    metric.name: metric
    for module in (answer_sets, classification, regression, translation, answers)
    for metric in module.METRICS
}
"""Answer sets come first: where records have theirs, it is no chance."""


def segment_metrics() -> dict[str, SegmentMetric]:
    """Metrics of a segment by name: those of installed packages that load, then BERTScore."""
    installed, _ = plugins.load_all(plugins.SEGMENT_METRICS, SegmentMetric)
    return {**installed, BERTSCORE.name: BERTSCORE}


def built_in() -> tuple[Metric, ...]:
    """The metrics of this package."""
    return tuple(_BUILT_IN.values())


def names() -> tuple[str, ...]:
    """Names of all metrics; those of installed packages are not loaded for it."""
    return (*_BUILT_IN, *(name for name in plugins.names(plugins.METRICS) if name not in _BUILT_IN))


def selectable_names() -> tuple[str, ...]:
    """Names of the metrics that a study may name; of installed packages all."""
    return tuple(n for n in names() if n not in _BUILT_IN or _BUILT_IN[n].selectable)


def get(name: str) -> Metric:
    """The metric with this name.

    Raises:
        StudyError: there is none.
        PluginError: an installed package offers it, but it cannot be loaded.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if name in plugins.names(plugins.METRICS):
        return plugins.load(plugins.METRICS, name, Metric)
    raise StudyError(f'unknown metric "{name}".', remedy=f"Known are {', '.join(names())}.")


def signatures(names: Collection[str]) -> dict[str, str]:
    """How these metrics are computed, by name, where they have a signature."""
    return {name: signature() for name in names if (signature := get(name).signature)}


def of_types(target_types: Collection[str]) -> tuple[str, ...]:
    """Names of the built-in metrics that may be primary for these types of target."""
    every = _BUILT_IN.values()
    return tuple(m.name for m in every if m.selectable and m.target_type in target_types)
