"""Lines on which NLTK 3.6.6, and SloBench's evaluator with it, ends with an error."""

from __future__ import annotations

from paretune.metrics.nltk_words import SENTENCE_END, find_sentence_ends


def crashes_slobench(text: str) -> bool:
    """Whether NLTK 3.6.6 fails on this line.

    It reads the word before a possible end of a sentence, and here is none: ``! Ne.``
    """
    return any(not before for _, before in find_sentence_ends(text.strip(), SENTENCE_END))


def make_readable(text: str) -> str:
    """The line with the smallest change after which NLTK 3.6.6 can read it; others unchanged.

    A mark before a space is joined to the next word: ``!Ne`` has the words and characters of
    ``! Ne``, since NLTK splits at ``!`` and ``?`` anyway. If that does not help, the mark is
    removed.
    """
    while crashes_slobench(text):
        mark, rest = text.strip()[0], text.strip()[1:].lstrip()
        joined = mark + rest
        text = rest if mark == "." or crashes_slobench(joined) else joined
    return text
