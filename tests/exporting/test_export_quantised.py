"""Exports of runs on a quantised base: the card says how the base was held, and by whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.tiny_study import finish, small

from paretune.verbs.export import export


def test_the_card_says_whose_rounding_the_base_had(tmp_path: Path, tiny_model: Any) -> None:
    study = small(
        tmp_path,
        tiny_model("bert"),
        models=[{"name": str(tiny_model("bert")), "label": "tiny", "quantisation": "int8"}],
        protocol={"trials": 1, "folds": 1, "seeds": [1], "outer": "split"},
    )
    finish(study, tmp_path / "store", costs=0).close()
    options: dict[str, Any] = {
        "store": tmp_path / "store",
        "method": "lora",
        "allow_collapsed": True,
    }
    card = export(study, form="peft", output=tmp_path / "peft", **options).card
    assert "those of the run are those of `--form paretune`" in card
    assert "quantization_config" not in card
