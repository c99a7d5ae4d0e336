import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score
from support import fake_records as fake

from paretune.analysis.scores import primary_metric, score


@pytest.mark.parametrize("seed", range(12))
def test_scores_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = int(rng.integers(2, 7))
    label = rng.integers(0, labels, 40)
    # Odd seeds never answer the last label, or answer one that nobody has.
    answer = rng.integers(0, labels - 1 + (seed % 3), 40)
    accuracy = accuracy_score(label, answer)
    macro = f1_score(label, answer, average="macro", zero_division=0)
    assert score(label, answer, "accuracy") == pytest.approx(accuracy, abs=1e-12)
    assert score(label, answer, "macro_f1") == pytest.approx(macro, abs=1e-12)
    assert score(label, answer, "weighted_f1") == pytest.approx(
        f1_score(label, answer, average="weighted", zero_division=0), abs=1e-12
    )
    assert score(label, answer, "accuracy_f1") == pytest.approx((accuracy + macro) / 2, abs=1e-12)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "weighted_f1", "accuracy_f1"])
def test_the_primary_metric_is_found_from_recorded_values(metric: str) -> None:
    raw = {key: value for key, value in fake.own_task("t").items() if key != "metric"}
    study = fake.study(tasks=[raw])
    parts = [fake.answers(0.6, labels=3, seed=seed) for seed in range(3)]
    runs = [fake.make_run(study, "final", "lora", seed) for seed in range(3)]
    records = [
        fake.record(run, result={"scores": {"test": fake.scores(part, metric)}})
        for run, part in zip(runs, parts, strict=True)
    ]
    assert primary_metric(records) == metric


def test_an_unknown_primary_score_is_not_taken_for_another() -> None:
    raw = {key: value for key, value in fake.own_task("t").items() if key != "metric"}
    study = fake.study(tasks=[raw])
    run = fake.make_run(study, "final", "lora", 1)
    found = fake.scores(fake.answers(0.6), "accuracy") | {"primary": 0.123}
    assert primary_metric([fake.record(run, result={"scores": {"test": found}})]) is None
    assert primary_metric([]) is None
