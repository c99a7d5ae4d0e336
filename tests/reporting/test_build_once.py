"""A report is built once, and what renders it computes no statistics."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console
from support import fake_records as fake
from support import fake_translations
from support.stored_records import stored, study_file
from typer.testing import CliRunner

import paretune
from paretune.reporting import build
from paretune.reporting.document import Report
from paretune.reporting.figure_files import write_figures
from paretune.reporting.page import render_page
from paretune.reporting.table_files import write_tables
from paretune.reporting.text.terminal_screen import print_screen
from paretune.reporting.text.terminal_tables import print_tables

pytestmark = pytest.mark.thorough  # every table, figure and page, four times

STATISTICS = (
    "analysis/statistics/",
    "analysis/pareto/front.py",
    "analysis/pareto/recommend.py",
    "analysis/forecast.py",
    "metrics/",
)
"""Files whose functions compute a statistic."""
ATTRIBUTES = {
    "examples_only",
    "is_cross_validation",
    "standing",
    "within_budget",
    "proven",
    "<module>",
}
"""Properties of values in them, and what runs when they are imported."""


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


def statistics_called(function) -> set[str]:
    """The functions of :data:`STATISTICS` that are called meanwhile."""
    calls: set[str] = set()

    def watch(frame, event, argument) -> None:
        code = frame.f_code
        path = code.co_filename.rpartition("/paretune/")[2]
        if path.startswith(STATISTICS) and code.co_name not in ATTRIBUTES:
            calls.add(f"{path}: {code.co_name}")

    sys.setprofile(watch)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("fakes", [fake, fake_translations])
def test_rendering_computes_no_statistics(tmp_path: Path, fakes) -> None:
    study = fakes.study()
    records = fakes.whole(study)
    report = build.build_report(study, records)
    screen = Console(file=io.StringIO(), width=120)

    def render() -> None:
        render_page(report, lambda: "")
        print_screen(report, screen, "study.yaml")
        print_tables(report, screen)
        report.to_json()
        write_tables(report, tmp_path / "tables")
        write_figures(report, tmp_path / "figures", formats=("svg",))

    assert statistics_called(render) == set()
    built = statistics_called(lambda: build.build_report(study, records))
    assert {call.partition(":")[0] for call in built} >= set(STATISTICS[1:4])
