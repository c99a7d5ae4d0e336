"""Sample logs of other harnesses: read in each of their forms, and compared pair by pair."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from paretune.analysis.statistics.paired_items import estimate_items, paired_difference
from paretune.contrib.sample_logs.comparison import compare_logs
from paretune.errors import DataError, StudyError


def answers(right: float, n: int = 400, seed: int = 0) -> list[int]:
    return [int(x) for x in np.random.default_rng(seed).random(n) < right]


def harness_log(path: Path, scores: list[Any], *, old: bool = False, **more: Any) -> Path:
    """As lm-evaluation-harness writes it."""
    lines = []
    for i, score in enumerate(scores):
        line: dict[str, Any] = {
            "doc_id": i,
            "doc": {"question": f"question {i}"},
            "target": "1",
            "arguments": [],
            "resps": [],
            "doc_hash": f"hash {i}",
            "acc": float(score),
            **more,
        }
        if not old:
            line |= {"filter": "none", "metrics": ["acc"], **more}
        lines.append(json.dumps(line))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def inspect_samples(scores: list[Any]) -> list[dict[str, Any]]:
    return [
        {"id": i, "epoch": 1, "scores": {"match": {"value": value}}}
        for i, value in enumerate(scores)
    ]


def test_a_clear_difference_is_found_and_named_by_the_models_folder(tmp_path: Path) -> None:
    high = harness_log(tmp_path / "gemma" / "samples_boolq.jsonl", answers(0.8))
    low = harness_log(tmp_path / "opt" / "samples_boolq.jsonl", answers(0.6, seed=1))
    comparison = compare_logs([high, low])
    (pair,) = comparison.pairs
    assert (pair.a, pair.b, pair.decided, pair.sample_size) == ("gemma", "opt", True, None)
    assert (comparison.metric, comparison.samples, comparison.left_out) == ("acc", 400, 0)
    delta = np.array(answers(0.8)) - np.array(answers(0.6, seed=1))
    assert pair.difference.estimate == pytest.approx(delta.mean())
    assert comparison.sentences[0].startswith("gemma is better than opt: gemma minus opt 0.")


def test_without_a_verdict_the_number_of_samples_that_would_decide_is_named(tmp_path: Path) -> None:
    one = harness_log(tmp_path / "a.jsonl", answers(0.7))
    other = harness_log(tmp_path / "b.jsonl", answers(0.7, seed=3))
    comparison = compare_logs([one, other])
    assert not comparison.pairs[0].decided and (comparison.pairs[0].sample_size or 0) > 400
    assert comparison.sentences[0].startswith("No verdict between a and b: ")
    assert f"{comparison.pairs[0].sample_size:,} samples" in comparison.sentences[1]


def test_three_logs_are_corrected_over_all_pairs(tmp_path: Path) -> None:
    paths = [
        harness_log(tmp_path / f"{i}.jsonl", answers(share, seed=i))
        for i, share in enumerate((0.9, 0.7, 0.68))
    ]
    comparison = compare_logs(paths)
    assert len(comparison.pairs) == 3
    assert all(pair.p_corrected >= pair.difference.p for pair in comparison.pairs)
    assert [pair.decided for pair in comparison.pairs] == [True, True, False]
    assert "corrected over all 3 pairs" in comparison.sentences[-1]


def test_every_form_of_the_two_harnesses_is_read(tmp_path: Path) -> None:
    old = harness_log(tmp_path / "old.jsonl", [1, 0, 1, 1], old=True)
    whole = tmp_path / "log.json"
    whole.write_text(json.dumps({"version": 2, "samples": inspect_samples(["C", "I", "P", 1.0])}))
    zipped = tmp_path / "log.eval"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("header.json", "{}")
        for sample in inspect_samples(["C", "N", False, 0.25]):
            archive.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
    comparison = compare_logs([whole, zipped])
    assert comparison.metric == "match"
    assert [one.score.estimate for one in comparison.scores] == [2.5 / 4, 1.25 / 4]
    again = compare_logs([old, harness_log(tmp_path / "new.jsonl", [1, 1, 1, 1])])
    assert [one.score.estimate for one in again.scores] == [0.75, 1.0]


def test_samples_that_were_answered_several_times_count_once(tmp_path: Path) -> None:
    twice = [{**s, "epoch": e} for e, s in enumerate(inspect_samples(["C", "I"]) * 2)]
    twice[2]["scores"] = {"match": {"value": "I"}}
    (tmp_path / "twice.json").write_text(json.dumps({"samples": twice}))
    (tmp_path / "once.json").write_text(json.dumps({"samples": inspect_samples(["C", "C"])}))
    comparison = compare_logs([tmp_path / "twice.json", tmp_path / "once.json"])
    assert (comparison.samples, comparison.scores[0].score.estimate) == (2, 0.25)


def test_a_filter_chooses_how_answers_were_read(tmp_path: Path) -> None:
    lines = []
    for name, score in (("strict-match", 0.0), ("flexible-extract", 1.0)):
        for i in range(3):
            line = {"doc_id": i, "filter": name, "metrics": ["exact_match"], "exact_match": score}
            lines.append(json.dumps(line))
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    assert compare_logs(paths).scores[0].score.estimate == 0.0
    comparison = compare_logs(paths, filter_name="flexible-extract")
    assert comparison.scores[0].score.estimate == 1.0
    assert "(flexible-extract)" in comparison.sentences[-1]
    with pytest.raises(DataError, match="has no filter"):
        compare_logs(paths, filter_name="strict")


def test_only_common_samples_of_the_same_texts_are_compared(tmp_path: Path) -> None:
    one = harness_log(tmp_path / "a.jsonl", [1, 0, 1, 1, 0])
    other = harness_log(tmp_path / "b.jsonl", [1, 0, 1])
    comparison = compare_logs([one, other])
    assert (comparison.samples, comparison.left_out) == (3, 2)
    assert "Left out: 2 samples that not all logs have." in comparison.sentences
    another = harness_log(tmp_path / "c.jsonl", [1, 0, 1], doc_hash="another")
    with pytest.raises(DataError, match="another text") as refused:
        compare_logs([one, another])
    assert "3 of 3 samples differ" in refused.value.what


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no sample log"),
        ("[1, 2]", "neither lines"),
        ('{"score": 1}\n{"score": 2}\n', "no doc_id"),
        ('{"doc_id": 1, "metrics": ["acc"], "acc": NaN}', "no scores"),
        ('{"doc_id": 1, "metrics": ["acc"], "acc": 1}\nnot json', "no sample log"),
        ('{"samples": [{"id": 1}]}', "no scores"),
        ('{"samples": [{"scores": {"m": {}}}]}', "no sample log"),
    ],
)
def test_what_is_no_log_is_refused_with_its_name(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    good = harness_log(tmp_path / "good.jsonl", [1, 0])
    with pytest.raises(DataError, match=says) as refused:
        compare_logs([good, tmp_path / "bad.jsonl"])
    assert "bad.jsonl" in str(refused.value) and "log_samples" in str(refused.value)


def test_a_damaged_zip_a_missing_file_and_a_lone_log_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.eval").write_bytes(b"no zip")
    good = harness_log(tmp_path / "good.jsonl", [1, 0])
    with pytest.raises(DataError, match="no sample log"):
        compare_logs([good, tmp_path / "x.eval"])
    with pytest.raises(DataError, match="cannot be read"):
        compare_logs([good, tmp_path / "none.jsonl"])
    with pytest.raises(StudyError, match="cannot be compared"):
        compare_logs([good])
    with pytest.raises(StudyError, match="named twice"):
        compare_logs([good, good])
    with pytest.raises(DataError, match='metric "f1"'):
        compare_logs([good, harness_log(tmp_path / "b.jsonl", [1, 1])], metric="f1")


def test_the_difference_of_many_items_is_the_paired_t_interval() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random(3000), rng.random(3000)
    ours, theirs = paired_difference(a, b), stats.ttest_rel(a, b)
    assert ours.p == pytest.approx(theirs.pvalue, rel=0.02)
    low, high = theirs.confidence_interval()
    assert (ours.low, ours.high) == (pytest.approx(low, rel=0.02), pytest.approx(high, rel=0.02))


def test_the_estimate_items_find_the_difference_in_four_of_five_evaluations() -> None:
    rng = np.random.default_rng(4)

    def draw(n: int) -> tuple[Any, Any]:
        easy = rng.random(n)
        return (easy < 0.75).astype(float), (rng.random(n) < 0.7).astype(float)

    n_items = estimate_items(*draw(5000))
    assert n_items is not None
    decided = [paired_difference(*draw(n_items)).p < 0.05 for _ in range(400)]
    assert np.mean(decided) == pytest.approx(0.8, abs=0.07)


def test_no_difference_is_claimed_of_equal_models_in_one_of_twenty_evaluations() -> None:
    rng = np.random.default_rng(5)
    for n in (8, 60, 500):
        claims = [
            paired_difference(*(rng.random((2, n)) < 0.8).astype(float)).p < 0.05
            for _ in range(400)
        ]
        assert np.mean(claims) < 0.09


def euroeval_log(path: Path, right: list[int], **more: Any) -> Path:
    """As EuroEval writes it with ``--debug``: by the prompt's hash, a row once an iteration."""
    outputs = {
        f"{i:032x}": {
            "index": i % 200,
            "sequence": " Positive.",
            "predicted_label": "positive" if score else "negative",
            "scores": None,
            "bpc_score": None,
            "label": "Positive",
            **more,
        }
        for i, score in enumerate(right)
    }
    path.write_text(json.dumps(outputs, indent=2), encoding="utf-8")
    return path


