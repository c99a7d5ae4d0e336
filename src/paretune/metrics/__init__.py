"""Metrics: values with a name, a range and how they are computed (:mod:`.metric`).

A built-in metric stands in the list ``METRICS`` of its file; an installed package adds its own by
the entry point group ``paretune.metrics``, each pointing to a :class:`Metric`, or
``paretune.segment_metrics`` (:class:`SegmentMetric`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from paretune import plugins
from paretune.metrics import (
    answer_sets,
    answers,
    classification,
    regression,
    row_scores,
    tags,
    translation,
)
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

# Answer sets come first: where records have theirs, it is no chance.
_MODULES = (answer_sets, classification, regression, translation, answers, tags, row_scores)
_REGISTRY = plugins.Registry(
    plugins.METRICS, "metric", Metric, (metric for m in _MODULES for metric in m.METRICS)
)
names = _REGISTRY.names
get: Callable[[str], Metric] = _REGISTRY.get


def segment_metrics() -> dict[str, SegmentMetric]:
    """Metrics of a segment by name: those of installed packages that load, then BERTScore."""
    installed, _ = plugins.load_all(plugins.SEGMENT_METRICS, SegmentMetric)
    return {**installed, BERTSCORE.name: BERTSCORE}


def built_in() -> tuple[Metric, ...]:
    """The metrics of this package."""
    return tuple(_REGISTRY.built_in.values())


def selectable_names() -> tuple[str, ...]:
    """Names of the metrics that a study may name; of installed packages all."""
    return tuple(n for n in names() if n not in _REGISTRY.built_in or get(n).selectable)


def signatures(names: Collection[str]) -> dict[str, str]:
    """Signatures of the metrics that have one, by name: they say how each is computed."""
    return {name: signature() for name in names if (signature := get(name).signature)}


def of_types(target_types: Collection[str]) -> tuple[str, ...]:
    """Names of the built-in metrics that may be primary for these types of target."""
    return tuple(m.name for m in built_in() if m.selectable and m.target_type in target_types)
