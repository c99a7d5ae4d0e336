"""The registry of metrics, and what a metric refuses to be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paretune import metrics, plugins
from paretune.errors import StudyError
from paretune.metrics.classification import ACCURACY


def test_only_metrics_of_which_more_is_better_select() -> None:
    with pytest.raises(ValueError, match="needs selectable=False"):
        replace(ACCURACY, name="error_rate", greater_is_better=False)
    assert all(m.greater_is_better for m in metrics.built_in() if m.selectable)


def test_an_installed_metric_is_found_by_its_name() -> None:
    mine = replace(ACCURACY, name="mine")
    with plugins.registered(plugins.METRICS, mine):
        assert metrics.get("mine") is mine and "mine" in metrics.selectable_names()
    with pytest.raises(StudyError, match='there is no metric "mine"'):
        metrics.get("mine")


def test_a_metric_is_read_from_the_scores_that_are_recorded_of_it() -> None:
    scores = {"accuracy": 0.5, "macro_f1": 0.3}
    assert metrics.get("accuracy_f1").read(scores) == pytest.approx(0.4)
    assert metrics.get("weighted_f1").read(scores) is None
