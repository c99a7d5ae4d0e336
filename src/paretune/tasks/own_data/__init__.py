"""The user's own data: how rows of files or of a hub dataset become examples.

Which reader a task needs is a fact of its objective (:attr:`Objective.reader`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from paretune import objectives
from paretune.data.example import Dataset
from paretune.study import TaskSpec
from paretune.tasks.own_data.instructions import load_instructions
from paretune.tasks.own_data.labelled import load_labelled, read_choices, read_labels, read_numbers
from paretune.tasks.own_data.parallel import load_own_pairs

READERS: dict[str, Callable[[TaskSpec], Dataset]] = {
    "labels": partial(load_labelled, read_targets=read_labels),
    "choices": partial(load_labelled, read_targets=read_choices),
    "numbers": partial(load_labelled, read_targets=read_numbers),
    "parallel": load_own_pairs,
    "instructions": load_instructions,
}


def load_own_data(spec: TaskSpec) -> Dataset:
    """Read the user's data and build its examples.

    Raises:
        StudyError: the study asks for a template that own data cannot have.
        DataError: unreadable files, a hub dataset that was never fetched, missing columns, rows
            that cannot become examples; all such rows are named at once.
    """
    return READERS[objectives.get(str(spec.kind)).reader](spec)