def test_outputs_of_euroeval_are_paired_by_row_over_its_iterations(tmp_path: Path) -> None:
    high = euroeval_log(tmp_path / "gemma-angry-tweets-model-outputs.json", answers(0.8))
    low = euroeval_log(tmp_path / "opt-angry-tweets-model-outputs.json", answers(0.6, seed=1))
    comparison = compare_logs([high, low])
    assert (comparison.metric, comparison.samples, comparison.left_out) == ("accuracy", 200, 0)
    delta = np.array(answers(0.8)) - np.array(answers(0.6, seed=1))
    assert comparison.pairs[0].difference.estimate == pytest.approx(delta.mean())


@pytest.mark.parametrize(
    ("more", "words"),
    [({"label": {"answers": []}}, "no label that is one word"), ({"label": None}, "no label")],
)
def test_outputs_of_euroeval_without_labels_are_refused(
    tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        compare_logs([euroeval_log(tmp_path / f"{n}.json", [1, 0], **more) for n in "ab"])


def test_outputs_of_euroeval_without_rows_name_the_option(tmp_path: Path) -> None:
    plain = {"0" * 32: {"sequence": "yes", "predicted_label": "yes", "scores": None}}
    (tmp_path / "a.json").write_text(json.dumps(plain), encoding="utf-8")
    high = euroeval_log(tmp_path / "b.json", [1, 0])
    with pytest.raises(DataError, match="only with --debug"):
        compare_logs([tmp_path / "a.json", high])
