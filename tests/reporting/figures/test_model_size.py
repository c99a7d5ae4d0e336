from dataclasses import replace
from pathlib import Path

import pytest
from support import fake_records as fake

from paretune.reporting.build import build_report
from paretune.reporting.figures.model_size import (
    BOTTOM,
    LEFT,
    LOWER,
    MIDDLE,
    RIGHT,
    TOP,
    lay_out_model_sizes,
)
from paretune.reporting.figures.write_figures import write_figures
from paretune.reporting.html.page import write_page
from paretune.reporting.tables.study_tables import build_tables


def several(methods=("full", "lora"), known=("small", "large")):
    """Two models, of which the second is three times as large."""
    study = fake.study(tasks=[fake.own_task("t")], models=["small", "large"], methods=list(methods))
    records = []
    for record in fake.whole(study):
        times = 3 if record.run.model.name == "large" else 1
        result, measured = dict(record.result), dict(record.measured)
        if result.get("trained_parameters"):
            result["trained_parameters"] *= times
            result["method_parameters"] = 1_000_000 if record.run.method.name == "lora" else 0
        if record.run.stage == "cost" and record.run.model.name in known:
            weights_bytes = 4 * (
                50_000_000 * times + (1_000_000 if record.run.method.name == "lora" else 0)
            )
            parts = {**measured["components"], "weights_bytes": weights_bytes}
            measured |= {"precision": "fp32", "components": parts}
        records.append(replace(record, result=result, measured=measured))
    return study, records


def build_sizes(study, records):
    (task,) = build_report(study, records).tasks
    return task.model_sizes, lay_out_model_sizes(task, 0)


def test_sizes_are_what_full_fine_tuning_trained() -> None:
    sizes, figure = build_sizes(*several())
    assert sizes is not None and figure is not None
    assert [panel.title for panel in figure.panels] == ["full fine-tuning", "LoRA", "linear probe"]
    assert "small (118 M parameters) and large (353 M parameters)" in sizes.comparison
    assert "Parameters: trained by full fine-tuning, head included." in sizes.comparison
    assert "family" in sizes.comparison
    assert [text for _, text in figure.x_ticks] == ["118 M", "353 M"]
    for panel in figure.panels:
        assert len(panel.scores) == len(panel.memory) == 2
        for spot in panel.scores:
            assert LEFT < spot.x < RIGHT
            assert TOP <= spot.high <= spot.y <= spot.low <= MIDDLE
        for spot in panel.memory:
            assert LOWER <= spot.y <= BOTTOM and spot.low is None
    rows = {(row.method, row.model): texts for row, texts in sizes.table.rows}
    assert rows["LoRA", "large"][0] == "353 M"
    assert rows["LoRA", "large"][1:3] == ("0.77 [0.69, 0.85]", "60 × 3")


def test_without_full_they_are_counted_from_bytes_and_methods_are_taken_off() -> None:
    sizes, _ = build_sizes(*several(methods=("lora",)))
    assert sizes is not None
    assert "small (50.0 M parameters) and large (150 M parameters)" in sizes.comparison
    assert "counted from the bytes of weights and buffers" in sizes.comparison


@pytest.mark.parametrize("known", [("small",), ()])
def test_what_is_not_known_is_not_drawn(known) -> None:
    assert build_sizes(*several(methods=("lora",), known=known)) == (None, None)


@pytest.mark.thorough
def test_one_model_has_no_such_figure(tmp_path: Path) -> None:
    study = fake.study(tasks=[fake.own_task("t")])
    assert build_sizes(study, fake.whole(study)) == (None, None)
    text = write_page(build_report(study, fake.whole(study)), tmp_path / "r.html").read_text(
        "utf-8"
    )
    assert "against model size" not in text


@pytest.mark.thorough
def test_the_page_and_the_pictures_have_it(tmp_path: Path) -> None:
    study, records = several()
    text = write_page(build_report(study, records), tmp_path / "r.html").read_text("utf-8")
    assert "Score and memory against model size" in text
    assert text.count('class="bars size"') == 3
    assert text.count('<g id="size-0">') == 1 and text.count('href="#size-0"') == 3
    drawn = [path.name for path in write_figures(build_report(study, records), tmp_path, ("svg",))]
    assert drawn == ["t.svg", "t-front.svg", "t-size.svg", "t-bytes.svg"]
    again = write_figures(build_report(study, records), tmp_path / "b", ("svg",))
    assert [p.read_bytes() for p in again] == [(tmp_path / p.name).read_bytes() for p in again]


def test_it_is_a_table_too() -> None:
    study, records = several()
    tables = {table.name: table for table in build_tables(build_report(study, records))}
    assert "sizes" not in {
        t.name for t in build_tables(build_report(fake.study(), fake.whole(fake.study())))
    }
    table = tables["sizes"]
    rows = [dict(zip(table.columns, values, strict=True)) for values in table.values]
    assert len(rows) == 6
    large = next(r for r in rows if (r["method"], r["model"]) == ("full", "large"))
    assert large["model_parameters"] == 3 * fake.PARAMETERS["full"]
    assert large["peak_bytes"] == fake.MEGABYTES["full"] * 2**20
    assert (large["n"], large["seeds"]) == (60, 3) and large["low"] < large["score"]
    assert any("Compared: small" in note for note in table.notes)
