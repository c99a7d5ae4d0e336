"""A stream of candidates keeps its error budget; a gate passes, fails or says that it cannot."""

from __future__ import annotations

import csv
import json
import shlex
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML
from scipy import special
from support.tiny_study import command

import paretune
from paretune.analysis.statistics.differences import Estimate
from paretune.analysis.statistics.sample_size import estimate_sample_size
from paretune.analysis.statistics.scores import score_means
from paretune.errors import ANSWER_NO, ANSWER_OPEN, DataError, StoreError, StudyError
from paretune.judging.ledger import LOOKS, Look, level_of_look, open_ledger
from paretune.store.record import Predictions
from paretune.verbs.judge import DecisionResult

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / "examples" / "ci" / "gate.yml"
Rows = list[dict[str, Any]]


def answer(method: str, lead: float, *seeds: int, n: int = 200, draw: int = 0) -> Rows:
    """Answers of runs: rows differ in difficulty, runs as wholes, and single answers by chance."""
    easy = np.random.default_rng(5).normal(0.8, 1, n)
    rows = []
    for seed in seeds:
        rng = np.random.default_rng([draw, seed, *method.encode()])
        right = easy + lead + rng.normal(0, 0.05) + rng.normal(0, 0.5, n) > 0
        rows += [
            {
                "method": method,
                "seed": seed,
                "id": f"row-{i}",
                "label": "ab"[i % 2],
                "prediction": "ab"[i % 2] if right[i] else "ba"[i % 2],
            }
            for i in range(n)
        ]
    return rows


CHAMPION = answer("champion", 0, 1, 2, 3, 4, 5, 6)


