"""Settings on the command line in the place of the study file's, for every verb with a study.

The overridden study is a study of its own: the verb that reads its results is given the same
settings as the one that ran it.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from paretune.study import Study

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings in the place of the study file's, as training.epochs=3, "
        "protocol.seeds=[1,2] or methods.lora.rank=16.",
        show_default=False,
    ),
]


def load_overridden(study: str, overrides: list[str] | None) -> Study | str:
    """The study with the settings of the command line; without any, its name as it is.

    Raises:
        StudyError: no such study, or a setting that cannot be.
    """
    if not overrides:
        return study
    from paretune.study import Study
    from paretune.verbs import study_input

    return Study.load(study_input.find_study_file(study), overrides)


def study_command(study: str, overrides: list[str] | None) -> str:
    """The study as it was named on the command line, to name it so in another command."""
    return shlex.join([study, *(overrides or ())]) if overrides else study
