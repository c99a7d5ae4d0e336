"""Sample task: do two sentences say the same? Written for paretune, CC0."""

from __future__ import annotations

from collections.abc import Mapping

from paretune.data.example import Segments
from paretune.data.sources import samples
from paretune.data.task import Task


def pair(row: Mapping[str, str], language: str) -> Segments:
    """Both sentences in the order of the file."""
    return ((row["sentence1"], row["sentence2"]),)


TASK = Task(
    name="paraphrase",
    title="sample: do two sentences say the same?",
    kind="pair",
    labels=("different", "same"),
    columns=("sentence1", "sentence2"),
    metric="accuracy",
    languages=samples.LANGUAGES,
    licence=samples.LICENCE,
    source=samples.SOURCE,
    templates={"pair": pair},
    read_rows=samples.sample_reader("paraphrase", "tsv"),
)
