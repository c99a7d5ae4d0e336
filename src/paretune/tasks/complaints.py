"""Sample task: which product of a bank is a complaint about? Written for paretune, CC0."""

from __future__ import annotations

from paretune.data.prompt import Prompt
from paretune.data.sources import samples
from paretune.data.task import Task
from paretune.tasks.routing import pair

LABELS = ("account", "card", "insurance", "mortgage", "transfer")

TASK = Task(
    name="complaints",
    title="sample: complaints to a bank, by product",
    kind="classification",
    labels=LABELS,
    columns=("text",),
    metric="accuracy",
    languages=("en",),
    licence={"en": samples.LICENCE["en"]},
    source={"en": samples.SOURCE["en"]},
    templates={"pair": pair},
    prompts={"en": Prompt(template="Complaint: {text}\nProduct:", label_texts=LABELS)},
    read_rows=samples.sample_reader("complaints", "csv"),
)
