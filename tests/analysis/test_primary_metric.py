"""The primary metric, found from what records hold."""

import pytest
from support import fake_records as fake

from paretune.analysis.learning_rates import find_primary_metric


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
    assert find_primary_metric(records) == metric


def test_an_unknown_primary_score_is_not_taken_for_another() -> None:
    raw = {key: value for key, value in fake.own_task("t").items() if key != "metric"}
    study = fake.study(tasks=[raw])
    run = fake.make_run(study, "final", "lora", 1)
    scores = fake.scores(fake.answers(0.6), "accuracy") | {"primary": 0.123}
    assert find_primary_metric([fake.record(run, result={"scores": {"test": scores}})]) is None
    assert find_primary_metric([]) is None
