"""Submissions to SloBench: written, looked at strictly, scored; every fault is told."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.slobench import unlabelled

from paretune.errors import DataError
from paretune_slovene.commands.slobench import ScoredSubmission, check, score
from paretune_slovene.slobench import submission, superglue_zip, translation_submission
from paretune_slovene.slobench.official_scores import LABELS, Answers
from paretune_slovene.slobench.submission import open_submission

GOLDEN = {
    "BoolQ Accuracy": 2 / 3,
    "CB Accuracy": 2 / 3,
    "CB F1 Score": 0.4,
    "CB Average": 8 / 15,
    "COPA Accuracy": 2 / 3,
    "MultiRC F1a Score": 0.4,
    "MultiRC EM": 0.0,
    "MultiRC Average": 0.2,
    "RTE Accuracy": 2 / 3,
    "WSC Accuracy": 0.0,
    "Average": (2 / 3 + 8 / 15 + 2 / 3 + 0.2 + 2 / 3) / 6,
}


def answers(rows: int = 4) -> dict[str, Answers]:
    by_task: dict[str, Answers] = {
        task: {idx: labels[idx % len(labels)] for idx in range(rows)}
        for task, labels in LABELS.items()
    }
    by_task["MultiRC"] = {(0, 0, 0): 1, (0, 0, 1): 0, (0, 1, 2): 1, (3, 2, 3): 0}
    return by_task


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The rows of :func:`answers` without labels, as a published test file has them."""
    whole = superglue_zip.write_answers(tmp_path / "labelled.zip", answers())
    folder = tmp_path / "qa_test"
    folder.mkdir()
    with zipfile.ZipFile(whole) as archive:
        for name in archive.namelist():
            rows = map(unlabelled, map(json.loads, archive.read(name).splitlines()))
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return tmp_path


