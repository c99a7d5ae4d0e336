"""Where a study and its store lie, for all verbs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from paretune.errors import StudyError
from paretune.study import Study


def shipped() -> dict[str, Path]:
    """The study files that come with paretune, by name."""
    folder = Path(str(files("paretune") / "suites"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(study: str) -> Path:
    """A study file by path, or one of those shipped by name.

    Raises:
        StudyError: neither.
    """
    path = Path(study)
    if path.is_file():
        return path
    if study in shipped():
        return shipped()[study]
    raise StudyError(
        "no such study file.",
        where=study,
        remedy=f"paretune new writes one; shipped with paretune: {', '.join(shipped())}.",
    )


def load(study: str) -> tuple[Study, str]:
    """The study and the text of its file."""
    path = find(study)
    return Study.load(path), path.read_text(encoding="utf-8")


def store_folder(study: Study, given: Path | None) -> Path:
    """``--store``, or ``studies/NAME`` in the present folder."""
    return given or Path("studies") / study.study
