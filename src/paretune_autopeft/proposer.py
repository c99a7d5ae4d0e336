"""Answers the core about ``auto``: the rows that enter beside it, its runs, and records of trials.

This module and the tables of the report need no model library; modules that do are imported when
runs are planned or trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paretune.study import MethodSpec, Run
from paretune.study.specs import Proposer
from paretune_autopeft import NAME, TITLE

if TYPE_CHECKING:
    from paretune.models.load import LoadedModel
    from paretune.planning.prepare import PlannedRun, PreparedCell, PreparedStudy
    from paretune.store import Record

RANDOM, TUNED = "random", "tuned-lora"
"""The keys of a search's controls are its own key with one of these appended."""


def list_search_rows(search: MethodSpec) -> Iterator[MethodSpec]:
    """The rows that a search brings.

    A search that is better than nothing but itself shows nothing. So beside the one combination
    that its row names stand the best of random configurations, which took as many trainings, and
    LoRA whose rank and rate took as many; and where ``finalists`` asks for it, further
    configurations of its front.
    """
    options = search.options_of_runs
    finalists = search.options.get("finalists", 1)
    if isinstance(finalists, int):  # what it must be, planning says
        for place in range(2, min(finalists, 3) + 1):
            yield _make_row(search, str(place), {**options, "finalist": place})
    is_control = options.get("sampler") == "random" or options.get("members") in (
        ["lora"],
        ("lora",),
    )
    if search.options.get("controls", True) is not True or is_control or "finalist" in options:
        return
    yield _make_row(search, RANDOM, {**options, "sampler": "random"})
    yield _make_row(search, TUNED, {**options, "members": ["lora"], "groups": 1, "pick": "best"})


def _make_row(search: MethodSpec, suffix: str, options: dict[str, object]) -> MethodSpec:
    values = {"name": search.name, "label": f"{search.key}-{suffix}", "readout": search.readout}
    return MethodSpec.model_validate({**values, **options})


def _propose(
    prepared: PreparedStudy, cells: Sequence[PreparedCell], ended: Mapping[str, Record]
) -> Iterable[list[PlannedRun]]:
    from paretune_autopeft.search import plan_searches

    return plan_searches(prepared, cells, ended)


def _measure_trial(run: Run, loaded: LoadedModel, gradients: Mapping[str, float]) -> dict[str, Any]:
    from paretune_autopeft.trials import measure_trial

    return measure_trial(run, loaded, gradients)


def _describe(prepared: PreparedStudy, runs: Sequence[Run]) -> Iterable[str]:
    from paretune_autopeft.search import describe_searches

    return describe_searches(prepared, runs)


PROPOSER = Proposer(
    name=NAME,
    title=TITLE,
    completes="methods",
    not_of_runs=("finalists", "controls"),
    list_rows=list_search_rows,
    propose=_propose,
    measure_trial=_measure_trial,
    describe=_describe,
)
