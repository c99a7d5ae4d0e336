"""Paths in a study file: relative to that file, and part of its identity only as they are written.

So a study that is moved or copied with its data is still the same study.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paretune.specs import ModelSpec, TaskSpec

FILE_KEYS = ("train", "test", "train_target", "test_target")
PATH_KEYS = ("source", *FILE_KEYS)
"""The keys of a task that say where its data lies."""


class PathResolver:
    """Makes the relative paths of a study file absolute; ``written_paths`` maps them back."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.written_paths: dict[str, str] = {}

    def task(self, spec: TaskSpec) -> TaskSpec:
        """The task with absolute paths."""
        update = {
            key: self._resolve_file(getattr(spec, key), stem=spec.is_translation)
            for key in FILE_KEYS
        }
        return spec.model_copy(update={**update, "source": self._resolve_folder(spec.source)})

    def model(self, spec: ModelSpec) -> ModelSpec:
        """The model with an absolute path; its label keeps what it was called by."""
        label = spec.key if (spec.label or is_path(spec.name)) else None
        return spec.model_copy(update={"name": self._resolve_folder(spec.name), "label": label})

    def _resolve_file(self, value: str | None, *, stem: bool) -> str | None:
        if value is None or Path(value).is_absolute():
            return value
        beside = self.base / value
        if not (stem or beside.exists() or "." in Path(value).name):
            return value
        return self._remember(str(beside.resolve()), posixpath.normpath(value))

    def _resolve_folder(self, name: str | None) -> str | None:
        if name is None or not is_path(name):
            return name
        resolved = str((self.base / Path(name).expanduser()).resolve())
        if name.startswith("/"):
            return resolved
        return self._remember(resolved, name if name.startswith("~") else _with_leading_dot(name))

    def _remember(self, absolute: str, written: str) -> str:
        self.written_paths[absolute] = written
        return absolute


def is_path(name: str) -> bool:
    """Whether a model or source is a folder; all else is a name of the hub or of a package."""
    return name.startswith((".", "/", "~"))


def restore_written_paths(form: dict[str, Any], written: Mapping[str, str]) -> dict[str, Any]:
    """A study's canonical form with its paths as the study file has them."""

    def said(section: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
        return {k: written.get(v, v) if k in keys and v else v for k, v in section.items()}

    tasks = [said(task, PATH_KEYS) for task in form["tasks"]]
    return {**form, "tasks": tasks, "models": [said(model, ("name",)) for model in form["models"]]}


def same_elsewhere(stored: Mapping[str, Any], form: Mapping[str, Any]) -> bool:
    """Whether a stored canonical form is this one with its relative paths made absolute.

    Older versions kept studies so: ``train.csv`` as ``/home/ana/study/train.csv``. All paths must
    have been taken from one folder.
    """
    folders: dict[int, str] = {}

    def brought(old: Any, new: Any) -> Any:
        """The new path where the old one is that, taken from the one folder."""
        if not isinstance(old, str) or not isinstance(new, str) or old == new:
            return new if old == new else old
        parts = new.removeprefix("./").split("/")
        below = [part for part in parts if part not in ("..", "~", ".")]
        ending = "/" + "/".join(below)
        if new.startswith("/") or not below or not old.endswith(ending):
            return old
        above = parts.count("..") if "~" not in parts else -1
        folder = old.removesuffix(ending)
        return new if folders.setdefault(above, folder) == folder else old

    def moved(section: Any, other: Any, keys: tuple[str, ...]) -> Any:
        return {**section, **{k: brought(section[k], other.get(k)) for k in keys if k in section}}

    if any(len(stored.get(what, ())) != len(form[what]) for what in ("tasks", "models")):
        return False
    seen = {
        **stored,
        **{
            what: [moved(a, b, keys) for a, b in zip(stored[what], form[what], strict=True)]
            for what, keys in (("tasks", PATH_KEYS), ("models", ("name",)))
        },
    }
    return bool(seen == form)


def _with_leading_dot(name: str) -> str:
    """``./models//tiny`` as ``./models/tiny``: a leading dot tells a folder from a hub name."""
    normal = posixpath.normpath(name)
    return normal if normal.startswith("..") else f"./{normal}"
