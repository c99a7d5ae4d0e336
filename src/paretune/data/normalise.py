"""When two texts count as the same: equal but for case and white space."""

from __future__ import annotations

import unicodedata

from paretune.data.example import Example


def normalise_text(text: str) -> str:
    """Text in NFKC, without case, every run of white space one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_key(example: Example) -> tuple[str, ...]:
    """The whole input of an example, normalised; equal keys are duplicates."""
    return tuple(
        normalise_text(text) for pair in example.segments for text in pair if text is not None
    )
