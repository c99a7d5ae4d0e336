"""What tests of the commands share: a study that has ended, trained once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny_study import as_file, finish, small

from paretune.study import Study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[..., Path]) -> Path:
    """A folder with ``s.yaml``, its data and ``store``, in which all but the costs has ended.

    Tests that change anything take a copy.
    """
    folder = tmp_path_factory.mktemp("finished")
    study = Study.load(as_file(small(folder, tiny_model("bert")), folder / "s.yaml"))
    finish(study, folder / "store", costs=0).close()
    return folder
