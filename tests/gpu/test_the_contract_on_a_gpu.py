"""The contract of every method, walked through on a GPU (what writes files is left to the CPU)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.method_contract import OwnMethodContract

from paretune.preparation import ProcessCache
from paretune.testing.method_walk import Walk, walk_of, walked

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def bench() -> ProcessCache:
    return ProcessCache()


class TestMethodsOnAGpu(OwnMethodContract):
    test_merged_equals_unmerged = None  # type: ignore[assignment]
    test_the_export_opens_in_peft_and_comes_back = None  # type: ignore[assignment]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """The places are those of conftest.py."""

    @pytest.fixture(scope="module")
    @classmethod
    def walk(
        cls,
        place: tuple[str, str, str],
        device: str,
        bench: ProcessCache,
        checkpoint: Callable[[str], Path],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Walk:
        method, family, kind = place
        folder = tmp_path_factory.mktemp("walk")
        return walked(walk_of(method, kind, checkpoint(family), folder), bench, folder, device)

    def test_it_was_walked_there(self, walk: Walk, device: str, place: Any) -> None:
        kind = walk.outcome.measured["environment"]["device"]
        assert (walk.method, kind) == (place[0], device.split(":")[0])