def write(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def decide(tmp_path: Path, candidate: Rows, **options: Any) -> DecisionResult:
    path = write(tmp_path / "rows.csv", [*CHAMPION, *candidate])
    name = candidate[0]["method"]
    result = paretune.judge(path, champion="champion", candidate=name, **options)
    assert isinstance(result, DecisionResult)
    return result


def test_better_is_kept_hopeless_is_dropped_and_the_rest_needs_seeds(tmp_path: Path) -> None:
    better = decide(tmp_path, answer("better", 0.8, 1, 2))
    assert (better.answer, better.exit_code) == ("keep", 0)
    assert str(better).startswith("Keep better: it is better, +")
    assert better.decision.p is not None and better.decision.p <= better.decision.level
    # One run is never kept, and may be hopeless.
    alone = decide(tmp_path, answer("alone", 0.8, 1))
    assert (alone.answer, alone.exit_code) == ("two more seeds", ANSWER_OPEN)
    assert "of alone there are too few runs" in str(alone)
    worse = decide(tmp_path, answer("worse", -1, 1))
    assert (worse.answer, worse.exit_code) == ("drop", ANSWER_NO)
    assert "points worse than champion" in str(worse)
    equal = answer("equal", 0, 1, 2, 3, 4)
    assert decide(tmp_path, equal).answer == "two more seeds"
    # It may be better, but not by as much as is worth having.
    assert decide(tmp_path, equal, gain=9).answer == "drop"
    assert decide(tmp_path, answer("better", 0.8, 1, 2), gain=50).answer == "drop"
    dead = [{**row, "prediction": "a"} for row in answer("dead", 0, 2)]
    half_dead = decide(tmp_path, [*answer("dead", 2, 1), *dead])
    assert half_dead.answer == "drop" and "1 of 2 runs failed" in str(half_dead)


def test_looks_at_a_candidate_share_its_level(tmp_path: Path) -> None:
    ledger = tmp_path / "stream.json"
    first = decide(tmp_path, answer("same", 0, 1, 2), ledger=ledger).decision
    assert (first.number, first.look) == (1, 1)
    assert first.level == level_of_look(1)
    # The same runs again are the same look, in whatever order their rows are.
    assert decide(tmp_path, answer("same", 0, 2, 1), ledger=ledger).decision == first
    other = decide(tmp_path, answer("other", 0, 1), ledger=ledger).decision
    assert (other.number, other.look) == (None, None)  # one run could not be kept: nothing is spent
    other = decide(tmp_path, answer("other", 0.1, 1, 2), ledger=ledger).decision
    assert (other.number, other.look) == (2, 1) and other.level < first.level
    second = decide(tmp_path, answer("same", 0, 1, 2, 3, 4), ledger=ledger).decision
    assert (second.number, second.look, second.level) == (1, 2, first.level)
    with pytest.raises(DataError, match="same lacks a run of an earlier look, seed 3"):
        decide(tmp_path, answer("same", 0, 1, 2, 5, 6), ledger=ledger)
    last = decide(tmp_path, answer("same", 0, *range(1, 7)), ledger=ledger)
    assert last.answer == "drop" and "at the last of 3 looks" in str(last)
    beyond = decide(tmp_path, answer("same", 0, *range(1, 9)), ledger=ledger)
    assert beyond.answer == "drop" and "has had its 3 looks" in str(beyond)
    stored = json.loads(ledger.read_text(encoding="utf-8"))
    assert [look["candidate"] for look in stored["looks"]] == ["same", "other", "same", "same"]
    assert stored["spent"] == pytest.approx(3 * first.level + other.level)


def test_levels_of_all_candidates_are_five_percent() -> None:
    levels = [LOOKS * level_of_look(number) for number in range(1, 20_001)]
    rest = 0.05 / special.zeta(1.25) * 4 * 20_000.5**-0.25  # of the integral behind them
    assert sum(levels) < 0.05 and sum(levels) + rest == pytest.approx(0.05, rel=1e-4)


def test_those_who_judge_at_once_have_numbers_of_their_own(tmp_path: Path) -> None:
    numbers = []

    def take_turn(name: str) -> None:
        with open_ledger(tmp_path / "stream.json") as ledger:
            numbers.append(ledger.number("champion", name))
            ledger.enter(
                Look(
                    champion="champion",
                    candidate=name,
                    champion_runs=["1", "2"],
                    candidate_runs=["1", "2"],
                    p=0.5,
                    level=0.01,
                )
            )

    threads = [threading.Thread(target=take_turn, args=(f"idea {i}",)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [*range(1, 13)]


@pytest.mark.parametrize("runs", [(2, 2), (6, 2), (6, 6)])
def test_the_simulation_computes_what_the_package_computes(
    runs: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "bench")
    from candidates import compute_p_values, draw_answers, draw_difficulties

    rng = np.random.default_rng(4)
    easy = draw_difficulties(60, rng)
    champion = draw_answers(runs[:1], easy, 0.2, rng)
    candidates = draw_answers((3, runs[1]), easy, 0.2, rng)
    expected = compute_p_values(champion, candidates)["candidates"]
    for candidate, p in zip(candidates, expected, strict=True):
        rows = [
            {"method": method, "seed": seed, "id": i, "score": int(right)}
            for method, answers in (("old", champion), ("new", candidate))
            for seed, run in enumerate(answers)
            for i, right in enumerate(run)
        ]
        path = write(tmp_path / "rows.csv", rows)
        result = paretune.judge(path, champion="old", candidate="new")
        assert isinstance(result, DecisionResult)
        assert result.decision.p == pytest.approx(p, rel=1e-6)


def test_streams_of_equal_candidates_keep_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 5 % of streams, of 200 candidates each, keep one; usual rules keep one in most."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    from candidates import run_streams

    streams = 200
    for champion_runs, run_sd in ((2, 0.1), (6, 0.1), (6, 0.3)):
        rng = np.random.default_rng(1)
        kept = run_streams(streams, 100, champion_runs, run_sd, rng)
        print({rule: f"{100 * share:.1f} %" for rule, share in kept.items()})
        tolerance = 3 * (0.05 * 0.95 / streams) ** 0.5  # three standard errors of a share of 5 %
        assert kept["paretune"] <= 0.05 + tolerance
        assert kept["better mean of two seeds"] > 0.9 and kept["p < 0.05"] > 0.3


def test_p_values_hold_at_small_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where those of reports come up too often: with two seeds a side."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    from candidates import LEVELS, calibrate

    for runs in ((2, 2), (6, 2)):
        ratios = calibrate(100, 100, 0.1, runs, 1, seed=2)
        # Three standard errors of 20,000 p-values, of which those of a stream depend.
        tolerance = 3 * (np.array(LEVELS) * 20_000 / 4) ** -0.5
        assert (ratios["candidates"] <= 1 + tolerance).all(), ratios
        assert ratios["reports"][-1] > 3


def test_a_gate_passes_fails_or_is_open(tmp_path: Path) -> None:
    better = decide(tmp_path, answer("new", 0.3, 1, 2, 3, 4), not_worse_than=1)
    assert (better.answer, better.exit_code) == ("passes", 0)
    worse = decide(tmp_path, answer("new", -0.8, 1, 2, 3, 4), not_worse_than=1)
    assert (worse.answer, worse.exit_code) == ("fails", ANSWER_NO)
    equal = decide(tmp_path, answer("new", 0, 1, 2), not_worse_than=0)
    assert (equal.answer, equal.exit_code) == ("undecided", ANSWER_OPEN)
    assert decide(tmp_path, answer("new", 0, 1, 2), not_worse_than=30).answer == "passes"
    # Several runs of one side alone do not make its difference one of methods.
    one = decide(tmp_path, answer("new", 0.3, 1), not_worse_than=1)
    assert one.answer == "undecided" and "of new there are too few runs" in str(one)


def test_one_run_each_is_about_these_very_models(tmp_path: Path) -> None:
    rows = [*answer("old", 0, 1), *answer("new", 0.4, 1)]
    path = write(tmp_path / "rows.csv", rows)
    result = paretune.judge(path, champion="old", candidate="new", not_worse_than=1)
    assert result.answer == "passes" and "about these very models" in str(result)
    kept = paretune.judge(path, champion="old", candidate="new")
    assert kept.answer == "two more seeds" and "of old and new there are too few" in str(kept)


def test_flips_are_those_of_the_majority_of_runs(tmp_path: Path) -> None:
    right = {"old": ["110100", "110110", "100101"], "new": ["011100", "010110", "011100"]}
    rows = [
        {"method": method, "seed": seed, "id": f"<{i}>|`", "score": int(mark)}
        for method, runs in right.items()
        for seed, marks in enumerate(runs)
        for i, mark in enumerate(marks)
    ]
    path = write(tmp_path / "rows.csv", rows)
    markdown = tmp_path / "summary.md"
    result = paretune.judge(
        path, champion="old", candidate="new", not_worse_than=1, markdown=markdown
    )
    assert result.decision.losses == ("<0>|`",) and result.decision.gains == ("<2>|`",)
    text = markdown.read_text(encoding="utf-8")
    assert "- `` <0>|` ``" in text and text.startswith("### new: undecided\n")
    assert text.count("<details>") == text.count("</details>") == 2
    numbers = [row | {"score": 0.25 + row["score"] / 2} for row in rows]
    path = write(tmp_path / "rows.csv", numbers)
    result = paretune.judge(path, champion="old", candidate="new", not_worse_than=1)
    assert result.decision.losses is None and "alone has right" not in str(result)


def test_what_draws_nothing_needs_one_run(tmp_path: Path) -> None:
    rows = [*answer("tfidf", 0, 1), *answer("majority", -1, 1), *answer("new", 0.8, *range(1, 7))]
    path = write(tmp_path / "rows.csv", rows)
    assert paretune.judge(path, champion="tfidf", candidate="new").answer == "keep"
    assert paretune.judge(path, champion="tfidf", candidate="majority").answer == "drop"
    assert paretune.judge(path, champion="majority", candidate="tfidf").answer == "keep"


def test_folds_are_compared_by_their_own_rule(tmp_path: Path) -> None:
    rows = []
    for method, lead in (("champion", 0.0), ("better", 0.8)):
        for repeat in (0, 1):
            whole = answer(method, lead, repeat)
            rows += [row | {"fold": i % 5} for i, row in enumerate(whole)]
    path = write(tmp_path / "rows.csv", rows)
    kept = paretune.judge(path, champion="champion", candidate="better")
    assert kept.answer == "keep" and kept.decision.runs == (10, 10)
    gate = paretune.judge(path, champion="champion", candidate="better", not_worse_than=1)
    assert gate.answer == "passes"


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    new = answer("new", 0, 1, 2)
    path = write(tmp_path / "rows.csv", [*CHAMPION, *new])
    for options, sentence in (
        ({"champion": "champion"}, "champion=: a decision needs champion= and candidate="),
        ({"not_worse_than": 1.0}, "not_worse_than=: a decision needs champion="),
        ({"champion": "champion", "candidate": "champion"}, "cannot be its own candidate"),
        ({"champion": "champion", "candidate": "nobody"}, 'has no method "nobody"'),
        (
            {"champion": "champion", "candidate": "new", "gain": 1.0, "not_worse_than": 1.0},
            "gain=: is not used with not_worse_than=",
        ),
    ):
        with pytest.raises(StudyError, match=sentence):
            paretune.judge(path, **options)
    (tmp_path / "torn.json").write_text('{"format": 1, "comparisons": [{', encoding="utf-8")
    with pytest.raises(DataError, match=r"torn.json: is no ledger"):
        decide(tmp_path, new, ledger=tmp_path / "torn.json")
    with pytest.raises(StoreError, match=r"folder cannot be locked"):
        decide(tmp_path, new, ledger=tmp_path / "torn.json" / "stream.json")
    tasks = [row | {"task": task} for task in "ab" for row in [*CHAMPION, *new]]
    with pytest.raises(DataError, match="have rows of several tasks"):
        paretune.judge(write(path, tasks), champion="champion", candidate="new")
    with pytest.raises(DataError, match=r"rows\.csv line 2: has no method"):
        paretune.judge(
            write(path, [{**new[0], "method": ""}, *new, *CHAMPION]),
            champion="champion",
            candidate="new",
        )
    nameless = [{**row, "method": "", "by": "x"} for row in new]
    with pytest.raises(DataError, match="has no method"):
        paretune.judge(write(path, nameless), champion="champion", candidate="new")
    # What another idea of the night lacks does not matter.
    rows = [*CHAMPION, *new, *answer("torn", 0, 1)[:7]]
    assert paretune.judge(write(path, rows), champion="champion", candidate="new").answer


def test_columns_that_are_not_used_are_named(tmp_path: Path) -> None:
    rows = [row | {"score": 0.9, "note": "x"} for row in [*CHAMPION, *answer("new", 0, 1, 2)]]
    path = write(tmp_path / "rows.csv", rows)
    what = "the rows have columns that are not used: score, note."
    assert what in [finding.what for finding in paretune.judge(path).findings]
    decision = paretune.judge(path, champion="champion", candidate="new").decision
    assert decision.notes == (f"rows.csv: {what}",)


def test_a_decision_on_the_command_line(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path / "rows.csv", [*CHAMPION, *answer("worse", -1, 1, 2)])
    words = ["judge", path, "--champion", "champion", "--candidate", "worse"]
    code, out, err = command(capsys, *words)
    assert code == ANSWER_NO and out.startswith("Drop worse: ") and err == ""
    assert len(out.splitlines()) == 1
    code, out, err = command(capsys, *words, "--json", "--page", tmp_path / "page.html")
    value = json.loads(out)
    assert code == ANSWER_NO and value["answer"] == "drop" and value["verb"] == "judge"
    assert value["sentence"].startswith("Drop worse: ") and err == ""
    assert "worse" in (tmp_path / "page.html").read_text(encoding="utf-8")
    gate = [*words, "--not-worse-than", "1"]
    brief, full = (command(capsys, *gate, *more)[1] for more in ([], ["--details"]))
    assert brief.startswith("worse fails: it is at least ")
    assert full.startswith("### worse: fails\n")
    ids = json.loads(command(capsys, *gate, "--json")[1])["losses"]
    assert f"{len(ids)} examples that champion alone has right, not worse: row-" in brief
    assert f"and {len(ids) - 10} more." in brief and all(f"- `{uid}`\n" in full for uid in ids)
    assert len(command(capsys, *gate, "--quiet")[1].splitlines()) == 1
    code, _, err = command(capsys, *gate, "--output", "page.html")
    assert code == 2 and "a decision is no page" in err


@pytest.mark.parametrize(("lead", "expected"), [(0.5, 0), (-0.8, ANSWER_NO)])
def test_the_workflow_runs(
    lead: float, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    steps = YAML(typ="safe").load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["gate"]["steps"]
    runs = [step["run"] for step in steps if "run" in step]
    (judged,) = [run for run in runs if run.startswith("paretune judge")]
    words = shlex.split(judged)
    monkeypatch.chdir(tmp_path)
    Path("predictions").mkdir()
    write(Path("predictions/production.csv"), answer("production", 0, 1, 2, 3))
    write(Path("predictions/candidate.csv"), answer("candidate", lead, 1, 2, 3))
    code, _, err = command(capsys, *words[1:])
    assert (code, err) == (expected, "")
    summary = words[words.index("--markdown") + 1]
    assert Path(summary).read_text(encoding="utf-8").startswith("### candidate: ")
    assert all(summary in run for run in runs[runs.index(judged) + 1 :])


def test_one_independent_row_has_no_freedom() -> None:
    part = Predictions(("a", "b"), (0, 0), (0, 0), ((), ()), cluster=(1, 1))
    side = score_means([part, part], [np.array([0.2, 0.4]), np.array([0.4, 0.4])])
    estimate = Estimate(0.1, 0.02, ((0.01, 0.0), (0.01, 1.0)))
    assert estimate.freedom == 0.0 and estimate.p_value() == 1.0
    assert estimate.half_width(0.05) == estimate.weighted_half_width(0.05) == float("inf")
    size = estimate_sample_size(estimate, side, side)
    assert (size.low, size.high) == (None, None)