def changed(path: Path, name: str, change: Any, into: str = "changed.zip") -> Path:
    """The zip again, with the bytes of one file changed (None: left out)."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(path.parent / into, "w") as new:
        for one in old.namelist():
            data = change(old.read(one)) if one == name else old.read(one)
            if data is not None:
                new.writestr(one, data)
    return path.parent / into


def with_files(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "a") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path


def test_what_is_written_is_valid_scores_one_and_has_the_same_bytes(release: Path) -> None:
    paths = [superglue_zip.write_answers(release / n, answers()) for n in ("a.zip", "b.zip")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with zipfile.ZipFile(paths[0]) as archive:
        assert archive.namelist() == [f"{task}.jsonl" for task in sorted(LABELS)]
        assert archive.read("BoolQ.jsonl").startswith(b'{"idx": 0, "label": "false"}\n')
        assert b'{"idx": 3, "passage": {"questions": [{"idx": 2,' in archive.read("MultiRC.jsonl")
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    seen = check(paths[0], release=release)
    assert seen.kind == "superglue" and seen.findings == ()
    assert seen.answers == {**dict.fromkeys(LABELS, 4), "MultiRC": 4}
    assert set(score(paths[0], reference=release / "labelled.zip").scores.values()) == {1.0}


def test_the_official_sample_scores_as_slobench_says(shared: Path) -> None:
    folder = shared / "data" / "slobench-samples" / "question_answering"
    got = score(folder / "sample_submission", reference=folder / "sample_reference_dataset")
    assert got.scores == pytest.approx(GOLDEN, rel=0, abs=1e-9)
    assert round(got.scores["Average"], 5) == 0.45556


def test_answers_for_the_official_release_are_complete(shared: Path, tmp_path: Path) -> None:
    test = open_submission(shared / "data" / "slobench-release" / "qa_test.zip")
    constant_answers = {
        task: dict.fromkeys(superglue_zip.read_rows(test, task), LABELS[task][0]) for task in LABELS
    }
    path = superglue_zip.write_answers(tmp_path / "s.zip", constant_answers)
    seen = check(path, release=test.path.parent)
    assert seen.findings == ()
    counts = {"BoolQ": 30, "CB": 250, "COPA": 500, "MultiRC": 1672, "RTE": 29, "WSC": 146}
    assert seen.answers == counts
    # The release's own zip has __MACOSX entries, and no labels.
    result = check(test.path, release=test.path)
    assert result.counts["warning"] == result.counts["error"] == 6
    with pytest.raises(DataError, match="idx 0 has no label of BoolQ"):
        score(path, reference=test.path)


def test_the_published_validation_part_is_a_reference(shared: Path, tmp_path: Path) -> None:
    right = shared / "data" / "slobench-release" / "qa_validation.zip"
    references = superglue_zip.read_references(open_submission(right))
    path = superglue_zip.write_answers(tmp_path / "s.zip", references)
    assert set(score(path, reference=right).scores.values()) == {1.0}
    always = {task: dict.fromkeys(rows, LABELS[task][0]) for task, rows in references.items()}
    got = score(superglue_zip.write_answers(path, always), reference=right).scores
    assert got["BoolQ Accuracy"] == pytest.approx(4 / 18)  # always "false"
    assert got["MultiRC F1a Score"] == 0.0


@pytest.mark.parametrize(
    ("name", "change", "code", "says"),
    [
        ("RTE.jsonl", None, "missing-file", "holds no RTE.jsonl at its root."),
        ("RTE.jsonl", (b'"idx": 2', b'"idx": 9'), "unknown-id", "line 3: idx 9 is no row"),
        ("RTE.jsonl", (b'"idx": 2', b'"idx": 9'), "missing-rows", "3 of 4; missing: idx 2."),
        ("RTE.jsonl", (b'"idx": 2', b'"idx": 1'), "repeated-id", "idx 1 again (first in line 2)"),
        ("RTE.jsonl", (b'"idx": 2', b'"idx": "2"'), "wrong-shape", 'no whole number "idx"'),
        ("RTE.jsonl", (b"}\n", b"}\n\n"), "empty-line", "RTE.jsonl line 2: is empty."),
        ("RTE.jsonl", (b"}\n", b"\n"), "not-json", "RTE.jsonl line 1: is not JSON"),
        ("RTE.jsonl", (b"not_ent", b"not\xb9ent"), "not-utf-8", "line 2: byte 25 of the line"),
        ("RTE.jsonl", (b'{"idx": 0', b'\xef\xbb\xbf{"idx": 0'), "byte-order-mark", "line 1"),
        ("RTE.jsonl", (b'"label"', b'"lable"'), "wrong-label", "label null is not one of"),
        ("BoolQ.jsonl", (b'"true"', b"true"), "wrong-label", 'Write "true" exactly so.'),
        ("WSC.jsonl", (b'"True"', b'"true"'), "wrong-label", 'Write "True" exactly so.'),
        ("COPA.jsonl", (b"1}", b'"1"}'), "wrong-label", 'label "1" is not one of 0, 1.'),
        ("COPA.jsonl", (b'"label": 1', b'"label": true'), "wrong-label", "label true is not"),
        ("CB.jsonl", (b"neutral", b"maybe"), "wrong-label", '"contradiction", "neutral".'),
        ("MultiRC.jsonl", (b"questions", b"quest"), "wrong-shape", 'no list "questions"'),
        ("MultiRC.jsonl", (b'"label": 0', b'"label": 2'), "wrong-label", "question 0, answer 1"),
        ("MultiRC.jsonl", (b'"idx": 3, "label"', b'"idx": 4, "label"'), "missing-rows", "answer 3"),
    ],
)  # fmt: skip
def test_every_fault_is_told_with_file_line_and_remedy(
    release: Path, name: str, change: Any, code: str, says: str
) -> None:
    good = superglue_zip.write_answers(release / "s.zip", answers())
    path = changed(good, name, lambda data: data.replace(*change) if change else None)
    findings = [
        finding for finding in check(path, release=release).findings if finding.code == code
    ]
    assert findings and all(finding.severity == "error" for finding in findings)
    assert says in str(findings[0]) and findings[0].remedy
    assert findings[0].where.startswith("changed.zip")
    with pytest.raises(DataError):
        score(path, reference=release / "labelled.zip")


def test_files_around_the_six_are_named_and_do_not_stand_in_the_way(release: Path) -> None:
    path = superglue_zip.write_answers(release / "s.zip", answers())
    with_files(path, "__MACOSX/._CB.jsonl", ".DS_Store", "notes.txt", "mine/CB.jsonl")
    seen = check(path, release=release)
    assert seen.counts == {"warning": 4}
    assert "zip the files, not their folder" in str(seen.findings[0])
    assert set(score(path, reference=release / "labelled.zip").scores.values()) == {1.0}


def test_a_folder_can_be_scored_but_not_handed_in(release: Path) -> None:
    seen = check(release / "qa_test", release=release)
    assert seen.findings[0].code == "not-a-zip" and "zip -X" in seen.findings[0].remedy


def test_answers_that_are_not_a_tasks_own_are_never_written(tmp_path: Path) -> None:
    for wrong, says in (
        ({**answers(), "WSC": {0: "true"}}, "label 'true' is not one of"),
        ({**answers(), "COPA": {0: True}}, "label True is not one of"),
        ({**answers(), "CB": {(0, 1, 2): "neutral"}}, "is no key of its rows"),
        ({**answers(), "MultiRC": {7: 1}}, "is no key of its rows"),
        ({"CB": {0: "neutral"}}, "a submission has"),
    ):
        with pytest.raises(ValueError, match=says):
            superglue_zip.write_answers(tmp_path / "s.zip", wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.txt"
    path.write_text("First.\nSecond.\nThird.\n", encoding="utf-8")
    return path


def test_a_translation_is_written_valid_and_scored(source: Path) -> None:
    lines = ["Prvi.", "Drugi\u2028je tu.", "Tretji."]
    paths = [
        translation_submission.write_translations(source.parent / n, lines)
        for n in ("a.zip", "b.zip")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    seen = check(paths[0], release=source)
    assert (seen.kind, seen.answers, seen.findings) == ("translation", {"lines": 3}, ())
    got = score(paths[0], reference=paths[1])
    assert isinstance(got, ScoredSubmission) and got.scores["CHRF (avg)"] > 0.3
    assert got.missing["BERT score"].endswith('bert_model="MODEL".')
    assert [round(value) for value in got.sacrebleu.values()] == [100, 100, 0]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (b"a\nb\n", "line-count", "has 2 lines; the release has 3."),
        (b"a\n \nc\n", "empty-line", "translation.txt line 2: is empty."),
        (b"a\nb\nc\n\n", "empty-line", "line 4: is empty."),
        (b"a\nb\rc\nd\n", "control-character", "line 2: holds a carriage return"),
        (b"\xef\xbb\xbfa\nb\nc", "byte-order-mark", "line 1: begins with a byte-order mark"),
        (b"a\nb\xe8\nc", "not-utf-8", "line 2: byte 2 of the line (0xe8) is not UTF-8."),
        (b"a\n! Ne.\nc", "stops-slobench", "line 2: begins with the end of a sentence"),
    ],
)
def test_faults_of_a_translation(source: Path, text: bytes, code: str, says: str) -> None:
    good = translation_submission.write_translations(source.parent / "s.zip", ["a", "b", "c"])
    seen = check(changed(good, translation_submission.NAME, lambda data: text), release=source)
    findings = [finding for finding in seen.findings if finding.code == code]
    assert findings and says in str(findings[0])
    assert all(finding.remedy for finding in seen.findings)


@pytest.mark.parametrize("extra", ["__MACOSX/._translation.txt", "second.txt"])
def test_a_translation_is_one_file_and_nothing_else(source: Path, extra: str) -> None:
    path = translation_submission.write_translations(source.parent / "s.zip", ["a", "b", "c"])
    seen = check(with_files(path, extra), release=source)
    assert seen.counts["error"] == 1 and "exactly one" in str(seen.findings[0])


def test_a_translation_in_a_folder_of_the_zip_is_not_found_by_slobench(source: Path) -> None:
    path = source.parent / "s.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mine/t.txt", "a\nb\nc\n")
    assert [finding.code for finding in check(path, release=source).findings] == ["one-file"]


def test_lines_that_would_break_a_submission_are_never_written(tmp_path: Path) -> None:
    for lines in (["a", ""], ["a\nb"], ["a\r"]):
        with pytest.raises(ValueError, match="is empty or has a line break"):
            translation_submission.write_translations(tmp_path / "s.zip", lines)


def test_a_zip_that_unpacks_to_too_much_is_refused(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "MAX_UNPACKED_BYTES", 1000)
    path = source.parent / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.txt", "b.txt"):
            archive.writestr(name, b"0" * 600)
    with pytest.raises(DataError, match=r"bomb\.zip::b\.txt: unpacks, with the files before it"):
        check(path, release=source)


def test_a_release_that_is_none_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = translation_submission.write_translations(source.parent / "s.zip", ["a"])
    monkeypatch.setenv("PARETUNE_HOME", str(source.parent / "nowhere"))
    with pytest.raises(DataError, match="paretune data fetch superglue-sl"):
        check(path)
    empty = source.parent / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="holds nothing; that of a translation"):
        check(path, release=empty)
