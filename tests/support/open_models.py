"""Models opened for two labels."""

from typing import Any

from paretune import objectives
from paretune.models.load import LoadedModel, load_model
from paretune.models.sources.resolve import ModelSource, resolve_source
from paretune.study import ModelSpec


def open_model(source: Any, objective: str = "classification", **options: Any) -> LoadedModel:
    if not isinstance(source, ModelSource):
        source = resolve_source(ModelSpec(name=str(source)))
    return load_model(source, objectives.get(objective).head_spec(("a", "b")), **options)
