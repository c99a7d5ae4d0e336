"""Protocol presets: the value behind ``protocol.preset`` of a study file. No torch.

:mod:`paretune.planning.expand` plans ``passes`` and ``trials``. Any other preset fixes the settings
of every run itself; it is found by its entry point in the group ``paretune.protocols``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from paretune import plugins
from paretune.errors import StudyError
from paretune.study.run import Run
from paretune.study.study import Study

PROTOCOLS = "paretune.protocols"
"""The group of entry points."""
BUILT_IN = ("passes", "trials")
"""Presets whose runs planning decides."""
JUDGED: Literal["judged"] = "judged"
"""The preset of runs that were trained elsewhere."""


@dataclass(frozen=True)
class Preset:
    """A preset that sets all runs of a study with settings of its source.

    Attributes:
        name: the value of ``protocol.preset``.
        expand: returns all runs for the tasks, models and methods of a study, in the order to run
            them. It raises StudyError where the study names something that the preset does not
            have, or sets what the preset fixes.
        departures: sentences for the report on where the preset departs from what it reproduces.
        description: how its scores are obtained, in a sentence or two.
        final_runs: number of final runs of each task, model and method; None means one for each
            seed of the study.
        protocol_keys: keys of the study's ``protocol`` that the preset reads.
    """

    name: str
    expand: Callable[[Study], list[Run]]
    departures: Callable[[], tuple[str, ...]]
    description: str
    final_runs: int | None = None
    protocol_keys: tuple[str, ...] = ("preset",)


def load_preset(name: str) -> Preset | None:
    """Return the preset of this name; None for a built-in one.

    Raises:
        StudyError: no installed package has the preset.
        PluginError: the preset cannot be loaded.
    """
    if name in BUILT_IN:
        return None
    if name == JUDGED:
        return Preset(
            name=JUDGED,
            expand=refuse_training,
            departures=lambda: (),
            description="The runs were trained elsewhere: scores are computed from their answers, "
            "and of their data, settings and failures nothing is known.",
        )
    installed = plugins.names(PROTOCOLS)
    if name not in installed:
        raise StudyError(
            f'no installed package has the preset "{name}".',
            where="protocol.preset",
            remedy=f"Installed: {', '.join((*BUILT_IN, *installed))}. Reinstalling paretune "
            "restores its own.",
        )
    return plugins.load(PROTOCOLS, name, Preset)


def refuse_training(study: Study) -> list[Run]:
    """Refuse to plan runs that were trained elsewhere.

    Raises:
        StudyError: always.
    """
    raise StudyError(
        'runs of preset "judged" were trained elsewhere.',
        where=study.study,
        remedy="Remove protocol.preset to train them here; paretune judge reads their answers.",
    )
