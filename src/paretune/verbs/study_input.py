"""Input and output of all verbs: study files, folders of results, output files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from paretune import plugins
from paretune.errors import StudyError, spell_option
from paretune.files import write_atomically
from paretune.study import Study

if TYPE_CHECKING:
    from paretune.planning.shard import Shard


def shipped_studies() -> dict[str, Path]:
    """The study files of paretune and of installed packages, by name."""
    packages = plugins.load_all(plugins.STUDIES, ModuleType)[0].values()
    folders = [Path(str(place)) for place in (files("paretune") / "studies", *map(files, packages))]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def load_study(
    study: str | Path | Study | Mapping[str, Any], overrides: Sequence[str] = ()
) -> Study:
    """The study itself, or that of a file, of a shipped one's name or of plain values.

    Args:
        overrides: settings in place of those of the file.

    Raises:
        StudyError: no such study, or an invalid setting.
    """
    if isinstance(study, Study):
        return study
    if isinstance(study, Mapping):
        return Study.parse(study)
    name, path = str(study), Path(study)
    if not path.is_file() and name in shipped_studies():
        path = shipped_studies()[name]
    elif not path.exists():
        raise StudyError(
            "no such study file.",
            where=name,
            remedy=f"paretune new writes one; shipped with paretune: "
            f"{', '.join(shipped_studies())}.",
        )
    return Study.load(path, overrides, called=name)


def spell_study(study: Study, folder: Path) -> str:
    """The study as an argument of a command, with ``--store`` where its results lie elsewhere."""
    elsewhere = folder != store_folder(study, None)
    return study.typed + (f" {shlex.join(['--store', str(folder)])}" if elsewhere else "")


def store_folder(study: Study, folder: Path | str | None) -> Path:
    """The given folder, or ``studies/NAME`` in the present one."""
    return Path("studies") / study.study if folder is None else Path(folder)


def describe_test_files(study: Study) -> list[str]:
    """A sentence on each test file: whether it is all that a task is tested on."""
    pooled = "train and " if isinstance(study.protocol.outer, int) else ""
    folds = f", in {study.protocol.outer} folds" if pooled else ""
    sentences = []
    for task in study.tasks:
        if task.split_by is not None:
            part = f"the rows that {task.split_by} names"
        elif task.test is not None:
            part = Path(task.test).name
        else:  # some rows of train are held out
            continue
        sentences.append(f"Task {task.key} is tested on {pooled}{part}{folds}.")
    return sentences


def shard_folder(study: Study, shard: Shard) -> Path:
    """``studies/NAME-shard-1-of-2`` in the present folder."""
    return Path("studies") / f"{study.study}-{shard}"


def write_output(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file, whole or not at all.

    Raises:
        StudyError: it exists and must not be overwritten, or cannot be written.
    """
    remedy = f"Name another file with {spell_option('output')}."
    try:
        if overwrite:
            write_atomically(path, text)
            return
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise StudyError(
            "exists already and is not overwritten.", where=str(path), remedy=remedy
        ) from None
    except OSError as error:
        raise StudyError(
            f"cannot be written ({error.strerror}).", where=str(path), remedy=remedy
        ) from None
