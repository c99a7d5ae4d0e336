"""Sample task: which department answers a customer's message? Written for paretune, CC0."""

from __future__ import annotations

from collections.abc import Mapping

from paretune.data.example import Segments
from paretune.data.sources import samples
from paretune.data.task import Task


def pair(row: Mapping[str, str], language: str) -> Segments:
    """The message alone; there is no second text."""
    return ((row["text"], None),)


TASK = Task(
    name="routing",
    title="sample: customer messages for four departments",
    kind="classification",
    labels=("billing", "delivery", "technical", "praise"),
    columns=("text",),
    metric="accuracy",
    languages=samples.LANGUAGES,
    licence=samples.LICENCE,
    source=samples.SOURCE,
    templates={"pair": pair},
    read_rows=samples.sample_reader("routing", "csv"),
)
