"""The suite for tasks, on a built-in one and on ones that break it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from paretune import tasks
from paretune.testing import TaskContract

ROUTING = tasks.get("routing")


class TestRouting(TaskContract):
    task = ROUTING


def suite(**changes: object) -> TaskContract:
    contract = TaskContract()
    contract.task = replace(ROUTING, **changes)  # type: ignore[misc, arg-type]
    return contract


def test_a_task_that_breaks_the_contract_fails_the_suite(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        suite(metric="r2").test_what_it_names_exists_and_fits()
    with pytest.raises(KeyError, match="sl"):
        suite(licence={"en": "CC0-1.0"}).test_every_language_has_a_licence_and_a_source()
    unseen = suite(name="more", labels=(*ROUTING.labels, "never"))
    with pytest.raises(AssertionError):
        unseen.test_every_label_is_in_train(unseen.load(tmp_path))
