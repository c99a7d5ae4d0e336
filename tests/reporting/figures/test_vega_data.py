import json
from itertools import pairwise

import pytest
from support import fake_records as fake

from paretune.reporting.build import build_report
from paretune.reporting.figures.pareto import lay_out_pareto
from paretune.reporting.figures.vega_data import pareto_data
from paretune.reporting.html import page
from paretune.reporting.text.escape import dump_script_json


def axes(**changes) -> dict:
    study = fake.study(tasks=[fake.own_task("t")], **changes)
    (task,) = build_report(study, fake.whole(study)).tasks
    pareto = lay_out_pareto(task, 0)
    assert pareto is not None
    vega_axes = json.loads(dump_script_json(pareto_data(pareto)))["axes"]
    return {axis["title"]: axis for axis in vega_axes}


def test_points_have_what_the_table_has_in_the_axis_own_unit() -> None:
    memory = axes()["peak memory in training"]
    assert memory["unit"] == "GiB"
    points = {point["name"]: point for point in memory["points"]}
    assert set(points) == {"full fine-tuning", "LoRA", "linear probe"}  # no run of prompt trained
    lora = points["LoRA"]
    assert lora["cost"] == pytest.approx(870 / 1024, rel=1e-5)
    assert lora["score_text"] == "0.77 [0.69, 0.85] (60 examples, 3 seeds)"
    assert "870 MiB peak memory" in lora["description"]
    assert lora["low"] < lora["score"] < lora["high"]
    assert {name for name, point in points.items() if point["front"]} >= {
        "full fine-tuning",
        "linear probe",
    }


def test_every_point_and_label_lies_in_its_chart() -> None:
    for axis in axes(models=["a", "b", "c"], methods=["full", "lora", "loha", "prompt"]).values():
        low, high = axis["costs"]
        bottom, top = axis["scores"]
        assert 0 <= low < high
        assert axis["ticks"][0][0] == pytest.approx(bottom)
        assert axis["ticks"][-1][0] == pytest.approx(top)
        line = (top - bottom) / axis["height"] * 23.9
        labels = sorted(point["label"] for point in axis["points"])
        assert all(b - a >= line for a, b in pairwise(labels))
        for point in axis["points"]:
            assert low <= point["cost"] <= high
            assert bottom <= point["low"] <= point["high"] <= top
            assert bottom - 1e-9 <= point["label"] <= top


def test_json_in_a_page_cannot_end_its_element() -> None:
    hostile = "</script><!-- <script> & \u2028 \ud800"
    text = dump_script_json({hostile: [hostile]})
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {hostile: [hostile]}
    with pytest.raises(ValueError, match="Out of range"):
        dump_script_json(float("nan"))


def test_without_scripts_the_policy_allows_none() -> None:
    assert page.content_security_policy([]) == "default-src 'none'; style-src 'unsafe-inline'"
    assert "unsafe-eval" not in page.content_security_policy(
        ["a"]
    ) and "'sha256-" in page.content_security_policy(["a"])


def test_the_library_is_one_inert_text_with_its_licence() -> None:
    text = page.load_vega()
    assert text.startswith("/*!\nVega") and "Redistributions of source code" in text
    assert "</script" not in text and "<!--" not in text
    assert 500_000 < len(text) < 1_200_000
    assert page.load_vega() is text


def test_it_is_kept_and_made_anew_where_it_is_damaged(tmp_path, monkeypatch) -> None:
    text = page.load_vega()
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path))
    calls = []
    bundle = text.split("*/\n", 1)[1]
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda s: calls.append(s) or bundle)
    fresh = page.load_vega.__wrapped__
    assert fresh() == text and len(calls) == 1
    assert fresh() == text and len(calls) == 1
    (kept,) = (tmp_path / "page").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9] + b"alert(1)\xff")
    assert fresh() == text and len(calls) == 2
    assert fresh() == text and len(calls) == 2
    monkeypatch.setenv("PARETUNE_HOME", str(kept))  # a file: nothing can be kept below it
    assert fresh() == text and fresh() == text and len(calls) == 4
