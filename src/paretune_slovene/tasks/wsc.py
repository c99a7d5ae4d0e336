"""WSC (Levesque et al., 2012): does the second span, a pronoun, mean the first?

Slovene: the human translation of 554/104/146 rows; where Slovene leaves the pronoun out, the second
span is the verb (``je bila``).

A sequence classifier gets no positions, so the spans are marked in the text: the first by ``*``,
the second by ``#``, as in T5 (Raffel et al. 2020). These signs are in every vocabulary, so no token
is added whose embedding a frozen model could not learn. The second text of the default repeats both
spans (``ona = Ana``), so that they survive a cut. ``template: marked`` is the marked text alone.

Many rows share a text (the 104 rows of the Slovene test part have 49), and answers on one text
depend on one another: rows of one text stay together in a split and are counted together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from paretune.data.columns import cell_text
from paretune.data.finding import Finding, summarise_by_code
from paretune.data.rows import Row
from paretune.objectives.example import Segments
from paretune.objectives.prompt import Prompt
from paretune_slovene.superglue_release import superglue_task

_WORD = re.compile(r"\S+")


class Span(NamedTuple):
    """Characters ``start`` to ``end`` of a text.

    ``matched_by``: ``at`` its index, as the ``only`` occurrence of its words, or as the
    ``nearest`` of several occurrences to its index.
    """

    start: int
    end: int
    matched_by: Literal["at", "only", "nearest"]


def find_span(text: str, words: str, index: object) -> Span | None:
    """The occurrence of ``words`` in ``text``, or None.

    Words are counted from 0 and separated by white space. Case, white space, and punctuation at
    either end of the span do not matter; only whole words match. Where they are not at ``index``,
    the only other occurrence is taken, or the nearest of several (the earlier of two).
    """
    core = re.sub(r"^[\W_]+|[\W_]+$", "", words)
    if not core:
        return None
    pattern = r"\s+".join(re.escape(part) for part in core.split())
    hits = list(re.finditer(rf"(?<!\w){pattern}(?!\w)", text, flags=re.IGNORECASE))
    if not hits:
        return None
    starts = [match.start() for match in _WORD.finditer(text)]
    word = int(number) if (number := cell_text(index) or "").isdigit() else None

    def word_of(hit: re.Match[str]) -> int:
        return sum(start <= hit.start() for start in starts) - 1

    at = [hit for hit in hits if word_of(hit) == word]
    if at:
        return Span(at[0].start(), at[0].end(), "at")
    if len(hits) == 1:
        return Span(hits[0].start(), hits[0].end(), "only")
    if word is None:
        return None
    nearest = min(hits, key=lambda hit: abs(word_of(hit) - word))
    return Span(nearest.start(), nearest.end(), "nearest")


def mark_spans(text: str, spans: Sequence[tuple[Span, str]]) -> str:
    """The text with each span between two copies of its sign: ``* Ana * je rekla, da # je # ...``.

    Of two nested spans the longer has its signs outside.
    """
    # At one place the inner span ends first and begins last.
    cuts = [(s.end, 0, -s.start, f" {sign}") for s, sign in spans]
    cuts += [(s.start, 1, -s.end, f"{sign} ") for s, sign in spans]
    for place, _, _, sign in sorted(cuts, reverse=True):
        text = text[:place] + sign + text[place:]
    return text


def pair(row: Mapping[str, str], language: str) -> Segments:
    """The text with both spans marked, as in ``* Ana * je rekla, da # je #``, then both again."""
    return ((row["marked"], f"{row['span2']} = {row['span1']}"),)


def marked_text(row: Mapping[str, str], language: str) -> Segments:
    """The text with both spans marked, as in ``* Ana * je rekla, da # je #``."""
    return ((row["marked"], None),)


def mark_rows(rows: Sequence[Row], part: str) -> tuple[list[Row], list[Finding]]:
    """Rows as published, each with its spans marked in the text.

    A span that is not at its index is searched for, which is noted; a span that is not in the text
    is an error.
    """
    marked: list[Row] = []
    errors: list[Finding] = []
    moved: list[Finding] = []
    for row in rows:
        text, target = row.values.get("text"), row.values.get("target")
        if not isinstance(text, str) or not isinstance(target, Mapping):
            what = 'has no "text", or no "target" with both spans.'
            remedy = "Add them, or remove the row."
            errors.append(Finding("error", "no-span", row.where, what, remedy))
            continue
        spans, words_of = [], {}
        for name, sign in (("span1", "*"), ("span2", "#")):
            words, index = target.get(f"{name}_text"), target.get(f"{name}_index")
            span = find_span(text, words, index) if isinstance(words, str) else None
            if span is None:
                what = f"{name} {words!r} is not in the text (word {index})."
                errors.append(Finding("error", "no-span", row.where, what, FIX_SPAN))
                continue
            if span.matched_by != "at":
                moved.append(_describe_moved_span(row, name, index, text, span))
            spans.append((span, sign))
            words_of[name] = str(words).strip()
        if len(spans) == 2:
            values = {**row.values, **words_of, "marked": mark_spans(text, spans)}
            marked.append(Row(values, row.where))
    return marked, [*errors, *summarise_by_code(moved)]


FIX_SPAN = "Fix the span, or remove the row; SloBench's release has every span."


def _describe_moved_span(row: Row, name: str, index: object, text: str, span: Span) -> Finding:
    words, context = text[span.start : span.end], text[max(0, span.start - 15) : span.end + 15]
    what = f'{name} "{words}" is not word {index} of the text; '
    if span.matched_by == "only":
        what += f'it was found in the only place where it stands ("{context}").'
        return Finding("note", "span-moved", row.where, what, "Nothing to do.")
    what += f'of several places the nearest was taken ("{context}").'
    remedy = "Fix the index if that is wrong, or take SloBench's release."
    return Finding("warning", "span-unsure", row.where, what, remedy)


PROMPTS = {
    "en": Prompt(
        template="Passage: {text}\n"
        "Question: In the passage above, does the pronoun between # refer to the words between *? "
        "({text_pair})\nAnswer:",
        label_texts=("no", "yes"),
    ),
    "sl": Prompt(
        template="Besedilo: {text}\n"
        "Vprašanje: Ali se besedna zveza med # v zgornjem besedilu nanaša na besedno zvezo med *? "
        "({text_pair})\nOdgovor:",
        label_texts=("Ne", "Da"),
    ),
}
"""After lm-evaluation-harness, ``super_glue/wsc``, and ``WSCPromptCreator`` of
github.com/SloLama/slobench_evaluation, with the two signs of this task in place of their one."""

TASK = superglue_task(
    "wsc",
    "WSC",
    mark_rows,
    title="WSC: does the pronoun mean this one?",
    kind="span_pair",
    labels=("false", "true"),
    columns=("marked", "span1", "span2"),
    templates={"pair": pair, "marked": marked_text},
    prompts=PROMPTS,
    group="text",
    clustered=True,
    aliases={"0": "false", "1": "true"},
)
