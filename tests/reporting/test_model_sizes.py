from dataclasses import replace

import pytest
from support import fake_records as fake

from paretune.reporting.build import build_report
from paretune.reporting.table_files import read_values
from paretune.reporting.tables import build_size_table, build_tables, format_rows, group_by_size


def several(methods=("full", "lora"), sized=("small", "large")):
    """Two models, of which the second is three times as large."""
    study = fake.study(tasks=[fake.own_task("t")], models=["small", "large"], methods=list(methods))
    records = []
    for record in fake.whole(study):
        times = 3 if record.run.model.name == "large" else 1
        added = 1_000_000 if record.run.method.name == "lora" else 0
        result, measured = dict(record.result), dict(record.measured)
        if result.get("trained_parameters"):
            result |= {"trained_parameters": times * result["trained_parameters"]}
            result["method_parameters"] = added
        if record.run.stage == "cost" and record.run.model.name in sized:
            parts = {"weights_bytes": 4 * (50_000_000 * times + added)}
            measured |= {"precision": "fp32", "components": {**measured["components"], **parts}}
        records.append(replace(record, result=result, measured=measured))
    return study, records


def test_sizes_are_what_full_fine_tuning_trained() -> None:
    study, records = several()
    report = build_report(study, records)
    (task,) = report.tasks
    assert [name for name, _ in group_by_size(task)] == ["full fine-tuning", "LoRA", "linear probe"]
    assert "small (118 M parameters) and large (353 M parameters)" in task.size_comparison
    assert "Parameters: trained by full fine-tuning, head included." in task.size_comparison
    table = build_size_table(task)
    assert table is not None
    assert ["LoRA", "353 M", "0.77 [0.69, 0.85]", "60 x 3", "870 MiB"] in format_rows(table)
    rows = read_values(next(table for table in build_tables(report) if table.name == "sizes"))
    large = next(r for r in rows if (r["method"], r["model"]) == ("full", "large"))
    assert large["model_parameters"] == 3 * fake.PARAMETERS["full"]


def test_without_full_they_are_counted_from_bytes_and_methods_are_taken_off() -> None:
    (task,) = build_report(*several(methods=("lora",))).tasks
    assert "small (50.0 M parameters) and large (150 M parameters)" in task.size_comparison
    assert "counted from the bytes of weights and buffers" in task.size_comparison


@pytest.mark.parametrize("sized", [("small",), ()])
def test_models_of_unknown_size_are_not_compared(sized) -> None:
    (task,) = build_report(*several(methods=("lora",), sized=sized)).tasks
    assert not task.size_comparison and build_size_table(task) is None
