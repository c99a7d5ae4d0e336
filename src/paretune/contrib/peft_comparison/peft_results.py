"""``peft-results``: our statistics laid over the result files of peft's method_comparison."""

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
    """Every experiment with its interval beside the best, and what follows in sentences."""

    standings: tuple[ExperimentStanding, ...]
    sentences: tuple[str, ...]
    table: Table


def peft_results(folder: Path | str, examples: int | None = None) -> PeftResults:
    """Read a folder of result files and say which experiments cannot be told apart from the best.

    Args:
        folder: holds one JSON for each experiment.
        examples: number of test examples that each accuracy is a share of; no file says it.

    Raises:
        DataError: no result files, one that is none, or accuracies that ``examples`` cannot give.
        StudyError: ``examples`` is not given, or under 1.
    """
    from paretune.contrib.peft_comparison import experiment_table
    from paretune.contrib.peft_comparison.result_files import read_experiments

    found = read_experiments(Path(folder))
    shares = any(one.accuracy is not None for one in found)
    if examples is None and not shares:
        examples = 1  # nothing here is a share of anything
    if examples is None or examples < 1:
        said = experiment_table.suggest_example_count(found)
        raise StudyError(
            "the files do not say of how many test examples an accuracy is, and an interval needs "
            "that.",
            where=str(folder),
            remedy=f"Give it with --examples N. {said}".rstrip(),
        )
    placed = experiment_table.rank_experiments(found, examples)
    return PeftResults(
        placed, experiment_table.write_sentences(placed), experiment_table.build_table(placed)
    )
