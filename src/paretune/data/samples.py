"""The sample data inside the package (CC0, written for paretune), by task and language."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from paretune.data.read import read_rows
from paretune.data.task import Parts
from paretune.errors import StudyError
from paretune.study import TaskSpec

FOLDER = Path(__file__).parents[1] / "samples"
LANGUAGES = ("en", "sl")
LICENCE = dict.fromkeys(LANGUAGES, "CC0-1.0")
SOURCE = dict.fromkeys(LANGUAGES, "written for paretune; see the README beside the files")


def parts(folder: str, ending: str) -> Callable[[TaskSpec, str, Path | None], Parts]:
    """A reader of one sample task: ``samples/LANGUAGE/FOLDER/train.ENDING`` and ``test.ENDING``."""

    def read(spec: TaskSpec, language: str, data_home: Path | None) -> Parts:
        if spec.source is not None:
            raise StudyError(
                f"task {spec.key} comes with paretune and takes no source.", remedy="Remove it."
            )
        place = FOLDER / language / folder
        return Parts(read_rows(place / f"train.{ending}"), read_rows(place / f"test.{ending}"))

    return read
