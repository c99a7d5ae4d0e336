from itertools import pairwise
from pathlib import Path

import pytest
from support import fake_records as fake

from paretune.reporting.build import build_report
from paretune.reporting.figures import bars
from paretune.reporting.figures.write_figures import write_figures


def test_nothing_overlaps_with_six_methods_and_three_models() -> None:
    methods = ["full", "lora", "loha", "prompt", "ia3", {"name": "lora", "label": "lora-r64-all"}]
    study = fake.study(models=["a", "b", "c"], methods=methods)
    task = build_report(study, fake.whole(study)).tasks[0]
    figure = bars.score_figure(task, 0)
    assert figure is not None
    assert len(figure.bars) == 3 * 7 + 2
    rows = sorted([bar.y for bar in figure.bars] + [y - 13 for y, _ in figure.headings])
    assert all(b - a >= bars.LINE - 0.1 for a, b in pairwise(rows))
    assert rows[-1] + bars.LINE <= figure.bottom
    for bar in figure.bars:
        assert bar.length is not None
        assert bar.whisker is not None
        assert 0 <= bar.whisker[0] <= bar.length <= bar.whisker[1] <= figure.plot_width


def test_lengths_are_to_scale_and_baselines_run_through() -> None:
    study = fake.study()
    task = build_report(study, fake.whole(study)).tasks[0]
    figure = bars.score_figure(task, 0)
    assert figure is not None
    lora = next(b for b in figure.bars if b.label == "LoRA")
    interval = next(r for r in task.rows if r.cell.method == "lora").cell.interval
    assert interval is not None
    assert lora.length == pytest.approx(interval.estimate * figure.plot_width)
    assert [line.name for line in figure.lines] == ["constant answer", "TF-IDF"]
    assert task.constant_score is not None
    assert figure.lines[0].x == pytest.approx(task.constant_score.estimate * figure.plot_width)
    prompt = next(b for b in figure.bars if b.label == "prompt tuning")
    assert prompt.hatched
    assert prompt.kind == "unclear"


def test_memory_without_a_measurement_has_words_and_no_bar() -> None:
    study = fake.study()
    records = [r for r in fake.whole(study) if r.run.stage != "cost" or r.run.method.name != "full"]
    records.append(fake.cost(fake.make_run(study, "cost", "full", 1), None))
    figure = bars.memory_figure(build_report(study, records).tasks[0], 0)
    assert figure is not None
    full = next(b for b in figure.bars if b.label == "full fine-tuning")
    assert full.length is None
    assert full.note.startswith("not measured: the counter")
    highest = max(b.length for b in figure.bars if b.length is not None)
    assert 0.5 * figure.plot_width < highest <= figure.plot_width


def test_several_measurements_show_their_range() -> None:
    study = fake.study()
    run = fake.make_run(study, "cost", "lora", 1)
    again = run.model_copy(update={"seed": 2})
    task = build_report(study, [fake.cost(run, 800.0), fake.cost(again, 900.0)]).tasks[0]
    row = next(r for r in task.rows if r.cell.method == "lora")
    assert row.cost.memory.text == "850 MiB (800 MiB to 900 MiB)"
    figure = bars.memory_figure(task, 0)
    assert figure is not None
    assert next(b for b in figure.bars if b.label == "LoRA").whisker is not None


@pytest.mark.thorough
def test_pictures_are_written_and_names_are_no_mathematics(tmp_path: Path) -> None:
    study = fake.study(tasks=[fake.own_task("t")], models=[{"name": "m", "label": r"a$\bad$"}])
    written = write_figures(build_report(study, fake.whole(study)), tmp_path)
    assert [path.name for path in written] == [
        f"t{part}.{form}" for part in ("", "-front", "-bytes") for form in ("png", "svg", "pdf")
    ]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in written[1].read_bytes()


def test_a_task_without_scores_has_no_picture(tmp_path: Path) -> None:
    assert write_figures(build_report(fake.study(), []), tmp_path) == []


def test_on_a_phone_labels_stand_above_bars_of_the_same_proportions() -> None:
    study = fake.study(tasks=[fake.own_task("t")])
    (task,) = build_report(study, fake.whole(study)).tasks
    for wide in (bars.score_figure(task, 0), bars.memory_figure(task, 0)):
        assert wide is not None
        slim = bars.narrow_figure(wide)
        assert slim.width == 320 and slim.plot_width > 300 > wide.plot_width
        assert [bar.label for bar in slim.bars] == [bar.label for bar in wide.bars]
        for one, other in zip(slim.bars, wide.bars, strict=True):
            assert one.length == pytest.approx(other.length * slim.plot_width / wide.plot_width)
            # 12 units of bar from the 18th on: before the label of the next one.
            assert one.y + 30 <= slim.bottom
        places = [bar.y for bar in slim.bars]
        assert all(b - a >= bars.TALL - 1e-9 for a, b in pairwise(places))
        assert slim.ticks[-1][0] == pytest.approx(slim.plot_width)
        assert all(line.y < line.end <= slim.bottom for line in slim.lines)
