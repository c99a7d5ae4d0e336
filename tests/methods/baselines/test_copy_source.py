"""The source as its own translation."""

from __future__ import annotations

from paretune import methods, objectives
from paretune.data.example import Example
from paretune.methods.baselines import copy_source
from paretune.methods.core.options import MethodOptions


def example(source: str, target: str) -> Example:
    return Example(source, ((source, None),), None, "train.tsv line 1", target=target)


def test_it_answers_with_the_sources_as_they_are() -> None:
    examples = [example(" Ime: Ana ", "Name: Ana"), example("12 %", "12%")]
    answer = copy_source.fit(examples, 0, MethodOptions(), seed=1)
    assert answer(examples) == [" Ime: Ana ", "12 %"]
    assert answer([]) == []


def test_it_serves_translations_alone_and_needs_no_model() -> None:
    method = methods.get("copy_source")
    assert isinstance(method, methods.Baseline)
    assert methods.refusal(method, objectives.get("translation"), tabular=False) == ""
    assert "not classification" in methods.refusal(
        method, objectives.get("classification"), tabular=False
    )
