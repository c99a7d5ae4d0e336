"""Sample task: which sentence follows the first? Written for paretune, CC0."""

from __future__ import annotations

from collections.abc import Mapping

from paretune.data.example import Segments
from paretune.data.prompt import Prompt
from paretune.data.sources import samples
from paretune.data.task import Task


def pair(row: Mapping[str, str], language: str) -> Segments:
    """The first sentence, then one of the two that may follow."""
    return (row["premise"], row["choice1"]), (row["premise"], row["choice2"])


PROMPTS = {language: Prompt() for language in samples.LANGUAGES}
"""The choice is put behind the first sentence."""

TASK = Task(
    name="follows",
    title="sample: which sentence follows?",
    kind="multiple_choice",
    labels=("0", "1"),
    columns=("premise", "choice1", "choice2"),
    metric="accuracy",
    languages=samples.LANGUAGES,
    licence=samples.LICENCE,
    source=samples.SOURCE,
    templates={"pair": pair},
    prompts=PROMPTS,
    read_rows=samples.sample_reader("follows", "jsonl"),
)
