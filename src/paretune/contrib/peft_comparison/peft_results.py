"""``peft-results``: intervals and tests for the result files of peft's method_comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.errors import StudyError

if TYPE_CHECKING:
    from paretune.contrib.peft_comparison.experiment_table import ExperimentStanding
    from paretune.reporting.tables.study_tables import Table


@dataclass(frozen=True)
class PeftResults:
    """Every experiment compared with the best of its model, and the conclusions."""

    standings: tuple[ExperimentStanding, ...]
    sentences: tuple[str, ...]
    table: Table


def peft_results(folder: Path | str, examples: int | None = None) -> PeftResults:
    """Read a folder of result files and find which experiments are clearly below the best.

    Args:
        folder: holds one JSON for each experiment.
        examples: number of test examples behind each accuracy; the files do not contain it.

    Raises:
        DataError: there are no result files, one is something else, or ``examples`` cannot give an
            accuracy.
        StudyError: ``examples`` is missing, or under 1.
    """
    from paretune.contrib.peft_comparison import experiment_table
    from paretune.contrib.peft_comparison.result_files import read_experiments

    experiments = read_experiments(Path(folder))
    if examples is None and all(experiment.accuracy is None for experiment in experiments):
        examples = 1  # there is no accuracy to which it could apply
    if examples is None or examples < 1:
        suggestion = experiment_table.suggest_example_count(experiments)
        raise StudyError(
            "the files do not say of how many test examples an accuracy is, and an interval needs "
            "that.",
            where=str(folder),
            remedy=f"Give it with --examples N. {suggestion}".rstrip(),
        )
    standings = experiment_table.rank_experiments(experiments, examples)
    table = experiment_table.build_table(standings)
    return PeftResults(standings, table.notes, table)
