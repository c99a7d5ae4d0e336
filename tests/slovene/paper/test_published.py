from dataclasses import replace
from typing import Any

import pytest

from paretune.metrics.classification import WEIGHTED_F1
from paretune_slovene.paper import published
from paretune_slovene.paper.claims import Claim, ClaimComparison, ClaimVerdict, judge, load_claims
from paretune_slovene.paper.published import PublishedRun

CLAIMS = {claim.id: claim for claim in load_claims()}


def run(method: str, right: int | None, task: str = "copa", **values: object) -> PublishedRun:
    """A made-up run: 20 rows, the F1 as high as the share of right answers, 2 GB."""
    f1 = None if right is None else right / 20
    default = PublishedRun(
        task, "sloberta", method, 20, right, f1, 2.0, 8, "400 steps", None, None, ""
    )
    return replace(default, **values)  # type: ignore[arg-type]


def verdict(name: str, *runs: PublishedRun) -> str:
    return published.judge_published(CLAIMS[name], runs).verdict


def three(full: int, others: int, task: str = "cb", **values: object) -> list[PublishedRun]:
    rest = [run(name, others, task) for name in ("prompt", "lora", "loha")]
    return [run("full", full, task, **values), *rest]


def test_a_constant_answer_is_known_by_its_accuracy_and_its_f1() -> None:
    labels = {"a": 5, "b": 3, "c": 2}
    rows = [i for i, count in enumerate(labels.values()) for _ in range(count)]
    for i, (name, (right, f1)) in enumerate(published.score_constant_labels(labels).items()):
        assert right == labels[name]
        assert f1 == WEIGHTED_F1.compute(rows, [i] * 10)
        cut = int(f1 * 1e4) / 1e4  # as printed
        assert published.find_constant_label(right, cut, labels) == name
        assert published.find_constant_label(right, f1 + 0.001, labels) is None
        assert published.find_constant_label(None, f1, labels) is None
    # By hand: of 10 "a" answers 5 are right, so F1 of "a" is 2/3, weighted by a half.
    assert published.score_constant_labels(labels)["a"] == (5, pytest.approx(1 / 3))


@pytest.mark.parametrize(
    ("full", "others", "expected"),
    [
        (19, 6, "holds"),
        (12, 11, "cannot be decided"),
        (6, 19, "does not hold"),
        (11, 12, "does not hold"),  # its own values point the other way than its text
    ],
)
def test_scores(full: int, others: int, expected: str) -> None:
    assert verdict("cb-worse", *three(full, others)) == expected


def test_a_constant_side_says_nothing_of_a_method() -> None:
    assert verdict("cb-worse", *three(19, 6, constant="a")) == "comes from constant answers"
    runs = [run("lora", 12, constant="a"), run("loha", 9)]
    (one,) = published.judge_published(CLAIMS["copa-lora"], runs).compared
    assert (one.standing, one.why) == ("constant", "lora scores as always “a”")


def test_no_less_is_shown_by_the_whole_interval() -> None:
    assert verdict("comparable", *three(6, 19)) == "holds"
    assert verdict("comparable", *three(10, 10)) == "cannot be decided"


def test_memory() -> None:
    assert verdict("resources", *three(9, 9, gb=4.0)) == "holds"
    assert verdict("resources", *three(9, 9, gb=0.5)) == "does not hold"
    assert verdict("resources", *three(9, 9, gb=2.1)) == "cannot be decided"  # the rounding
    assert verdict("resources", *three(9, 9, gb=4.0, batch=1)) == "cannot be decided"
    quarter = [run("full", 9, "boolq", gb=4.0), run("loha", 9, "boolq", gb=1.0)]
    assert verdict("boolq-memory", *quarter) == "holds"
    assert verdict("boolq-memory", quarter[0], replace(quarter[1], gb=2.0)) == "does not hold"
    flawed = replace(quarter[1], flaw="it had no adapter")
    assert verdict("boolq-memory", quarter[0], flawed) == "cannot be decided"
    (one,) = published.judge_published(CLAIMS["boolq-memory"], [quarter[0], flawed]).compared
    assert (one.standing, one.why) == ("unlike", "loha: it had no adapter")


def test_parameters() -> None:
    more = [run("lora", 9, trained=100), run("loha", 9, trained=90)]
    assert verdict("loha-parameters", *more) == "holds"
    assert verdict("loha-parameters", more[0], replace(more[1], trained=200)) == "does not hold"
    assert verdict("loha-parameters", more[0], run("loha", 9)) == "not run"


def test_a_translation_without_texts_cannot_be_compared() -> None:
    runs = [
        run("full", None, "rsdo4", length="1 epoch"),
        run("lora", None, "rsdo4", length="1 epoch"),
        run("loha", None, "rsdo4", length="120 steps"),
    ]
    judgement = published.judge_published(CLAIMS["translation-quality"], runs)
    assert judgement.verdict == "cannot be decided"
    whys = [one.why for one in judgement.compared]
    assert "loha trained for 120 steps, full for 1 epoch" in whys[1] and "epoch" not in whys[0]


def test_a_conclusion_on_other_models_or_on_nothing_was_not_run() -> None:
    assert verdict("rte-lora", run("lora", 9, "rte"), run("full", 9, "rte")) == "not run"
    assert verdict("copa-better") == "not run"


def test_what_would_decide_two_shares() -> None:
    # By hand: (1.960 sqrt(2 0.55 0.45) + 0.842 sqrt(0.25 + 0.24))^2 / 0.01 = 387.3.
    assert published.estimate_examples(0.5, 0.6) == 388
    assert published.estimate_examples(0.6, 0.5) == 388
    assert published.estimate_examples(0.5, 0.5) is None
    runs = [run("lora", 11), run("loha", 9)]
    (one,) = published.judge_published(CLAIMS["copa-lora"], runs).compared
    assert one.examples == published.estimate_examples(11 / 20, 9 / 20) is not None


def cases(share: str, standings: str, together: bool = False) -> ClaimVerdict:
    """Each letter a case: for, against, constant, unclear, absent."""
    names = {"f": "for", "a": "against", "c": "constant", "u": "unclear", "-": "absent"}
    methods: Any = (("a",), ("b",), share)
    claim = Claim("x", "", "", "score", ("t",), *methods, together=together)
    compared: list[Any] = [("t", "m" if together else str(i), "a", "b", names[s])
                           for i, s in enumerate(standings)]  # fmt: skip
    return judge(claim, [ClaimComparison(*of_case) for of_case in compared])


@pytest.mark.parametrize(
    ("share", "standings", "verdict"),
    [
        ("all", "fff", "holds"),
        ("all", "ffu", "cannot be decided"),
        ("all", "ffa", "does not hold"),
        ("all", "fcu", "comes from constant answers"),
        ("all", "fca", "does not hold"),
        ("most", "ffa", "holds"),
        ("most", "fau", "cannot be decided"),
        ("most", "aau", "does not hold"),
        ("most", "fcc", "comes from constant answers"),
        ("most", "fuc", "cannot be decided"),
        ("all", "ff-", "holds"),
        ("all", "--", "not run"),
        ("all", "", "not run"),
    ],
)
def test_the_rule(share: str, standings: str, verdict: str) -> None:
    assert cases(share, standings).verdict == verdict


def test_comparisons_that_belong_together_are_one_case() -> None:
    assert cases("most", "fffa", together=True).verdict == "does not hold"
    assert cases("most", "fffa").verdict == "holds"
    assert cases("all", "ff", together=True).total == 1
