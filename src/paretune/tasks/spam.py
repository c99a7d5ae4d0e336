"""Sample task: is a message spam? Written for paretune, CC0."""

from __future__ import annotations

from paretune.data.prompt import Prompt
from paretune.data.sources import samples
from paretune.data.task import Task
from paretune.tasks.routing import pair

LABELS = ("ham", "spam")

TASK = Task(
    name="spam",
    title="sample: short messages, wanted or spam",
    kind="classification",
    labels=LABELS,
    columns=("text",),
    metric="accuracy",
    languages=("en",),
    licence={"en": samples.LICENCE["en"]},
    source={"en": samples.SOURCE["en"]},
    templates={"pair": pair},
    prompts={
        "en": Prompt(
            template="Message: {text}\nIs it spam?",
            label_texts=("no", "yes"),
        )
    },
    read_rows=samples.sample_reader("spam", "csv"),
)
