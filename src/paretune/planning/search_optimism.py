"""How well a selection part tells combinations of a search apart, said before anything trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from paretune.autopeft.surrogate import expected_optimism
from paretune.data.split import labelled_rows
from paretune.methods import auto
from paretune.planning.prepare import PreparedStudy
from paretune.study import Run
from paretune.study.protocol import NUM_FOLDS
from paretune.study.run import is_trial

SEED_DEVIATION = 0.02
"""Of a score between 0 and 1, where no runs tell it."""
TELLS_APART = 0.03
"""A selection part on which equal configurations differ by more than this tells few apart."""


def describe_searches(prepared: PreparedStudy, runs: Sequence[Run]) -> Iterator[str]:
    """For each task of a study with searches, how well its selection part tells trials apart.

    The optimism is that of equal configurations of which 80 % of the answers are right. Without
    results it is not known how many there will be: at least as many as the budget has trainings.

    Args:
        runs: that are planned.
    """
    study = prepared.study
    searched = [m for m in study.all_methods if m.found_by_search]
    if not searched:
        return
    budget = max(float(m.options.get("budget", auto.Options.budget)) for m in searched)
    for task in study.tasks:
        own = [run for run in runs if is_trial(run) and run.task.key == task.key]
        planned = len({(run.method.key, run.learning_rate) for run in own})
        dataset = prepared.datasets[task.key]
        rows = len(dataset.train)
        crossed = next((run.outer for run in own if run.outer is not None), None)
        if crossed is not None:
            rows = len(labelled_rows(dataset)) * (crossed.folds - 1) // crossed.folds
        rows = max(1, rows // NUM_FOLDS)
        count = max(planned, round(budget * study.protocol.trials))
        variance = 0.8 * 0.2 / rows + SEED_DEVIATION**2
        optimism = expected_optimism(count, variance)
        few = optimism > TELLS_APART
        yield (
            f"{task.key}: a score of a trial has a standard error of {100 * variance**0.5:.1f} "
            f"points ({rows} selection rows). Of {count} equal combinations the best would seem "
            f"{100 * optimism:.1f} points too good"
            f"{'; a search can hardly tell combinations apart here' if few else ''}. What it "
            "finds is judged by fresh seeds on the test."
        )
        if not own and task == study.tasks[0] and study.limits.by_axis:
            yield "Trials follow when LoRA has been measured, by which the limits are checked."
