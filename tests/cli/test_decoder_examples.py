"""The shipped studies of decoders are studies, and their runs are planned offline on a tiny one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.tiny_study import superglue

from paretune.planning.prepare import prepare_study
from paretune.search.expand import expand_study
from paretune.study import Study

EXAMPLES = Path(__file__).parents[2] / "examples"


def with_data_here(path: Path, folder: Path, model: Path) -> Study:
    """The file's tasks, methods and protocol, on made-up rows and one tiny decoder."""
    raw: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    Study.parse(raw, base=path.parent)  # as it stands, it is a study
    raw["models"] = [{"name": str(model), "label": "tiny"}]
    for task in raw["tasks"]:
        if path.stem == "slovene-llm":
            task["source"] = str(superglue(folder / task["name"], "zips"))
        if path.stem == "metamath":
            for part in ("train", "test"):
                rows = [
                    {"prompt": f"Question: {i}?\nAnswer:", "completion": f" It is {i}."}
                    for i in range(20)
                ]
                file = folder / f"{part}.jsonl"
                file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
                task[part] = str(file)
    raw["training"] |= {"precision": "fp32"}
    return Study.parse(raw, base=path.parent)


@pytest.mark.parametrize(
    ("name", "readouts"),
    [
        ("slovene-llm", {"head", "label_words"}),
        ("metamath", {"text"}),
        ("sms", {"label_words"}),
    ],
)
def test_its_runs_are_planned(
    name: str, readouts: set[str], tmp_path: Path, tiny_model: Any
) -> None:
    study = with_data_here(EXAMPLES / f"{name}.yaml", tmp_path, tiny_model("llama"))
    planned = expand_study(prepare_study(study), [])
    on_model = [one.run for one in planned if one.run.model.name != "-"]
    assert {run.method.key for run in on_model} >= {m.key for m in study.methods}
    assert {run.readout for run in on_model if run.method.name != "head_only"} == readouts
    assert any(run.method.name == "untuned" for run in on_model)
