"""What all verbs read and write: study files, folders of results, output files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from paretune import plugins
from paretune.errors import StudyError
from paretune.files import write_atomically
from paretune.study import Study

if TYPE_CHECKING:
    from paretune.planning.shard import Shard
    from paretune.store import Record, Store

OVERRIDES_COMMENT = "# Settings of the command line: "
"""How the first line of a stored study begins where the command line gave settings."""


def shipped_studies() -> dict[str, Path]:
    """The study files of paretune and of installed packages, by name."""
    packages = plugins.load_all(plugins.STUDIES, ModuleType)[0].values()
    folders = [Path(str(place)) for place in (files("paretune") / "studies", *map(files, packages))]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def find_study_file(study: str) -> Path:
    """A study file by path, or one of those shipped by name.

    Raises:
        StudyError: neither.
    """
    path = Path(study)
    if path.exists() and not (path.is_dir() and study in shipped_studies()):
        return path
    if study in shipped_studies():
        return shipped_studies()[study]
    raise StudyError(
        "no such study file.",
        where=study,
        remedy=f"paretune new writes one; shipped with paretune: {', '.join(shipped_studies())}.",
    )


def resolve_study(study: Study | Path | str | Mapping[str, Any]) -> Study:
    """The study itself, that of a file, of a shipped one's name or of plain values.

    Raises:
        StudyError: it is none.
    """
    if isinstance(study, Mapping):
        return Study.parse(study)
    return study if isinstance(study, Study) else load_study(study)


def load_study(name: Path | str, overrides: Sequence[str] = ()) -> Study:
    """The study of a file, or of a shipped one's name, with settings in place of the file's.

    Raises:
        StudyError: no such study, or an invalid setting.
    """
    return Study.load(find_study_file(str(name)), overrides, called=str(name))


def spell_study(study: Study, folder: Path) -> str:
    """How a command names a study, with ``--store`` where its results lie elsewhere."""
    elsewhere = folder != store_folder(study, None)
    return study.typed + (f" {shlex.join(['--store', str(folder)])}" if elsewhere else "")


def study_file_text(study: Study | Path | str) -> str:
    """The text of the study file; of a study made in Python, its canonical form as YAML.

    Settings of the command line are in it, and named in its first line.
    """
    if not isinstance(study, Study):
        return find_study_file(str(study)).read_text(encoding="utf-8")
    import io

    from ruamel.yaml import YAML

    out = io.StringIO()
    if study.overrides:
        out.write(f"{OVERRIDES_COMMENT}{shlex.join(study.overrides)}\n")
    YAML(typ="safe", pure=True).dump(study.canonical_form(), out)
    return out.getvalue()


def store_folder(study: Study, folder: Path | str | None) -> Path:
    """The given folder, or ``studies/NAME`` in the present one."""
    return Path("studies") / study.study if folder is None else Path(folder)


def describe_test_files(study: Study) -> list[str]:
    """A sentence on each test file: whether it is all that a task is tested on."""
    pooled = "train and " if isinstance(study.protocol.outer, int) else ""
    folds = f", in {study.protocol.outer} folds" if pooled else ""
    return [
        f"Task {task.key} is tested on {pooled}{Path(task.test).name}{folds}."
        for task in study.tasks
        if task.test is not None
    ]


def shard_folder(study: Study, shard: Shard) -> Path:
    """``studies/NAME-shard-1-of-2`` in the present folder."""
    return Path("studies") / f"{study.study}-{shard}"


def load_records(study: Study, opened: Store) -> list[Record]:
    """What the study's runs have left, with data and model where the study has them now."""
    records = opened.load_records(study.study_hash, predictions=True)
    return [replace(record, run=study.relocate(record.run)) for record in records]


def write_output(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file, whole or not at all.

    Raises:
        StudyError: it exists and must not be overwritten, or cannot be written.
    """
    remedy = "Name another file with --output."
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
