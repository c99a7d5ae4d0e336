"""One example: what an objective encodes, learns from and scores."""

from __future__ import annotations

from dataclasses import dataclass

from paretune.answers import Label

Segments = tuple[tuple[str, str | None], ...]
"""One ``(text, pair)`` for each choice; exactly one where there are no choices."""
Message = tuple[str, str]
"""A message of a conversation: a role (``system``, ``user``, ``assistant``) and a text."""


@dataclass(frozen=True)
class Example:
    """One row, ready to be encoded.

    ``label`` is an index into the dataset's labels (in a regression the number itself), or None
    where the row has none. ``where`` is ``train.csv line 412``. Examples of one ``group`` never
    part in a split. ``features`` are the values behind the text of a row of a table. ``question``
    names the question that an example of an answer set is one answer to. ``target`` is the
    reference of a translation or the completion of a prompt, None where the row has none; its label
    is None. ``messages`` are those before the completion, where the prompt is a conversation.
    """

    uid: str
    segments: Segments
    label: Label | None
    where: str
    group: str | None = None
    features: tuple[Label | str | None, ...] = ()
    question: str | None = None
    target: str | None = None
    messages: tuple[Message, ...] = ()
