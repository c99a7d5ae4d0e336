import re
from dataclasses import asdict, replace

from support import fake_records as fake
from support.report_texts import find_table, texts_by_method

from paretune.reporting.build import build_report
from paretune.reporting.measures import format_ratios
from paretune.reporting.page import render_page
from paretune.store.record import ComputeCost, Record
from paretune.study import Study

MIB = 2**20


def worked(study: Study) -> list[Record]:
    """Records that say what they were to do: 40 operations a step, of whatever unit."""
    work = ComputeCost(40.0, 300 * MIB, 400 * MIB)
    return [
        replace(r, measured={**r.measured, "work": asdict(work), "environment": fake.ENVIRONMENT})
        for r in fake.whole(study)
    ]


def test_the_page_lays_prediction_beside_measurement() -> None:
    study = fake.study()
    report = build_report(study, worked(study))
    table, _ = (find_table(task, "predictions") for task in report.tasks)
    rows = texts_by_method(table)
    assert set(rows) == {"full fine-tuning", "LoRA", "prompt tuning"}
    # Lora is predicted by full (1,890 MiB) and prompt (940 MiB), on two tasks: the middle.
    assert rows["LoRA"][:3] == ["1.38 GiB", "870 MiB", "1.63 (1 run)"]
    assert rows["LoRA"][3:] == ["12.0 s", "12.0 s", "1.00 (1.00 to 1.00, 3 runs)"]
    assert any("Peak memory, predicted to measured over all methods" in n for n in table.notes)
    text = render_page(report)
    assert text.count("<summary>Prediction against measurement</summary>") == 2
    assert re.search(r'id="foresight-1".*Predicted and measured', text)


def test_without_a_basis_nothing_is_said() -> None:
    study = fake.study()
    report = build_report(study, fake.whole(study))
    assert [task.find_table("predictions") for task in report.tasks] == [None, None]
    assert "Prediction against measurement" not in render_page(report)


def test_a_ratio_carries_its_runs() -> None:
    assert format_ratios([(2.0, 1.0)]) == "2.00 (1 run)"
    assert format_ratios([(2.0, 1.0), (1.0, 1.0), (3.0, 2.0)]) == "1.50 (1.00 to 2.00, 3 runs)"
