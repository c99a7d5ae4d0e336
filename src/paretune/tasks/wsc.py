"""WSC (Levesque et al., 2012): does the second span, a pronoun, mean the first?

Slovene: the human translation of 554/104/146 rows; where Slovene leaves the pronoun out, the second
span is the verb (``je bila``).

An encoder with a head sees no positions, so the spans are marked in the text: the first by ``*``,
the second by ``#``, as T5 did (Raffel et al. 2020). These signs are in every vocabulary: no token
is added whose embedding a frozen model could not learn, and the models and methods stay as they
are. The second text of the default names the pair once more (``ona = Ana``), so that what is asked
survives a cut. ``template: marked`` is the marked text alone.

Many rows share a text (104 rows of the Slovene test part have 49), and who has read a text rightly
answers all its rows alike: rows of one text never part in a split and are resampled together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paretune.data.example import Segments
from paretune.data.finding import Finding, truncate_findings
from paretune.data.formats.row import Row
from paretune.data.sources import superglue_release
from paretune.data.spans import Span, find_span, mark_spans
from paretune.data.task import Task


def pair(row: Mapping[str, str], language: str) -> Segments:
    """The text with both spans marked, as in ``* Ana * je rekla, da # je #``, then both again."""
    return ((row["marked"], f"{row['span2']} = {row['span1']}"),)


def marked_text(row: Mapping[str, str], language: str) -> Segments:
    """The text with both spans marked, as in ``* Ana * je rekla, da # je #``."""
    return ((row["marked"], None),)


def mark_rows(rows: Sequence[Row], part: str) -> tuple[list[Row], list[Finding]]:
    """Rows as published, each with its spans found in the text and marked.

    A span that is not at its index is looked for; what was taken instead is told, and a span that
    is not in the text at all is an error.
    """
    out: list[Row] = []
    wrong: list[Finding] = []
    moved: list[Finding] = []
    for row in rows:
        text, target = row.values.get("text"), row.values.get("target")
        if not isinstance(text, str) or not isinstance(target, Mapping):
            what = 'has no "text", or no "target" with both spans.'
            remedy = "Add them, or remove the row."
            wrong.append(Finding("error", "no-span", row.where, what, remedy))
            continue
        spans, words_of = [], {}
        for name, sign in (("span1", "*"), ("span2", "#")):
            words, index = target.get(f"{name}_text"), target.get(f"{name}_index")
            span = find_span(text, words, index) if isinstance(words, str) else None
            if span is None:
                what = f"{name} {words!r} is not in the text (word {index})."
                wrong.append(Finding("error", "no-span", row.where, what, FIX_SPAN))
                continue
            if span.matched_by != "at":
                moved.append(_describe_moved_span(row, name, index, text, span))
            spans.append((span, sign))
            words_of[name] = str(words).strip()
        if len(spans) == 2:
            values = {**row.values, **words_of, "marked": mark_spans(text, spans)}
            out.append(Row(values, row.where))
    return out, [*wrong, *truncate_findings(moved)]


FIX_SPAN = "Mend the span, or remove the row; in SloBench's release every span is there."


def _describe_moved_span(row: Row, name: str, index: object, text: str, span: Span) -> Finding:
    words, context = text[span.start : span.end], text[max(0, span.start - 15) : span.end + 15]
    what = f'{name} "{words}" is not word {index} of the text; '
    if span.matched_by == "only":
        what += f'it was found in the only place where it stands ("{context}").'
        return Finding("note", "span-moved", row.where, what, "Nothing to do.")
    what += f'of several places the nearest was taken ("{context}").'
    remedy = "Mend the index if that is wrong, or take SloBench's release."
    return Finding("warning", "span-unsure", row.where, what, remedy)


TASK = Task(
    name="wsc",
    title="WSC: does the pronoun mean this one?",
    kind="span_pair",
    labels=("false", "true"),
    columns=("marked", "span1", "span2"),
    metric="accuracy",
    languages=("sl", "en"),
    licence=superglue_release.LICENCE,
    source=superglue_release.SOURCE,
    templates={"pair": pair, "marked": marked_text},
    read_rows=superglue_release.superglue_reader("WSC", mark_rows),
    id="idx",
    group="text",
    clustered=True,
    aliases={"0": "false", "1": "true"},
)
