"""RTE (Dagan et al., 2005 and later): does the hypothesis follow from the premise?

Slovene: the human translation of 232/29/29 rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from paretune.data.example import Segments
from paretune.data.sources import superglue_release
from paretune.data.task import Task


def pair(row: Mapping[str, str], language: str) -> Segments:
    """The premise, then the hypothesis."""
    return ((row["premise"], row["hypothesis"]),)


def paper(row: Mapping[str, str], language: str) -> Segments:
    """One text, as the paper's notebooks built it."""
    return ((f"premise : {row['premise']} hypothesis : {row['hypothesis']} ", None),)


TASK = Task(
    name="rte",
    title="RTE: entailment or not",
    kind="pair",
    labels=("entailment", "not_entailment"),
    columns=("premise", "hypothesis"),
    metric="accuracy",
    languages=("sl", "en"),
    licence=superglue_release.LICENCE,
    source=superglue_release.SOURCE,
    templates={"pair": pair, "paper": paper},
    read_rows=superglue_release.superglue_reader("RTE"),
    id="idx",
    group="premise",
)
