"""Sample task: a program's help, Slovene to English or back. Written for paretune, CC0."""

from __future__ import annotations

from paretune.data.sources import samples
from paretune.data.task import Task

TASK = Task(
    name="manual",
    title="sample: help of a garden planner, Slovene to English or back",
    kind="translation",
    columns=("sl", "en"),
    metric="bleu",
    languages=("sl", "en"),
    licence=samples.LICENCE,
    source=samples.SOURCE,
    read_rows=samples.sample_reader("manual", "tsv", language="en"),
)
