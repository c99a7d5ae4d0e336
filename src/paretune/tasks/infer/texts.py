"""A text for each text (instructions, preferences), or a tag for each word."""

from __future__ import annotations

from pathlib import Path

from paretune.data.instructions import PREFERENCE_FORMS, find_form
from paretune.tasks.infer.draft import InferredTask, start_draft
from paretune.tasks.shapes import (
    ID,
    LABEL,
    NUMERIC_TARGET,
    Columns,
    find_tags,
    find_verdict,
    marks_entities,
    match_texts,
)
from paretune.terminal.plural import pluralise

_SUMMARY_PROMPT = "{text}\nSummary:"


def draft_instructions(file: Path, columns: Columns) -> InferredTask | None:
    """A text for each text (summaries, open questions), or a form whose columns need no names.

    Preferences are such forms.
    """
    rows = pluralise(len(next(iter(columns.values())).values), "row")
    for kind, of_answers in PREFERENCE_FORMS.items():
        unrated = "label" in of_answers.columns and find_verdict(columns) != "label"
        if set(of_answers.columns) <= set(columns) and not unrated:
            reason = f"columns {' and '.join(of_answers.columns)}, as {of_answers.title} has them"
            return start_draft(file, kind, reason, rows)
    pair = match_texts(
        columns, "document|article|dialogue|text|body|besedilo", "summary|highlights|povzetek"
    )
    # No column beside them may be a label, by its name or its values.
    apart = ((n, c) for n, c in columns.items() if n not in pair and not ID.fullmatch(n))
    if any(LABEL.fullmatch(n) or NUMERIC_TARGET.fullmatch(n) or c.repeats for n, c in apart):
        pair = ()
    prompt = _SUMMARY_PROMPT if pair else ""
    if not pair:
        pair = match_texts(columns, "question|query|vprašanje|vprasanje", "answer|response|odgovor")
        if any(name not in pair and not ID.fullmatch(name) for name in columns):
            pair = ()
    if pair:
        reason = "a text is written for each text: check this guess"
        draft = start_draft(file, "instruction", reason, rows)
        draft.uncertain.append("kind")
        draft.add("text", pair[0], "what the model reads")
        draft.add("label", pair[1], "what it shall write")
        if prompt:
            draft.add("prompt", prompt, "what stands around the text")
        return draft
    form = find_form(columns)
    if form is None:
        return None
    answers = columns[form.columns[-1]]
    are_labels = len(set(answers.texts)) <= len(answers.values) / 2 and answers.words <= 3
    if answers.is_plain and are_labels:
        return None
    reason = f"columns {' and '.join(form.columns)}, as {form.title} has them"
    return start_draft(file, "instruction", reason, rows)


def draft_tags(file: Path, columns: Columns, label: str | None) -> InferredTask | None:
    """A tag for each word, in the column that the user named or in the likeliest."""
    words, *tags = find_tags(columns) or ("",)
    if not tags or (label or tags[0]) not in tags:
        return None
    chosen = label or tags[0]
    rows = pluralise(len(columns[words].values), "row")
    reason = f"{words} and {chosen} hold as many values in each row"
    draft = start_draft(file, "token_classification", reason, rows)
    behind = words == "tags"  # the last column of CoNLL
    draft.add("text", words, "the words, behind their tags" if behind else "the words")
    draft.add("label", chosen, "as you said" if label else "their tags")
    if not marks_entities(columns[chosen]):
        draft.add("metric", "token_accuracy", "no tag marks an entity (B-, I-)", uncertain=True)
    if "document" in columns:
        draft.add("group", "document", "sentences of one document stay together")
    return draft
