"""The contract of a :class:`~paretune.data.task.Task`, as tests."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import permutations
from pathlib import Path
from typing import ClassVar

import pytest

from paretune import metrics, objectives, plugins, tasks
from paretune.data.example import Dataset
from paretune.data.task import Task
from paretune.objectives import Objective
from paretune.study import TaskSpec


class TaskContract:
    """Tests of every task. Subclass it as ``Test...`` and set ``task``.

    Its rows are read as a study reads them, from ``data_home``, a folder of the test; a task whose
    files have to be fetched overrides :meth:`provide_data` and writes a few rows there.
    """

    task: ClassVar[Task]

    def provide_data(self, data_home: Path) -> None:
        """Write what ``read_rows`` reads into a folder; nothing where it needs no files."""

    def specs(self) -> list[TaskSpec]:
        """The task as studies may name it: in each language, by each template and split."""
        task = self.task
        variants: list[dict[str, str]] = [
            {"language": language, "template": template}
            for language in task.languages
            for template in task.templates
        ]
        if self.objective.between_languages:
            variants = [
                {"source_lang": a, "target_lang": b} for a, b in permutations(task.languages, 2)
            ]
        return [
            TaskSpec.model_validate({"name": task.name, "split": split, **variant})
            for variant in variants
            for split in task.splits
        ]

    @property
    def objective(self) -> Objective:
        """The objective of its kind."""
        return objectives.get(self.task.kind)

    @pytest.fixture
    def datasets(self, tmp_path: Path) -> list[Dataset]:
        """The data of all :meth:`specs`."""
        self.provide_data(tmp_path)
        return self.load(tmp_path)

    def load(self, data_home: Path) -> list[Dataset]:
        """The data of all :meth:`specs`, as a study reads them."""
        installed = self.task.name in tasks.names()
        with nullcontext() if installed else plugins.registered(plugins.TASKS, self.task):
            return [tasks.load_dataset(spec, data_home) for spec in self.specs()]

    def test_what_it_names_exists_and_fits(self) -> None:
        task = self.task
        assert task.name.isidentifier() and task.title
        assert self.objective.accepts(metrics.get(task.metric))
        assert len(set(task.labels)) == len(task.labels)
        assert set(task.aliases.values()) <= set(task.labels)
        assert bool(task.templates) or self.objective.between_languages

    def test_every_language_has_a_licence_and_a_source(self) -> None:
        assert self.task.languages
        for language in self.task.languages:
            assert self.task.licence[language] and self.task.source[language]

    def test_every_template_says_how_a_row_becomes_texts(self) -> None:
        for name, template in self.task.templates.items():
            assert template.__doc__, f"template {name} has no docstring, which exports show"

    def test_both_parts_have_examples_with_texts_and_references(
        self, datasets: list[Dataset]
    ) -> None:
        for dataset in datasets:
            assert dataset.train and dataset.test
            for example in (*dataset.train, *dataset.test):
                assert all(first.strip() for first, _ in example.segments)
                assert self.objective.reference(example) is not None

    def test_every_label_is_in_train(self, datasets: list[Dataset]) -> None:
        if not self.objective.predicts_labels:
            pytest.skip("its answers are no labels")
        for dataset in datasets:
            labels = set(range(len(dataset.labels)))
            assert {example.label for example in dataset.train} == labels
            assert {example.label for example in dataset.test} <= labels

    def test_examples_have_names_of_their_own(self, datasets: list[Dataset]) -> None:
        for dataset in datasets:
            uids = [example.uid for example in (*dataset.train, *dataset.test)]
            assert len(set(uids)) == len(uids)

    def test_no_group_is_in_both_parts(self, datasets: list[Dataset]) -> None:
        for dataset in datasets:
            if dataset.clustered:
                groups = [
                    {example.group for example in part} for part in (dataset.train, dataset.test)
                ]
                assert not groups[0] & groups[1]

    def test_reading_it_again_gives_the_same(self, datasets: list[Dataset], tmp_path: Path) -> None:
        for first, second in zip(datasets, self.load(tmp_path), strict=True):
            assert (first.train, first.test) == (second.train, second.test)
