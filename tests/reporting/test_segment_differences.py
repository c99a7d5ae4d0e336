"""Segments on which two translations differ most: which, what is said of them, how much room."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from sacrebleu.metrics import CHRF
from support import fake_records as fake

from paretune.analysis.cells import group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.reporting.build import build_report
from paretune.reporting.disagreement import MAX_CHARACTERS, MAX_LISTED, find_disagreements
from paretune.reporting.page import write_page
from paretune.reporting.rows import build_rows

STUDY = fake.translation_study()
RECORDS = fake.whole(STUDY)


def found_in(records, **more):
    if more:
        cells = group_into_cells(STUDY, records)
        advice = build_report(STUDY, records).tasks[0].advice
        rows = build_rows(cells, PairwiseComparisons(cells), advice)
        return find_disagreements(rows, **more)
    (task,) = build_report(STUDY, records).tasks
    return task.disagreement


MAX_SHOWN = MAX_LISTED["segments"]


def texts_of(method: str) -> dict[int, tuple[str, ...]]:
    return {
        r.run.seed: r.predictions["test"].prediction
        for r in RECORDS
        if r.run.stage == "final" and r.run.method.name == method
    }


def chrf(hypothesis: str, reference: str) -> float:
    return CHRF().sentence_score(hypothesis, [reference]).score


def test_the_largest_differences_of_means_are_shown_with_sacrebleus_own_scores() -> None:
    differences = found_in(RECORDS)
    assert differences is not None
    names = [side.name for side in differences.sides]
    assert names == ["full fine-tuning", "LoRA", "prompt tuning", "untuned model", "copied source"]
    assert {
        names[differences.pairs[differences.default_pair].a],
        names[differences.pairs[differences.default_pair].b],
    } == {"full fine-tuning", "LoRA"}
    full, lora, references = texts_of("full"), texts_of("lora"), fake.references()
    means = [
        [sum(chrf(outputs[i], references[i]) for outputs in of.values()) / 3 for i in range(80)]
        for of in (full, lora)
    ]
    far = sorted(range(80), key=lambda i: -abs(means[0][i] - means[1][i]))
    pair = differences.pairs[differences.default_pair]
    named = [differences.examples[place] for place in pair.named]
    assert [uid for uid, _, _ in named] == [f"test-{i}" for i in far[:MAX_SHOWN]]
    for place, (_, reference, _), i in zip(pair.named, named, far, strict=False):
        assert differences.texts[reference] == references[i]
        for side, outputs, mean in zip(differences.sides, (full, lora), means, strict=False):
            assert side.scores[place] == pytest.approx(mean[i], abs=1e-4)
            nearest = min(
                (of[i] for of in outputs.values()),
                key=lambda text: abs(chrf(text, references[i]) - mean[i]),
            )
            assert differences.texts[side.answers[place]] == nearest
    above = sum(
        chrf(full[s][i], references[i]) > chrf(lora[s][i], references[i]) + 1e-9
        for s in full
        for i in range(80)
    )
    assert pair.runs == 3 and pair.only_a == above
    for one in differences.pairs:
        assert one.both is None and one.only_a + one.only_b + one.neither == 80 * one.runs


def test_sources_are_what_copy_source_said_and_lacking_where_it_has_not_run() -> None:
    differences = found_in(RECORDS)
    (copied,) = texts_of("copy_source").values()
    for uid, _, source in differences.examples:
        assert differences.texts[source] == copied[int(uid.removeprefix("test-"))]
    without = [r for r in RECORDS if r.run.method.name != "copy_source"]
    assert all(source is None for _, _, source in found_in(without).examples)


def test_room_is_shared_between_pairs_and_never_exceeded() -> None:
    differences = found_in(RECORDS, most_texts=63)
    assert len(differences.examples) == 9 and len(differences.texts) <= 63
    assert sum(bool(pair.named) for pair in differences.pairs) > 5
    count = len(differences.pairs[0].named)
    assert f"; the {count} with the clearest difference are" in differences.pairs[0].summary


def test_two_that_say_the_same_differ_nowhere() -> None:
    same = {
        seed: next(
            r.predictions
            for r in RECORDS
            if r.run.stage == "final" and r.run.method.name == "full" and r.run.seed == seed
        )
        for seed in (1, 2, 3)
    }
    records = [
        replace(r, predictions=same[r.run.seed])
        if r.run.stage == "final" and r.run.method.name == "lora"
        else r
        for r in RECORDS
    ]
    differences = found_in(records)
    pair = next(p for p in differences.pairs if (p.a, p.b) == (0, 1))
    assert (pair.only_a, pair.only_b, pair.neither, pair.named) == (0, 0, 240, ())
    assert pair.summary == "The means over seeds differ on 0 of 80 test segments."


def hostile(record, text: str):
    part = record.predictions.get("test")
    if part is None or not part.uid:
        return record
    changed = replace(part, prediction=(text, *part.prediction[1:]), label=(text, *part.label[1:]))
    return replace(record, predictions={**record.predictions, "test": changed})


def test_hostile_and_endless_texts_are_text_and_cut(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>\u202e\x1b[31m" + "a" * 5000
    records = [hostile(r, evil) if r.run.method.name == "lora" else r for r in RECORDS]
    records = [
        replace(
            r,
            predictions={
                k: replace(p, label=(evil, *p.label[1:])) if k == "test" else p
                for k, p in r.predictions.items()
            },
        )
        for r in records
    ]
    text = write_page(build_report(STUDY, records), tmp_path / "r.html").read_text("utf-8")
    assert "<img src=x" not in text and "\x1b" not in text and "\u202e" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text and "Long texts are cut" in text
    assert "a" * (MAX_CHARACTERS + 1) not in text
    (block,) = re.findall(r'class="disagree-data"[^>]*>(.*?)</script>', text, re.S)
    values = json.loads(block)
    assert any(value.endswith("a […]") for value in values["texts"])


def test_the_page_shows_a_pair_without_javascript(tmp_path: Path) -> None:
    text = write_page(build_report(STUDY, RECORDS), tmp_path / "r.html").read_text("utf-8")
    part = text[text.index('id="disagree-1"') : text.index('class="disagree-data"')]
    assert "80 test segments × 3 pairs of runs" in part
    assert part.count("<li>") == MAX_SHOWN and part.count('lang="sl"') == MAX_SHOWN
    assert re.search(r"LoRA: mean of 3 seeds \d+\.\d</dt>", part)
    assert "a score of one segment has no interval" in text


def test_other_tasks_and_lonely_methods_have_none() -> None:
    only = [r for r in RECORDS if r.run.method.name == "lora"]
    assert found_in(only) is None
    assert found_in([]) is None
