"""Where fetched data lies: ``$PARETUNE_HOME``, or the platform's folder for caches."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from paretune.files import expand_home


def data_home() -> Path:
    """The folder of fetched data; it need not exist yet.

    ``$PARETUNE_HOME`` itself where that is set, otherwise ``paretune/data`` in the platform's
    folder for caches (``~/.cache`` or ``$XDG_CACHE_HOME`` on Linux).
    """
    if home := os.environ.get("PARETUNE_HOME"):
        return expand_home(home)
    return platformdirs.user_cache_path("paretune", appauthor=False) / "data"


def activation_cache_home() -> Path:
    """The folder of cached activations (:mod:`paretune.training.forward.activation_cache`)."""
    return data_home() / "trunk"


def converted_models_home() -> Path:
    """The folder of models that were converted (:mod:`paretune.models.sources.convert`)."""
    return data_home() / "models"
