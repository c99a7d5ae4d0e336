"""A report says where its intervals may hold less than they promise, and only there."""

from support import fake_records as fake

from paretune.reporting.build import build_report
from paretune.store.record import Record
from paretune.study import Study


def join_notes(study: Study, records: list[Record]) -> str:
    return " ".join(build_report(study, records).notes)


def ended(study: Study, seeds: int, n: int) -> list[Record]:
    runs = [fake.make_run(study, "final", "full", seed) for seed in range(seeds)]
    return [fake.record(run, {"test": fake.answers(0.7, n=n, seed=run.seed)}) for run in runs]


def test_few_seeds_and_few_examples_are_told() -> None:
    study = fake.study()
    two = join_notes(study, ended(study, 2, 60))
    assert "Intervals over 2 seeds cover the true score in at least 93 %" in two
    assert "only one kind" in two and "one run" not in two
    one = join_notes(study, ended(study, 1, 60))
    assert "one run on 60 examples" in one and "only one kind" not in one


def test_many_seeds_or_examples_need_no_word() -> None:
    study = fake.study()
    assert "cover the true score" not in join_notes(study, ended(study, 10, 60))
    assert "one run" not in join_notes(study, ended(study, 1, 100))
