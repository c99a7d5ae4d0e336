import json
import os
import re
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from support import fake_records as fake
from support.pages import EVIL, Tags

from paretune.data.finding import Finding
from paretune.errors import StoreError
from paretune.reporting.build import build_report
from paretune.reporting.page import load_vega, write_page
from paretune.reporting.text.escape import dump_script_json
from paretune.terminal.sanitise import sanitise_line


def page(tmp_path: Path, study, records, states=(), **more) -> str:
    return write_page(
        build_report(study, records, states, **more), tmp_path / "a" / "r.html"
    ).read_text("utf-8")


def test_the_page_says_what_was_found(tmp_path: Path) -> None:
    study = fake.study()
    text = page(tmp_path, study, fake.whole(study))
    assert "Proven better than every baseline: full fine-tuning and LoRA." in text
    assert "(60 examples, 3 seeds)" in text
    assert "collapsed 3/3" in text
    assert "The same answer was given to every example by prompt tuning, in 3 of 3 seeds." in text
    assert "not measured: no energy counter can be read on this machine" in text
    assert "one solo measurement" in text.lower()


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    study = fake.study()
    text = page(tmp_path, study, fake.whole(study))
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    names = {name for name, _ in tags.seen}
    assert not names & {"link", "img", "iframe", "object"}
    for _, attributes in tags.seen:
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") or name == "src" for name in attributes)
    assert "@import" not in text
    ids = [a["id"] for _, a in tags.seen if "id" in a]
    assert len(ids) == len(set(ids))
    links = {(a.get("href") or "")[1:] for _, a in tags.seen if a.get("href")}
    assert links <= set(ids)


def test_the_page_can_be_heard_and_used_without_a_mouse(tmp_path: Path) -> None:
    study = fake.study()
    tags = Tags()
    text = page(tmp_path, study, fake.whole(study))
    tags.feed(text)
    for name, attributes in tags.seen:
        if name == "svg":
            assert attributes.get("aria-hidden") == "true"
        if (attributes.get("class") or "") == "chart":
            assert attributes["role"] == "img" and attributes["aria-label"]
        if name == "th":
            assert attributes.get("scope") in ("row", "col")
        if (attributes.get("class") or "") == "scroll":
            assert attributes["tabindex"] == "0"
    assert ("html", {"lang": "en"}) in tags.seen
    assert re.search(r'class="chart" role="img" aria-label="[^"]*LoRA, 0\.7', text)


def test_hostile_text_cannot_run(tmp_path: Path) -> None:
    study = fake.study(
        models=[{"name": "m", "label": EVIL}],
        methods=["full", {"name": "lora", "label": EVIL}],
    )
    records = fake.whole(study)
    run = fake.make_run(study, "final", "full", 9)
    records.append(fake.record(run, outcome="error", message=EVIL))
    trial = fake.make_run(study, "tune", "full", 8)
    records.append(fake.record(trial, {"selection": fake.answers(0.5)}, result={"notes": [EVIL]}))
    findings = [Finding("warning", "x", EVIL, EVIL, EVIL)]
    text = page(tmp_path, study, records, findings=findings)
    assert "<span>data</span> <b>1 warning</b>" in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text
    tags = Tags()
    tags.feed(text)
    allowed = re.findall(r"'sha256-([^']+)'", text)
    bodies = re.findall(r"<script>(.*?)</script>", text, re.S)
    hashes = [b64encode(sha256(body.encode()).digest()).decode() for body in bodies]
    assert hashes == allowed and len(allowed) == 4  # the library once, for both tasks
    blocks = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S)
    assert len(blocks) == text.count("<script") - 4 == 3
    assert not any(c in block for block in blocks for c in "<>&")
    assert sanitise_line(EVIL) in str([json.loads(block) for block in blocks])
    assert not any(name.startswith("on") for _, a in tags.seen for name in a)


