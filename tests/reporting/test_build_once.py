"""A report is built once for all outputs; test_document.py renders what was read back."""

from pathlib import Path

import pytest
from support import fake_records as fake
from support.stored_records import stored, study_file
from typer.testing import CliRunner

import paretune
from paretune.reporting import build
from paretune.reporting.document import Report

pytestmark = pytest.mark.thorough  # every table, figure and page, four times


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Report]:
    built: list[Report] = []
    original = build.build_report

    def count(*arguments) -> Report:
        built.append(original(*arguments))
        return built[-1]

    monkeypatch.setattr(build, "build_report", count)
    return built


def store_of(tmp_path: Path) -> tuple[Path, Path]:
    file, folder = tmp_path / "study.yaml", tmp_path / "store"
    study = study_file(fake.study(), file)
    stored(study, fake.whole(study), folder).close()
    return file, folder


def test_all_outputs_of_the_function_take_one_report(tmp_path: Path, builds) -> None:
    file, store = store_of(tmp_path)
    outputs = {"page": "r.html", "card": "c.svg", "json": "study.json"}
    outputs |= {"figures": "figures", "tables": "tables"}
    report = paretune.report(file, store=store, **{k: tmp_path / v for k, v in outputs.items()})
    assert builds == [report]
    assert all((tmp_path / name).exists() for name in outputs.values())


def test_all_outputs_of_the_command_take_one_report(tmp_path: Path, builds) -> None:
    from paretune.cli import app

    file, store = store_of(tmp_path)
    outputs = ["--page", "r.html", "--tables", "tables", "--details"]
    paths = [word if word.startswith("--") else str(tmp_path / word) for word in outputs]
    ended = CliRunner().invoke(app, ["report", str(file), "--store", str(store), *paths])
    assert ended.exit_code == 0
    assert len(builds) == 1
