import io
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from support import fake_records as fake

from paretune.analysis.pareto.front import pareto_front
from paretune.reporting.build import build_report
from paretune.reporting.figures.pareto import LEFT, lay_out_pareto
from paretune.reporting.figures.vega_data import pareto_data
from paretune.reporting.html.page import write_page
from paretune.reporting.text.formatting import format_share
from paretune.reporting.text.terminal_tables import print_tables


def test_the_page_begins_with_what_to_take_and_the_front(tmp_path: Path) -> None:
    study = fake.study()
    report = build_report(study, fake.whole(study, {"lora": 0.95}))
    text = write_page(report, tmp_path / "r.html").read_text("utf-8")
    first = text.index("<b>Take LoRA: ")
    assert (
        first < text.index("If you train LoRA once more, expect it") < text.index("Chances: best")
    )
    assert text.count("<b>Take LoRA: ") == 2  # the recommendation stands once
    assert (
        text.index("Take LoRA on topics and entailment: proven")
        < text.index('class="matrix"')
        < first
    )
    assert text.index('class="matrix"') < text.index('class="health"') < text.index("<nav")
    assert text.index('<svg class="bars broad"') < text.index('<svg class="bars front"')
    assert "paretune export STUDY --task topics --model e5-small --method lora" in text
    assert "no other configuration is both as cheap and as good" in text
    assert re.search(r'870 MiB<br><span class="soft">on front: (&gt;)?\d+ %</span></td>', text)
    assert "Every pair, and the ranks that follow" in text
    assert re.search(r"1: 0\.\d\d \[0\.\d\d, 0\.\d\d\] \(12\.0 s\)", text)


def test_the_terminal_has_them_too() -> None:
    study = fake.study()
    out = io.StringIO()
    report = build_report(study, fake.whole(study, {"lora": 0.95}))
    print_tables(report, Console(file=out, width=200))
    text = out.getvalue()
    phrases = ("Take LoRA: ", "Pareto front", "Over all tasks")
    places = [text.index(one) for one in phrases]
    assert places == sorted(places)
    assert re.search(r"870 MiB \| (>99|100) %", text)


def test_marks_stay_in_the_picture_and_labels_apart() -> None:
    study = fake.study(
        models=["a", "b", "c"],
        methods=["full", "lora", "loha", "prompt"],
        tasks=[fake.own_task("t")],
    )
    (task,) = build_report(study, fake.whole(study)).tasks
    pareto = lay_out_pareto(task, 0)
    assert pareto is not None
    picture = pareto.figures[0]
    assert len(picture.marks) == 12
    places = sorted(mark.label_y for mark in picture.marks)
    assert all(b - a >= 23.9 for a, b in pairwise(places))  # a finger's breadth
    assert places[0] > 0 and places[-1] <= picture.height
    for mark in picture.marks:
        assert 0 < mark.high <= mark.y <= mark.low <= picture.bottom + 0.1
        assert "15 " not in mark.name and "examples, 3 seeds" in mark.name


def test_no_front_without_two_that_are_measured() -> None:
    study = fake.study(tasks=[fake.own_task("t")])
    records = [r for r in fake.whole(study) if r.run.method.name in ("majority", "tfidf", "lora")]
    (task,) = build_report(study, records).tasks
    assert task.pareto is None
    (empty,) = build_report(study, []).tasks
    assert empty.pareto is None and empty.advice is not None and empty.advice.take == ""


def test_shares_never_round_to_certainty() -> None:
    assert [format_share(p) for p in (0, 0.001, 0.5, 0.999, 1)] == [
        "0 %",
        "<1 %",
        "50 %",
        ">99 %",
        "100 %",
    ]
    assert pareto_front({}, {}) == ()


def test_each_cost_has_its_picture() -> None:
    study = fake.study(tasks=[fake.own_task("t")])
    (task,) = build_report(study, fake.whole(study)).tasks
    pareto = lay_out_pareto(task, 0)
    assert pareto is not None
    axes = [figure.axis for figure in pareto.figures]
    assert axes == ["memory", "time", "parameters", "saved", "inference"]
    assert len({figure.id for figure in pareto.figures}) == len(axes)


def test_every_point_is_a_link_to_its_row_that_says_it_whole(tmp_path: Path) -> None:
    study = fake.study(tasks=[fake.own_task("t")])
    records = fake.whole(study)
    (task,) = build_report(study, records).tasks
    pareto = lay_out_pareto(task, 0)
    assert pareto is not None
    text = write_page(build_report(study, records), tmp_path / "r.html").read_text("utf-8")
    wide = text[text.index('<svg class="bars front"') : text.index('<div class="narrow">')]
    start = text.index('<ol class="key"')
    below = text[start : text.index("<table", start)]
    for part in (wide, below):
        links = re.findall(r'<a href="#([^"]+)" aria-label="([^"]+)">', part)
        assert [link for link, _ in links] == [
            mark.row_id for mark in pareto.figures[0].labelled_marks
        ]
        for link, aria_label in links:
            row = re.search(rf'<tr id="{link}".*?</tr>', text)
            assert row is not None and aria_label.split(",")[0] in row[0]
            assert re.search(r"\d % of draws; 0\.\d\d \[.*\], 60 examples, 3 seeds; \d", aria_label)
    labels = re.findall(r"<a [^>]*>([^<]+)</a>", below)
    assert all(
        aria_label.startswith(label)
        for label, (_, aria_label) in zip(
            labels, re.findall(r'<a href="#([^"]+)" aria-label="([^"]+)"', below), strict=True
        )
    )


def test_the_narrow_picture_has_the_same_points_in_a_phones_width() -> None:
    study = fake.study(tasks=[fake.own_task("t")], models=["a", "b", "c"])
    (task,) = build_report(study, fake.whole(study)).tasks
    pareto = lay_out_pareto(task, 0)
    assert pareto is not None
    wide, narrow = pareto.figures[0], pareto.narrow
    assert narrow.width == 320 and wide.width > 600
    assert [m.row_id for m in narrow.labelled_marks] == [m.row_id for m in wide.labelled_marks]
    assert all(46 <= mark.x <= 46 + narrow.plot_width < 300 for mark in narrow.marks)
    assert narrow.id != wide.id


def test_a_cost_of_nothing_has_a_place_on_a_logarithmic_axis() -> None:
    study = fake.study(methods=["full", "lora", "prompt"], tasks=[fake.own_task("t")])
    (task,) = build_report(study, fake.whole(study)).tasks
    assert task.pareto is not None
    (front,) = [one for one in task.pareto.fronts if one.axis == "parameters"]
    counts = (0.0, 3.8e6, 135e6)
    points = tuple(
        replace(point, cost=replace(point.cost, value=count))
        for point, count in zip(front.points, counts, strict=True)
    )
    fronts = (replace(front, points=points),)
    pareto = lay_out_pareto(replace(task, pareto=replace(task.pareto, fronts=fronts)), 0)
    assert pareto is not None
    (figure,) = pareto.figures
    assert figure.logarithmic and figure.zero == 1e5
    assert figure.x_ticks[0] == (figure.marks[0].x, "0")
    assert [mark.x for mark in figure.marks] == sorted(mark.x for mark in figure.marks)
    for mark in figure.marks:
        assert LEFT < mark.x < LEFT + figure.plot_width
    (axis,) = pareto_data(pareto)["axes"]
    assert axis["zero"] == 0.1 and [p["cost"] for p in axis["points"]] == [0.1, 3.8, 135]
    assert axis["costs"][0] < 0.1