def test_the_papers_scores_are_labelled_as_of_one_seed_and_its_settings_stand_alone(
    tmp_path: Path,
) -> None:
    paper = fake.study(protocol={"preset": "paper"}, tasks=[fake.own_task("cb")])
    run = fake.make_run(paper, "final", "lora", 42, selection="test")
    text = page(tmp_path, paper, [fake.record(run, {"test": fake.answers(0.7)})])
    # Sentence, heading, figure and table.
    assert text.count("selected on the test part") >= 4
    assert "Deliberate departures from the paper" in text
    assert "COPA, prompt tuning: the paper has none" in text
    assert "interval over examples (one seed)" in text
    assert "interval over seeds and examples" not in text
    (settings,) = re.findall(r'<pre tabindex="0">(# .*?)</pre>', text, re.S)
    assert "preset: paper" in settings and "as_run: false" in settings
    assert not any(name in settings for name in ("seeds:", "folds:", "training:"))
    fair = fake.study()
    text = page(tmp_path, fair, fake.whole(fair))
    assert "interval over seeds and examples" in text and "folds: 1" in text


def test_costs_of_other_conditions_are_told_apart(tmp_path: Path) -> None:
    study = fake.study(tasks=[fake.own_task("t")])
    same = fake.whole(study)
    assert ": cpu, 2 threads, batch 16, 128 tokens." in page(tmp_path, study, same)
    assert "not all measured under the same conditions" not in page(tmp_path, study, same)
    for place, record in enumerate(same):
        if record.run.stage == "cost" and record.run.method.name == "lora":
            same[place] = replace(record, measured={**record.measured, "batch_size": 4})
    text = page(tmp_path, study, same)
    assert "LoRA: cpu, 2 threads, batch 4, 128 tokens" in text
    assert (
        "full fine-tuning, prompt tuning and linear probe: cpu, 2 threads, batch 16, 128 tokens"
        in text
    )
    assert "Costs were not all measured under the same conditions" in text


def test_learning_rates_and_what_failed_are_shown(tmp_path: Path) -> None:
    study = fake.study()
    records = fake.whole(study)
    bad = fake.make_run(study, "tune", "lora", 0, learning_rate=0.05)
    note = "diverged at step 12"
    records.append(fake.record(bad, outcome="diverged", result={"notes": [note]}))
    text = page(tmp_path, study, records)
    rates = text[text.index('aria-label="Learning rates on topics"') :]
    rows = [re.sub(r"<[^>]*>", " ", row).split() for row in rates.split("<tr")]
    assert ["5e-2", "no", "score", "1", "1"] in [row[-5:] for row in rows]
    assert any(row[-7:] == [*row[-7:-5], "40", "×", "1", "1", "0"] for row in rows)
    assert note in text


def test_unfinished_cells_are_listed(tmp_path: Path) -> None:
    study = fake.study()
    waiting = [fake.state(fake.make_run(study, "tune", "lora", 0), "running")]
    text = page(tmp_path, study, [], waiting)
    assert (
        "topics / e5-small / LoRA: learning rates tried 0 of 1, 1 running; final runs 0 of 3"
        in text
    )
    assert "On topics, nothing has been trained yet." in text


