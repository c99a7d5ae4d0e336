"""Charts hold the numbers of the report; Vega-Lite draws each of them whole."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support import fake_records as fake
from support.pages import EVIL

from paretune.analysis.pareto.costs import CostEstimate
from paretune.errors import StoreError
from paretune.reporting import Report, charts
from paretune.reporting.build import build_report
from paretune.reporting.document import TaskReport
from paretune.reporting.figure_files import write_card, write_figures
from paretune.reporting.tables import build_front_table, build_size_table
from paretune.reporting.text.formatting import COST_WORDS
from paretune.reporting.vega import draw_svg
from paretune.terminal.sanitise import sanitise_line

METHODS = ["full", "lora", "prompt", {"name": "lora", "label": "lora-r64-all-linear"}]


@pytest.fixture(scope="module")
def report() -> Report:
    study = fake.study(tasks=[fake.own_task("t")], methods=METHODS)
    return build_report(study, fake.whole(study, {"lora": 0.9}))


@pytest.fixture(scope="module")
def task(report: Report) -> TaskReport:
    return report.tasks[0]


def values(chart: charts.Chart | None) -> list[dict]:
    assert chart is not None
    return chart.spec["data"]["values"]


def lines(chart: charts.Chart | None) -> dict[str, dict]:
    """The rows of a bar chart by their labels."""
    return {" ".join(line["label"]): line for line in values(chart) if "label" in line}


def test_bars_are_the_scores_and_memory_of_the_report(task: TaskReport) -> None:
    scores, memory = lines(charts.chart_scores(task)), lines(charts.chart_memory(task))
    for row in task.cells:
        name, score = row.label, row.score
        assert score is not None
        line = scores[name]
        assert (line["value"], line["low"], line["high"]) == (score.estimate, score.low, score.high)
        if row.cost.memory.value:
            assert memory[name]["text"] == row.cost.memory.text
    assert scores["LoRA"]["kind"] == "above" and scores["LoRA"]["text"].endswith(" ▲")
    assert scores["prompt tuning"]["constant"]
    assert scores["prompt tuning"]["text"].endswith(" const.")
    # Baselines without a model have a line through all rows.
    majority = scores["constant answer"]
    assert (majority["from"], majority["to"]) == (1, len(values(charts.chart_scores(task))) - 1)


def test_a_missing_measurement_has_words_and_no_bar() -> None:
    study = fake.study()
    records = [r for r in fake.whole(study) if r.run.stage != "cost" or r.run.method.name != "full"]
    records.append(fake.cost(fake.make_run(study, "cost", "full", 1), None))
    full = lines(charts.chart_memory(build_report(study, records).tasks[0]))["full fine-tuning"]
    assert "text" not in full
    assert " ".join(full["note"]).startswith("not measured: the counter")


def test_parts_add_up_to_the_peak(task: TaskReport) -> None:
    chart = charts.chart_memory(task)
    assert chart is not None
    parts = next(part for part in chart.spec["layer"] if "data" in part)["data"]["values"]
    full = next(row for row in task.methods if row.name == "full")
    place = lines(chart)["full fine-tuning"]["place"]
    of_full = [part for part in parts if part["place"] == place]
    assert full.memory is not None and full.memory.peak is not None
    assert of_full[-1]["end"] * 2**30 == pytest.approx(full.memory.peak)
    assert all(a["end"] == b["start"] for a, b in pairwise(of_full))
    assert "gradients 449 MiB" in chart.description


def test_the_front_is_the_tables(task: TaskReport) -> None:
    table = build_front_table(task)
    assert table is not None
    drawn = [charts.chart_front(task, front) for front in task.fronts]
    assert [c.spec["usermeta"]["axis"] for c in drawn] == [
        COST_WORDS[f.axis].title for f in task.fronts
    ]
    assert drawn[0].note.startswith(
        "Filled points are on the front: by the estimates, no other method is both cheaper and"
    )
    points = {point["name"]: point for point in values(drawn[0])}
    for point in task.fronts[0].points:
        drawn_point = points[point.title]
        assert drawn_point["cost"] * 2**30 == pytest.approx(point.cost.value, rel=1e-6)
        expected = point.score.estimate, point.on_front
        assert (drawn_point["score"], drawn_point["front"]) == expected
        assert table.values[drawn_point["row"]]["method"] == point.method
    labels = sorted(point["label"] for point in points.values())
    (bottom, top) = drawn[0].spec["layer"][-1]["encoding"]["y"]["scale"]["domain"]
    line = (top - bottom) / drawn[0].spec["height"] * 13
    assert all(b - a >= line for a, b in pairwise(labels))
    assert bottom <= labels[0] and labels[-1] <= top


def test_a_cost_of_nothing_has_a_place_on_a_logarithmic_axis(task: TaskReport) -> None:
    front = next(f for f in task.fronts if f.axis == "parameters")
    points = [
        point.model_copy(update={"cost": CostEstimate(value)})
        for point, value in zip(front.points, (0.0, 3.8e6, 135e6), strict=False)
    ]
    fronts = (front.model_copy(update={"points": tuple(points)}),)
    chart = charts.chart_front(task.model_copy(update={"fronts": fronts}), fronts[0])
    assert [point["cost"] for point in values(chart)] == [0.1, 3.8, 135]
    assert chart.spec["usermeta"]["log"]
    assert ">0</text>" in draw_svg(chart.spec)


def test_curves_of_a_translation_are_losses_on_one_axis() -> None:
    study = fake.translation_study()
    chart = charts.chart_learning_curves(build_report(study, fake.whole(study)).tasks[0])
    assert chart is not None and "Selection loss, nats a token" in chart.note
    losses = [point["loss"] for point in values(chart)]
    assert {point["place"] for point in values(chart)} == {0, 1, 2}
    (line,) = chart.spec["spec"]["layer"]
    assert line["encoding"]["y"]["scale"]["domain"] == [min(losses), max(losses)]


def test_model_sizes_are_those_of_the_table() -> None:
    (task,) = build_report(*fake.two_sizes(["full"], sized=())).tasks
    points = values(charts.chart_model_sizes(task))
    rows = build_size_table(task).values
    assert [p["parameters"] for p in points] == [row["model_parameters"] for row in rows]
    assert [p["score"] for p in points] == [row["score"].estimate for row in rows]


def every_chart(task: TaskReport) -> Iterator[charts.Chart]:
    yield from (charts.chart_front(task, front) for front in task.fronts)
    for draw in (
        charts.chart_scores, charts.chart_memory,
        charts.chart_model_sizes, charts.chart_learning_curves,
    ):  # fmt: skip
        if chart := draw(task):
            yield chart


def test_every_chart_is_drawn_whole(task: TaskReport) -> None:
    (sized,) = build_report(*fake.two_sizes(["full"], sized=())).tasks
    drawn = [*every_chart(task), *every_chart(sized)]
    assert len(drawn) == 17  # ten fronts, two each of three others, one of model sizes
    for chart in drawn:
        svg = draw_svg(chart.spec)
        picture = ElementTree.fromstring(svg)  # noqa: S314 - our own
        assert "undefined" not in svg and "…" not in svg and "NaN" not in svg
        width = float(picture.attrib["width"])
        assert 200 < width < 800, chart.title
        assert not re.search(r'(?:href|src)="(?!http://www.w3.org)', svg)


def test_no_label_is_cut() -> None:
    name = "lora-r64-" + "on-all-linear-layers-" * 3
    study = fake.study(
        tasks=[fake.own_task("t")], methods=["full", {"name": "lora", "label": name}]
    )
    (task,) = build_report(study, fake.whole(study)).tasks
    for chart in every_chart(task):
        words = re.sub(r"<[^>]*>", "", draw_svg(chart.spec))
        assert name in words, chart.title


def test_names_are_text_in_the_picture() -> None:
    study = fake.study(tasks=[fake.own_task("t")], methods=["lora"])
    study = fake.labelled(study, {"lora": EVIL})
    (task,) = build_report(study, fake.whole(study)).tasks
    for chart in every_chart(task):
        svg = draw_svg(chart.spec)
        ElementTree.fromstring(svg)  # noqa: S314 - our own
        assert "<script" not in svg and "<img" not in svg
    assert sanitise_line(EVIL)[:8] in charts.chart_scores(task).description


@pytest.mark.wide
def test_files_have_the_same_bytes_again(report: Report, tmp_path: Path) -> None:
    formats = ("png", "svg", "pdf")
    first, again = (write_figures(report, tmp_path / name, formats) for name in "ab")
    names = [f"t{part}.{form}" for part in ("", "-front", "-curves") for form in formats]
    assert [path.name for path in first] == names
    for one, two in zip(first, again, strict=True):
        assert one.suffix == ".pdf" or one.read_bytes() == two.read_bytes()
    assert first[0].read_bytes().startswith(b"\x89PNG")
    assert first[2].read_bytes().startswith(b"%PDF")
    assert "var(--" not in first[1].read_text("utf-8")
    assert write_figures(build_report(fake.study(), []), tmp_path / "none") == []


def test_the_card_is_1200_by_630_pixels(report: Report, tmp_path: Path) -> None:
    report = report.model_copy(update={"sentence": "Take LoRA."})
    png = write_card(report, tmp_path / "card.png").read_bytes()
    assert [int.from_bytes(png[i : i + 4]) for i in (16, 20)] == [1200, 630]
    svg = write_card(report, tmp_path / "card.svg").read_text("utf-8")
    assert ">Take LoRA.<" in svg and ">LoRA<" in svg
    with pytest.raises(StoreError, match="PNG or SVG"):
        write_card(report, tmp_path / "card.jpg")
