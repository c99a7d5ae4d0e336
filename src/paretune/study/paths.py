"""Paths in a study file: relative to that file, and part of its hash only as they are written.

So a study that is moved or copied with its data is still the same study.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paretune.files import expand_home
from paretune.study.specs import ModelSpec
from paretune.study.task_spec import TaskSpec

SHIPPED_LANGUAGES = ("sl", "en")
"""Of the text for ``forgetting`` that comes with paretune: 40 paragraphs, each in both."""
FILE_KEYS = (
    *("train", "test", "test_shifted"),
    *("train_target", "test_target", "test_shifted_target"),
)
PATH_KEYS = ("source", *FILE_KEYS)
"""The keys of a task that are paths."""


class PathResolver:
    """Makes the relative paths of a study file absolute.

    ``written_paths`` maps the absolute paths back to those that were written.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.written_paths: dict[str, str] = {}

    def resolve_task(self, spec: TaskSpec) -> TaskSpec:
        """The task with absolute paths."""
        is_stem = spec.languages is not None
        update = {key: self._resolve_file(getattr(spec, key), stem=is_stem) for key in FILE_KEYS}
        return spec.model_copy(update={**update, "source": self._resolve_folder(spec.source)})

    def resolve_model(self, spec: ModelSpec) -> ModelSpec:
        """The model with an absolute path; its label stays what it was called by."""
        label = spec.key if (spec.label or is_path(spec.name)) else None
        return spec.model_copy(update={"name": self._resolve_folder(spec.name), "label": label})

    def resolve_text(self, value: str | None) -> str | None:
        """The text of ``forgetting``, a file with its absolute path."""
        return value if value in SHIPPED_LANGUAGES else self._resolve_file(value, stem=True)

    def _resolve_file(self, value: str | None, *, stem: bool) -> str | None:
        """``stem``: the file may be named without its extension."""
        if value is None or Path(value).is_absolute():
            return value
        path = self.base / value
        if not (stem or path.exists() or "." in Path(value).name):
            return value
        return self._remember(str(path.resolve()), posixpath.normpath(value))

    def _resolve_folder(self, name: str | None) -> str | None:
        if name is None or not is_path(name):
            return name
        resolved = str((self.base / expand_home(name)).resolve())
        if name.startswith("/"):
            return resolved
        written = name if name.startswith("~") else _with_leading_dot(name)
        return self._remember(resolved, written)

    def _remember(self, absolute: str, written: str) -> str:
        self.written_paths[absolute] = written
        return absolute


def is_path(name: str) -> bool:
    """Whether a model or source is a folder; all else is a name of the hub or of a package."""
    return name.startswith((".", "/", "~"))


def restore_written_paths(form: dict[str, Any], written: Mapping[str, str]) -> dict[str, Any]:
    """A study's canonical form with its paths as the study file has them."""

    def restore(section: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
        return {k: written.get(v, v) if k in keys and v else v for k, v in section.items()}

    tasks = [restore(task, PATH_KEYS) for task in form["tasks"]]
    models = [restore(model, ("name",)) for model in form["models"]]
    restored = {**form, "tasks": tasks, "models": models}
    return restored | restore({k: v for k, v in form.items() if k == "forgetting"}, ("forgetting",))


def _with_leading_dot(name: str) -> str:
    """``./models//tiny`` as ``./models/tiny``: the leading dot marks a folder, not a hub name."""
    normal = posixpath.normpath(name)
    return normal if normal.startswith("..") else f"./{normal}"
