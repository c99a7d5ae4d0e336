from dataclasses import replace

import pytest
from support import fake_records as fake

from paretune.reporting.build import build_report
from paretune.reporting.tables.model_sizes import ModelSizes
from paretune.reporting.tables.study_tables import build_tables


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


def build_sizes(study, records) -> ModelSizes | None:
    return build_report(study, records).tasks[0].model_sizes


def test_sizes_are_what_full_fine_tuning_trained() -> None:
    study, records = several()
    sizes = build_sizes(study, records)
    assert sizes is not None
    assert [name for name, _ in sizes.methods] == ["full fine-tuning", "LoRA", "linear probe"]
    assert "small (118 M parameters) and large (353 M parameters)" in sizes.comparison
    assert "Parameters: trained by full fine-tuning, head included." in sizes.comparison
    rows = {(row.method, row.model): texts for row, texts in sizes.table.rows}
    assert rows["LoRA", "large"][:3] == ("353 M", "0.77 [0.69, 0.85]", "60 × 3")
    tables = {table.name: table for table in build_tables(build_report(study, records))}
    table = tables["sizes"]
    of_rows = [dict(zip(table.columns, values, strict=True)) for values in table.values]
    large = next(r for r in of_rows if (r["method"], r["model"]) == ("full", "large"))
    assert large["model_parameters"] == 3 * fake.PARAMETERS["full"]


def test_without_full_they_are_counted_from_bytes_and_methods_are_taken_off() -> None:
    sizes = build_sizes(*several(methods=("lora",)))
    assert sizes is not None
    assert "small (50.0 M parameters) and large (150 M parameters)" in sizes.comparison
    assert "counted from the bytes of weights and buffers" in sizes.comparison


@pytest.mark.parametrize("sized", [("small",), ()])
def test_models_of_unknown_size_are_not_compared(sized) -> None:
    assert build_sizes(*several(methods=("lora",), sized=sized)) is None
