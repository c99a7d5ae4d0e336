"""What a search brings into a study: its controls and further finalists."""

from __future__ import annotations

from typing import Any

from paretune.study import MethodSpec
from paretune.study.specs import enter_search_rows


def entered(*methods: Any) -> dict[str, dict[str, Any]]:
    specs = [MethodSpec.model_validate(m) for m in methods]
    return {m.key: m.options for m in enter_search_rows(specs)}


def test_a_search_brings_its_controls() -> None:
    rows = entered({"name": "lora"}, {"name": "auto", "budget": 2})
    assert rows == {
        "lora": {},
        "auto": {"budget": 2},
        "auto-random": {"budget": 2, "sampler": "random"},
        "auto-tuned-lora": {"budget": 2, "members": ["lora"], "groups": 1, "pick": "best"},
    }
    assert list(entered({"name": "auto", "controls": False})) == ["auto"]


def test_finalists_are_rows_of_their_own() -> None:
    rows = entered({"name": "auto", "finalists": 3, "controls": False, "pick": "knee"})
    assert rows["auto-2"] == {"pick": "knee", "finalist": 2}
    assert rows["auto-3"] == {"pick": "knee", "finalist": 3} and len(rows) == 3


def test_what_enters_enters_once() -> None:
    by_hand = {"name": "auto", "label": "by chance", "sampler": "random"}
    rows = entered({"name": "auto"}, by_hand)
    assert list(rows) == ["auto", "auto-tuned-lora", "by chance"]
    again = [{"name": "auto", "label": key, **options} for key, options in rows.items()]
    assert entered(*again) == rows


def test_a_control_has_no_controls() -> None:
    assert list(entered({"name": "auto", "members": ["lora"]})) == ["auto"]
    assert list(entered({"name": "auto", "sampler": "random"})) == ["auto"]
