"""Sample task: which department answers a customer's message? Written for paretune, CC0."""

from __future__ import annotations

from collections.abc import Mapping

from paretune.data.example import Segments
from paretune.data.prompt import Prompt
from paretune.data.sources import samples
from paretune.data.task import Task


def pair(row: Mapping[str, str], language: str) -> Segments:
    """The message alone; there is no second text."""
    return ((row["text"], None),)


LABELS = ("billing", "delivery", "technical", "praise")
PROMPTS = {
    "en": Prompt(template="Message: {text}\nDepartment:", label_texts=LABELS),
    "sl": Prompt(
        template="Sporočilo: {text}\nOddelek:",
        label_texts=("računi", "dostava", "tehnika", "pohvale"),
    ),
}

TASK = Task(
    name="routing",
    title="sample: customer messages for four departments",
    kind="classification",
    labels=LABELS,
    columns=("text",),
    metric="accuracy",
    languages=samples.LANGUAGES,
    licence=samples.LICENCE,
    source=samples.SOURCE,
    templates={"pair": pair},
    prompts=PROMPTS,
    read_rows=samples.sample_reader("routing", "csv"),
)
