"""The sample data inside the package (CC0, written for paretune), by task and language."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from paretune.data.formats.read import read_rows
from paretune.data.task import TaskRows
from paretune.errors import StudyError
from paretune.study import TaskSpec

SAMPLES_FOLDER = Path(__file__).parents[2] / "samples"
LANGUAGES = ("en", "sl")
LICENCE = dict.fromkeys(LANGUAGES, "CC0-1.0")
SOURCE = dict.fromkeys(LANGUAGES, "written for paretune; see the README beside the files")


def sample_names() -> tuple[str, ...]:
    """The sample tasks, each in each of its languages: ``routing-en`` ..."""
    folders = (folder for language in LANGUAGES for folder in (SAMPLES_FOLDER / language).iterdir())
    return tuple(sorted(f"{folder.name}-{folder.parent.name}" for folder in folders))


def copy_sample(name: str, folder: Path) -> list[Path]:
    """Copy a sample's ``train`` and ``test`` into a folder; nothing there is written over.

    Args:
        name: a task and its language, ``routing-en``; without the latter it is English.

    Raises:
        StudyError: no such sample, or a file cannot be written.
    """
    full = name if name in sample_names() else f"{name}-en"
    if full not in sample_names():
        raise StudyError(
            f'there is no sample "{name}".', remedy=f"There is {', '.join(sample_names())}."
        )
    task, _, language = full.rpartition("-")
    copies = []
    for file in sorted((SAMPLES_FOLDER / language / task).glob("t[re]*")):
        target = folder / file.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, target.open("xb") as out:
                shutil.copyfileobj(source, out)
        except OSError as error:
            raise StudyError(
                f"cannot be written ({error.strerror}).",
                where=str(target),
                remedy="Name another folder with --output.",
            ) from None
        copies.append(target)
    return copies


def sample_reader(
    folder: str, ending: str, language: str | None = None
) -> Callable[[TaskSpec, str, Path | None], TaskRows]:
    """A reader of one sample task: ``samples/LANGUAGE/FOLDER/train.ENDING`` and ``test.ENDING``.

    Args:
        language: the folder of files that have several languages.
    """

    def read(spec: TaskSpec, task_language: str, data_home: Path | None) -> TaskRows:
        if spec.source is not None:
            raise StudyError(
                f"task {spec.key} comes with paretune and takes no source.", remedy="Remove it."
            )
        place = SAMPLES_FOLDER / (language or task_language) / folder
        return TaskRows(read_rows(place / f"train.{ending}"), read_rows(place / f"test.{ending}"))

    return read
