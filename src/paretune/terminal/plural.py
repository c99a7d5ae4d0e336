"""Numbers with their nouns."""


def pluralise(count: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
