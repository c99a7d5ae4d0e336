"""The sample tasks load, are balanced enough to learn from, and leak nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paretune import plugins, tasks
from paretune.data.audit import audit
from paretune.errors import StudyError
from paretune.study import TaskSpec

SMALLEST = {("spam", "en"): 100}
SAMPLES = [(name, lang) for name in ("routing", "paraphrase", "follows") for lang in ("en", "sl")]


@pytest.mark.parametrize(("name", "language"), [*SAMPLES, ("complaints", "en"), ("spam", "en")])
def test_samples_are_clean(name: str, language: str) -> None:
    data = tasks.load_dataset(TaskSpec(name=name, language=language))
    least = SMALLEST.get((name, language), 150 if language == "en" else 40)
    assert len(data.train) >= least
    assert len(data.test) >= (60 if language == "en" else 20)
    assert {e.label for e in data.train} == set(range(len(data.labels)))
    assert data.licence == "CC0-1.0"
    serious = [str(f) for f in audit(data) if f.severity != "note"]
    assert serious == []


def test_the_sample_translation_is_clean() -> None:
    there = TaskSpec(name="manual", source_lang="sl", target_lang="en")
    data = tasks.load_dataset(there)
    assert (len(data.train), len(data.test), data.licence) == (123, 60, "CC0-1.0")
    assert [str(f) for f in audit(data) if f.severity != "note"] == []
    back = tasks.load_dataset(TaskSpec(name="manual", source_lang="en", target_lang="sl"))
    assert back.test[0].target == data.test[0].segments[0][0]


@pytest.mark.parametrize(
    ("name", "language", "train", "test"),
    [
        ("names", "en", 70, 30),
        ("names", "sl", 36, 18),
        ("tickets", "en", 120, 60),
        ("replies", "en", 60, 30),
    ],
)
def test_samples_of_other_kinds_are_clean(name: str, language: str, train: int, test: int) -> None:
    data = tasks.load_dataset(TaskSpec(name=name, language=language))
    assert (len(data.train), len(data.test), data.licence) == (train, test, "CC0-1.0")
    assert [str(f) for f in audit(data) if f.severity != "note"] == []
    if name == "names":
        assert {tag for e in data.train for tag in str(e.target).split()} == {*data.labels}


def test_tickets_have_none_to_three_labels_and_each_is_learnable() -> None:
    data = tasks.load_dataset(TaskSpec(name="tickets"))
    for part in (data.train, data.test):
        sets = [str(e.label) for e in part]
        assert {s.count("1") for s in sets} == {0, 1, 2, 3}
        assert all(sum(s[i] == "1" for s in sets) >= len(sets) / 6 for i in range(5))


def test_sample_tasks_are_listed_with_those_of_installed_packages() -> None:
    known = tasks.available()
    assert set(known) >= {"boolq", "cb", "copa", "rte", "routing", "paraphrase", "follows"}
    assert "custom" not in known
    as_they_are = ("translation", "token_classification", "multilabel", "preference")
    for name, task in known.items():
        assert task.name == name and task.title
        assert "pair" in task.templates or task.kind in as_they_are
        assert set(task.languages) == set(task.licence) == set(task.source)


def test_without_a_named_language_the_first_is_taken() -> None:
    data = tasks.load_dataset(TaskSpec(name="routing"))
    assert (data.language, data.findings) == ("en", ())


def test_samples_take_no_source_and_have_no_paper_template() -> None:
    with pytest.raises(StudyError, match="takes no source"):
        tasks.load_dataset(TaskSpec(name="routing", language="en", source="."))
    with pytest.raises(StudyError, match='no template "paper"'):
        tasks.load_dataset(TaskSpec(name="routing", language="en", template="paper"))


def test_an_installed_package_may_add_a_task() -> None:
    mine = replace(tasks.get("routing"), name="mine", kind="pair")
    spec = TaskSpec(name="mine")
    with plugins.registered(plugins.TASKS, mine):
        assert tasks.get("mine") is mine and tasks.available()["mine"] is mine
        assert tasks.objective_of(spec).name == "pair"
    with pytest.raises(StudyError, match='no task "mine"'):
        tasks.get("mine")
    assert tasks.objective_of(spec).name == "classification"  # records outlive the package


def test_a_built_in_name_wins() -> None:
    with plugins.registered(plugins.TASKS, replace(tasks.get("routing"), kind="pair")):
        assert tasks.get("routing").kind == "classification"
