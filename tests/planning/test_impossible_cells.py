"""A method that cannot train on a quantised model leaves that cell out, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import small

from paretune.errors import MethodError
from paretune.planning.expand import plan_runs
from paretune.planning.prepare import prepare_study
from paretune.study import Study


def study_of(folder: Path, model: Path, methods: list[str], *labels: str) -> Study:
    settings = {"plain": {}, "packed": {"quantisation": "int8"}}
    models = [{"name": str(model), "label": label, **settings[label]} for label in labels]
    return small(folder, model, models=models, methods=methods)


def planned_cells(study: Study) -> set[tuple[str, str]]:
    planned = plan_runs(prepare_study(study), [])
    return {run.cell[1:] for run in planned.list_coming([])}


def test_the_other_cells_run_and_the_one_left_out_is_named(tmp_path: Path, tiny_model: Any) -> None:
    study = study_of(tmp_path, tiny_model("bert"), ["full", "lora"], "plain", "packed")
    cells = planned_cells(study)
    assert {("plain", "full"), ("plain", "lora"), ("packed", "lora")} <= cells
    assert ("packed", "full") not in cells
    (finding,) = prepare_study(study).refused
    assert (finding.severity, finding.code) == ("warning", "not-possible")
    assert finding.where == "method full on model packed"
    assert finding.what.startswith("is not run: the model is quantised (int8): it trains every")


def test_a_method_that_is_possible_nowhere_stops_no_other(tmp_path: Path, tiny_model: Any) -> None:
    study = study_of(tmp_path, tiny_model("bert"), ["full", "lora"], "packed")
    assert {method for _, method in planned_cells(study)} >= {"lora", "head_only"}


def test_a_study_without_any_possible_cell_is_refused(tmp_path: Path, tiny_model: Any) -> None:
    study = study_of(tmp_path, tiny_model("bert"), ["full"], "packed")
    with pytest.raises(MethodError, match="method full on model packed: the model is quant"):
        prepare_study(study)
