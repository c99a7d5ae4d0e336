"""A study with `method: auto`, trained for real: trials, final runs, report, export, merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import tiny_study
from support.report_texts import texts_by_method

from paretune.methods.core.titles import title_of
from paretune.store import Store
from paretune.verbs.export import export
from paretune.verbs.report import report

AUTO = {
    "name": "auto", "members": ["lora", "ia3"], "groups": 2, "budget": 1.0, "controls": False
}  # fmt: skip
PROTOCOL = {"trials": 2, "folds": 1, "seeds": [1, 2], "outer": "split", "cost_seconds": 1}


@pytest.mark.slow
def test_a_searched_combination_is_a_row_like_any_other(tmp_path: Path, tiny_model: Any) -> None:
    methods = [AUTO, {"name": "lora", "rank": 2}]
    study, folder = tiny_study.finished(
        tmp_path, Path(tiny_model("bert")), methods=methods, protocol=PROTOCOL
    )
    with Store.open(folder) as store:
        records = store.load_records(study.study_hash)
    trials = [r for r in records if r.run.method.key.startswith("auto.")]
    assert trials and all(len(r.measured["layer_gradients"]) == 2 for r in trials)
    assert all("test" not in r.result["scores"] for r in trials)
    page = tmp_path / "page.html"
    (task,) = report(study, store=folder, page=page).tasks
    assert "What the search found" in page.read_text(encoding="utf-8")
    row = next(r for r in task.methods if r.method == "auto")
    assert row.score is not None
    texts = texts_by_method(task.find_table("search"))[title_of("auto")]
    assert texts[4] == str(len(trials)) and "■" in texts[1]
    exported = export(
        study, store=folder, output=tmp_path / "out", method="auto", allow_collapsed=True
    )
    assert exported.largest_difference < 1e-4
