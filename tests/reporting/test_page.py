import json
import os
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html import unescape
from pathlib import Path

import pytest
from support import fake_records as fake
from support.pages import EVIL, Tags
from test_report_screens import WORLDS

from paretune.data.finding import Finding
from paretune.errors import StoreError
from paretune.reporting.build import build_report
from paretune.reporting.page import load_vega, render_page, write_page
from paretune.reporting.tables import build_cost_table
from paretune.reporting.text.escape import dump_script_json
from paretune.terminal.sanitise import sanitise_line


def page(tmp_path: Path, study, records, states=(), **more) -> str:
    return write_page(
        build_report(study, records, states, **more), tmp_path / "a" / "r.html"
    ).read_text("utf-8")


@pytest.mark.parametrize("study", [fake.study(), fake.translation_study()])
def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(tmp_path: Path, study) -> None:
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
    study = fake.study(models=["m"], methods=["full", "lora"], title=EVIL)
    study = fake.labelled(study, {"m": EVIL, "lora": EVIL})
    records = fake.whole(study)
    run = fake.make_run(study, "final", "full", 9)
    records.append(fake.record(run, outcome="error", message=EVIL))
    trial = fake.make_run(study, "tune", "full", 8)
    records.append(fake.record(trial, {"selection": fake.answers(0.5)}, result={"notes": [EVIL]}))
    findings = [Finding("warning", "x", EVIL, EVIL, EVIL)]
    text = page(tmp_path, study, records, findings=findings)
    assert "<span>data</span> <b>1 warning</b>" in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text[text.index("<h1>") : text.index("</h1>")]
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


def normalise(text: str) -> str:
    return " ".join(text.replace(" × ", " x ").split())


@pytest.mark.parametrize(
    "name", ["costs-in-doubt", "every-table", "rates-at-the-edge", "selected-on-the-test-part"]
)
def test_the_page_says_what_the_golden_screen_says(name: str) -> None:
    case = WORLDS[name]()
    report = build_report(case.study, case.records, case.states)
    words = normalise(unescape(re.sub(r"<[^>]*>", " ", render_page(report))))
    texts = [*report.unfinished, *report.notes, *(f.message for f in report.failures)]
    for task in report.tasks:
        texts += [*task.sentences, *(s.text for s in (task.advice.lead, *task.advice.details))]
        texts += [cell for table in task.tables for row in table.texts for cell in row]
        costs = [build_cost_table(task)] if task.measured_cells else []
        for table in (*costs, *task.tables):
            texts += [table.above, *table.notes]
    assert [text for text in texts if normalise(text) not in words] == []
    assert ("Costs were not all measured" in words) == (name == "costs-in-doubt")
    assert ("Deliberate departures" in words) == (name == "selected-on-the-test-part")


def test_the_papers_settings_stand_alone() -> None:
    text = render_page(build_report(fake.study(protocol={"preset": "paper"}), []))
    (settings,) = re.findall(r'<pre tabindex="0">(# .*?)</pre>', text, re.S)
    assert "preset: paper" in settings and "as_run: false" in settings
    assert not any(name in settings for name in ("seeds:", "folds:", "training:"))
    assert "folds: 1" in render_page(build_report(fake.study(), []))


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
    for title, value in (
        ("runs finished", runs),
        ("constant final runs", "6 of 24"),
    ):
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