def test_an_old_page_stays_whole_when_writing_fails(tmp_path: Path, monkeypatch) -> None:
    study = fake.study()
    path = write_page(build_report(study, []), tmp_path / "r.html")
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_page(build_report(study, fake.whole(study)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.wide
def test_a_page_of_a_thousand_runs_is_small(tmp_path: Path) -> None:
    study = fake.large()
    records = fake.whole(study)
    assert len(records) > 1000
    text = page(tmp_path, study, records)
    assert len(text.encode()) < 6_000_000
    assert text.count("University of Washington Interactive Data Lab") == 1


@pytest.mark.thorough
def test_reports_need_no_model_library() -> None:
    code = (
        "import sys, paretune.reporting.page, paretune.reporting.charts, "
        "paretune.reporting.text.terminal; "
        "print([m for m in ('torch', 'transformers', 'peft', 'sklearn', "
        "'vl_convert') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_page_begins_with_the_whole_study(tmp_path: Path) -> None:
    """Model, machine and date; one sentence; methods by tasks; how the study stands."""
    study = fake.study()
    states = [replace(fake.state(fake.make_run(study, "final", "lora", 9), "done"), ended_at=0.0)]
    records = fake.whole(study, {"lora": 0.95})
    text = page(tmp_path, study, records, states)
    head = text[text.index("<h1>") : text.index("</header>")]
    assert "Model: e5-small (118 M parameters)" in head and "Date: 1 January 1970" in head
    sentence = head[head.index('class="sentence"') :]
    assert "Take LoRA on topics and entailment: proven" in sentence[: sentence.index("</p>")]
    lora = head[head.index('<th scope="row">LoRA</th>') :]
    row = lora[: lora.index("</tr>")]
    assert head.count("LoRA</th>") == 1 and row.count('<span class="take">take</span>') == 2
    assert row.count("▲") == 2 and row.count("870 MiB") == 1
    runs = f"{len(records)} of {len(records)}"
    for title, value in (("runs finished", runs), ("seeds constant", "6 of 24")):
        assert f"<span>{title}</span> <b>{value}</b>" in head
    assert head.count('class="alarm"') == 1  # prompt is constant


def test_the_library_is_inert_and_made_anew_where_it_is_damaged(tmp_path, monkeypatch) -> None:
    text = load_vega()
    assert text.startswith("/*!\nVega") and "Redistributions of source code" in text
    assert "</script" not in text and "<!--" not in text
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path))
    calls = []
    bundle = text.split("*/\n", 1)[1]
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda s: calls.append(s) or bundle)
    fresh = load_vega.__wrapped__
    assert fresh() == text and fresh() == text and len(calls) == 1
    (kept,) = (tmp_path / "page").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9] + b"alert(1)\xff")
    assert fresh() == text and fresh() == text and len(calls) == 2
    monkeypatch.setenv("PARETUNE_HOME", str(kept))  # a file: nothing can be kept below it
    assert fresh() == text and fresh() == text and len(calls) == 4


def test_json_in_a_page_cannot_end_its_element() -> None:
    hostile = "</script><!-- <script> & \u2028 \ud800"
    text = dump_script_json({hostile: [hostile]})
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {hostile: [hostile]}
    with pytest.raises(ValueError, match="Out of range"):
        dump_script_json(float("nan"))


def test_the_page_is_small_and_has_every_part(tmp_path: Path) -> None:
    methods = ["full", "lora", "loha", "prompt", "ia3"]
    study = fake.study(models=["small", "large"], methods=methods)
    text = page(tmp_path, study, fake.whole(study))
    assert len(text.encode()) < 1_500_000
    places = [
        text.index(part)
        for part in (
            'class="sentence"', 'class="matrix sortable"', 'id="front-still"', 'class="health"',
            "Over all tasks</h2>", "What to take, and what would change it", "Quality on topics",
            "Pareto front: score against cost", "Scores beside the baselines",
            "Score and memory against model size", "Where two methods disagree",
            "Every pair, and the ranks that follow", "Other costs", "Where the bytes go",
            "How the learning rates were chosen",
            "Learning curves", "Settings and environment", "Study, with all defaults",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    # Each score in a cell has its interval drawn.
    assert text.count('class="interval"') == 2 * 2 * (2 * 6 + 2)


def test_a_published_page_names_its_card(tmp_path: Path) -> None:
    report = build_report(fake.study(), [])
    folder = tmp_path / "site"
    text = write_page(report, folder / "r.html", folder / "a card.png").read_text("utf-8")
    assert '<meta property="og:image" content="a%20card.png">' in text
    assert "og:image" not in write_page(report, folder / "r.html").read_text("utf-8")
