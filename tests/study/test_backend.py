"""``training.backend``: part of a run's identity where it is not the default; an environment
variable sets it as the command line would."""

from __future__ import annotations

from pathlib import Path

import pytest

from paretune.errors import StudyError
from paretune.study import Study

FILE = """study: tiny
tasks: [boolq]
models: [some/model]
methods: [lora]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_the_default_changes_no_identity(file: Path) -> None:
    study = Study.load(file)
    named = Study.load(file, ["training.backend=fast"])
    plain = Study.load(file, ["training.backend=plain"])
    assert "backend" not in study.canonical_form()["training"]
    assert study.study_hash == named.study_hash != plain.study_hash
    assert plain.canonical_form()["training"]["backend"] == "plain"


def test_the_environment_sets_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the plain path never have the identity of others."""
    plain_study = Study.load(file, ["training.backend=plain"])
    monkeypatch.setenv("PARETUNE_BACKEND", "plain")
    study = Study.load(file)
    assert study.training.backend == "plain" and study.study_hash == plain_study.study_hash
    assert study.overrides == ("training.backend=plain",)
    assert Study.load(file, ["training.backend=fast"]).training.backend == "fast"
    monkeypatch.setenv("PARETUNE_BACKEND", "slow")
    with pytest.raises(StudyError, match=r"training\.backend"):
        Study.load(file)
