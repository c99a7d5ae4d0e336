"""What the runs of a study read: how it travels to a worker elsewhere, and is checked there.

Datasets and the forgetting text travel as files, by hash. Models do not: a worker must have the
same files, under the same name or where its user says. Whether everything is the same is decided by
the runs' own ids, which cover data, model and code (:meth:`StudyContext.identify`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paretune.atomic_write import write_atomically
from paretune.data.formats.read import read_bytes
from paretune.data.packed_dataset import ENDING, pack_dataset
from paretune.errors import DataError, ModelError, StudyError
from paretune.planning.context import NO_MODEL, StudyContext
from paretune.study import ModelSpec, Run, Study
from paretune.study.forgetting_text import SHIPPED_LANGUAGES
from paretune.study.places import Places


@dataclass(frozen=True)
class ModelIdentity:
    """A model by name and revision, with the hash of its files."""

    name: str
    revision: str | None
    weights_hash: str


@dataclass(frozen=True)
class StudyInputs:
    """What the runs of a study read.

    Attributes:
        datasets: sha256 of the packed file, by the task's key.
        models: of all runs.
        texts: sha256 of the file of a forgetting text, by its path.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    models: tuple[ModelIdentity, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StudyInputs:
        """The inputs of :meth:`to_json`."""
        models = tuple(ModelIdentity(**one) for one in value["models"])
        return cls(value["datasets"], models, value["texts"])

    def file_names(self) -> dict[str, str]:
        """The name of each file, by sha256: its ending says how it is read."""
        names = {sha256: f"{sha256}{ENDING}" for sha256 in self.datasets.values()}
        return names | {
            sha256: f"{sha256}{''.join(Path(text).suffixes[-1:])}"
            for text, sha256 in self.texts.items()
        }


def collect_inputs(
    study: Study, context: StudyContext, folder: Path
) -> tuple[StudyInputs, dict[str, Path]]:
    """Write what the study's runs read into a folder.

    Returns:
        The inputs, and the files by sha256.

    Raises:
        ParetuneError: data or a model that cannot be used.
        DataError: the folder cannot be written.
    """
    pinned = context.pin_revisions(study)
    contents: dict[str, bytes] = {}

    def keep(content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        contents[sha256] = content
        return sha256

    datasets = {task.key: keep(pack_dataset(context.dataset(task))) for task in pinned.tasks}
    models = tuple(
        ModelIdentity(spec.name, spec.revision, context.source(spec).weights_hash)
        for spec in pinned.models
    )
    texts = {}
    if study.forgetting is not None and study.forgetting not in SHIPPED_LANGUAGES:
        texts[study.forgetting] = keep(read_bytes(study.forgetting)[0])
    inputs = StudyInputs(datasets, models, texts)
    names = inputs.file_names()
    files = {sha256: folder / names[sha256] for sha256 in contents}
    try:
        for sha256, content in contents.items():
            write_atomically(files[sha256], content)
    except OSError as error:
        raise DataError(
            f"the study's data cannot be written ({error.strerror or error}).", where=str(folder)
        ) from error
    return inputs, files


def place_inputs(
    inputs: StudyInputs,
    folder: Path,
    models: Mapping[str, str],
    context: StudyContext,
) -> Places:
    """Where this machine has the inputs, whose files are in the folder; the models are checked.

    Args:
        models: folders or names by the name in the study, where they differ.

    Raises:
        StudyError: ``models`` names one that the study does not have.
        ModelError: a model is missing here, or has other files.
    """
    if unknown := sorted(set(models) - {model.name for model in inputs.models}):
        raise StudyError(
            f"the study has no model {unknown[0]}.",
            where="--model",
            remedy=f"It has {', '.join(model.name for model in inputs.models)}.",
        )
    for model in inputs.models:
        _check_model(model, models.get(model.name, model.name), context)
    names = inputs.file_names()
    return Places(
        datasets={key: str(folder / names[sha]) for key, sha in inputs.datasets.items()},
        models=dict(models),
        texts={text: str(folder / names[sha]) for text, sha in inputs.texts.items()},
    )


def check_identity(runs: Iterable[tuple[str, Run]], context: StudyContext) -> None:
    """Check that this machine would execute the very runs: one of each cell and stage.

    Raises:
        StudyError: a run would be another one here.
    """
    seen: set[Any] = set()
    for run_id, run in runs:
        key = (run.cell, run.stage, run.readout, run.outer is None)
        if key in seen:
            continue
        seen.add(key)
        if context.identify(run) != run_id:
            raise StudyError(
                "would be another run on this machine: its code of the method or its model's "
                "settings differ.",
                where=" x ".join(run.cell),
                remedy="Install the same version of paretune, with the same plug-ins, as where "
                "the study was planned.",
            )


def _check_model(model: ModelIdentity, name: str, context: StudyContext) -> None:
    if model.name == NO_MODEL.name:
        return
    as_named = f"model {model.name}"
    revision = model.revision if name == model.name and not _has_no_revision(name) else None
    remedy = f"Copy it here, and name its folder: --model {model.name}=FOLDER."
    try:
        source = context.source(ModelSpec(name=name, revision=revision))
    except ModelError as error:
        raise ModelError(
            f"{error.what.rstrip('.')} on this machine.", where=as_named, remedy=remedy
        ) from error
    if source.weights_hash != model.weights_hash:
        raise ModelError(
            f"has other files here ({source.weights_hash[:12]}) than where the study was planned "
            f"({model.weights_hash[:12]}).",
            where=as_named,
            remedy=remedy,
        )


def _has_no_revision(name: str) -> bool:
    return name.startswith((".", "/", "~", "package:"))
