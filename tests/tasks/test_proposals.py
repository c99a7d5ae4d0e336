"""What `new`, `tune` and `check` propose and leave to the user: groups, dates, metric, weights."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from paretune.data.audit import audit
from paretune.study import Study, TaskSpec
from paretune.tasks import load_dataset
from paretune.tasks.infer import NamedColumns, infer_task
from paretune.verbs.new import StudyDraft, draft_study

ROWS = 120
NOUNS = ["kettle", "window", "garden", "ticket", "letter", "engine", "bottle", "mirror"]


def write_rows(path: Path, spam: int = 40, **columns: Callable[[int], Any]) -> Path:
    """Texts with so many rows of spam among them, and further columns by the row's number."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", *columns])
        for i in range(ROWS):
            text = f"The {NOUNS[i % 8]} number {i} is with the {NOUNS[i * 5 % 7]}."
            values = [column(i) for column in columns.values()]
            writer.writerow([text, "spam" if i < spam else "ham", *values])
    return path


def draft(path: Path) -> StudyDraft:
    return draft_study(path, path.with_suffix(".yaml"), None, NamedColumns(), None)


def load_findings(path: Path, code: str, **keys: Any) -> list[str]:
    columns = {"kind": "classification", "text": "text", "label": "label"}
    dataset = load_dataset(TaskSpec(**{"name": "mail", "train": str(path), **columns, **keys}))
    return [finding.what for finding in audit(dataset) if finding.code == code]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("author", lambda i: f"Ana {i % 30}"),
        ("user_id", lambda i: 1000 + i % 30),
        ("docId", lambda i: f"d{i % 30}"),
        ("city", lambda i: f"town {i % 30}"),  # by its values alone
    ],
)
def test_a_column_that_repeats_is_proposed_as_group(
    tmp_path: Path, name: str, value: Callable[[int], Any]
) -> None:
    path = write_rows(tmp_path / "mail.csv", **{name: value})
    drafted = draft(path)
    assert f'    # group: "{name}"   # 30 values in 120 rows' in drafted.text
    remark, scores = [doubt for doubt in drafted.doubts if "group:" in doubt]
    assert scores.startswith("Over 5 folds TF-IDF has accuracy ")
    assert remark.startswith(f"{name} is not used and repeats (30 values in 120 rows)")
    assert remark in drafted.guesses  # what tune tells
    assert drafted.study.tasks[0].group is None  # nothing is applied in silence
    (what,) = load_findings(path, "possible-group")
    assert what == f'"{name}" is not used and repeats: 30 values in 120 rows.'
    assert not load_findings(path, "possible-group", group=name)
    named = drafted.text.replace(f'    # group: "{name}"', f'    group: "{name}"')
    path.with_suffix(".yaml").write_text(named, encoding="utf-8")
    assert Study.load(path.with_suffix(".yaml")).tasks[0].group == name


def test_scores_tell_what_a_group_changes(tmp_path: Path) -> None:
    """Each author has words and a label of their own, which tells nothing of other authors."""
    path = tmp_path / "mail.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "author"])
        for i in range(ROWS):
            author = i % 20
            text = f"word{author} other{author} third{author} fourth{author} and number{i}"
            writer.writerow([text, ["ham", "spam"][author * 7 % 20 < 10], f"Ana {author}"])
    (sentence,) = [doubt for doubt in draft(path).doubts if doubt.startswith("Over 5 folds")]
    free, whole = map(float, re.findall(r"0\.\d+|1\.00", sentence))
    assert free > 0.95 and whole < 0.7


def test_long_data_and_rows_that_cannot_be_read_have_no_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "mail.csv", author=lambda i: f"Ana {i % 30}")
    monkeypatch.setattr("paretune.verbs.new._MAX_WEIGHED", 1000)
    assert not [doubt for doubt in draft(path).doubts if "TF-IDF" in doubt]
    monkeypatch.undo()
    with path.open("a", encoding="utf-8") as file:
        file.write("A text without a label.,,Ana 3\n")
    assert not [doubt for doubt in draft(path).doubts if "TF-IDF" in doubt]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", lambda i: i),
        ("user_id", lambda i: i),  # another in every row
        ("priority", lambda i: i % 4),
        ("channel", lambda i: ["web", "mail", "phone"][i % 3]),
        ("length", lambda i: 10.5 + i % 50),
        ("sent", lambda i: date(2026, 1, 1) + timedelta(days=i // 4)),
        ("label_id", lambda i: i % 6),
    ],
)
def test_numbers_categories_dates_and_unique_values_are_no_groups(
    tmp_path: Path, name: str, value: Callable[[int], Any]
) -> None:
    path = write_rows(tmp_path / "mail.csv", **{name: value})
    assert "group" not in infer_task(path).proposals
    assert not load_findings(path, "possible-group")


def test_dates_are_proposed_to_split_by_where_no_file_is_the_test(tmp_path: Path) -> None:
    days = {"sent": lambda i: date(2026, 1, 1) + timedelta(days=i // 4)}
    path = write_rows(tmp_path / "train.csv", **days)
    assert '    # split_by: "sent"   # dates' in draft(path).text
    write_rows(tmp_path / "test.csv", **days)
    assert "split_by" not in draft(path).text


def test_imbalance_proposes_macro_f1_and_class_weights(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "mail.csv", spam=4)
    sentence = '116 of 120 rows have label "ham": to answer nothing else has accuracy 0.97.'
    drafted = draft(path)
    (remark,) = [doubt for doubt in drafted.doubts if "accuracy 0.97" in doubt]
    assert remark.startswith(sentence) and "metric: macro_f1" in remark
    assert "class_weights: balanced" in remark and remark in drafted.guesses
    assert "    # metric: macro_f1   # the labels are imbalanced; or accuracy," in drafted.text
    assert "  # class_weights: balanced" in drafted.text
    assert drafted.study.tasks[0].metric is None
    assert load_findings(path, "imbalance") == [sentence]
    assert not load_findings(path, "imbalance", metric="macro_f1")


def test_two_thirds_are_no_imbalance(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "mail.csv", spam=40)
    drafted = draft(path)
    assert not load_findings(path, "imbalance") and not drafted.doubts
    assert "# metric: accuracy   # or macro_f1" in drafted.text
    assert "class_weights" not in drafted.text
