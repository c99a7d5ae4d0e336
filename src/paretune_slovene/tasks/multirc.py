"""MultiRC (Khashabi et al., 2018): which answers to a question on a passage are right?

A question has any number of right answers. Each answer is one example, (passage, question and
answer), classified as true or false; the metrics are F1a, the F1 of "true" over all answers, and
EM, the share of questions whose answers are all classified rightly. Slovene: the human translation
of 15/3/31 passages (946/145/1672 answers). Answers on one passage depend on one another: passages
stay together in a split, and intervals count whole passages.

Published as lists (SuperGLUE, SloBench) or as objects with numbers for keys (CLARIN, where labels
and numbers are 1, 1.0, "1.0" or "1,0", and some texts are under a stray key next to the passage).
An example's uid is ``part:passage/question/answer``, all by ``idx``, as a submission names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paretune.data.columns import cell_text
from paretune.data.example import normalise_text
from paretune.data.finding import Finding
from paretune.data.rows import Row
from paretune.objectives.example import Segments
from paretune.objectives.prompt import Prompt
from paretune_slovene.superglue_release import superglue_task


def pair(row: Mapping[str, str], language: str) -> Segments:
    """The passage, then question and answer; a cut takes from the passage, the longer text."""
    return ((row["passage"], f"{row['question']} {row['answer']}"),)


@dataclass
class _Conversion:
    """Rows made of passages, the errors, and what was corrected or left out."""

    rows: list[Row] = field(default_factory=list)
    errors: list[Finding] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    repeated: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    left_out: list[Finding] = field(default_factory=list)

    def refuse(self, where: str, what: str) -> None:
        """Add an error."""
        remedy = "Fix the row, or remove it."
        self.errors.append(Finding("error", "not-multirc", where, what, remedy))

    def make_unique(self, name: str, place: str, where: str) -> str:
        """The name of a passage or question, with its place appended where a file repeats it."""
        if name in self.names:
            self.repeated.append(where)
            name = f"{name}#{place}"
        self.names.add(name)
        return name


def expand_answers(rows: Sequence[Row], part: str) -> tuple[list[Row], list[Finding]]:
    """One row for each answer.

    An answer without a text, or to a question without one, is left out of train, with a warning;
    in the other parts every answer counts, so there it is an error.
    """
    conversion = _Conversion()
    groups: dict[str, str] = {}
    for position, row in enumerate(rows):
        value = row.values.get("passage")
        passage = value if isinstance(value, Mapping) else {}
        text, questions = passage.get("text"), _list_entries(passage.get("questions"))
        if not isinstance(text, str) or questions is None:
            lacks = "text" if questions is not None else "questions"
            conversion.refuse(row.where, f"has no passage with {lacks}.")
            continue
        number = _normalise_index(row.values.get("idx"), str(position))
        name = conversion.make_unique(number, str(position), row.where)
        # Passages of equal text are one group, however often it is printed.
        group = groups.setdefault(normalise_text(text), name)
        known = {"id": name, "passage": text, "group": group}
        for key, question in questions:
            _expand_question(conversion, row, known, key, question)
    return conversion.rows, [*conversion.errors, *_report_findings(conversion, rows, part)]


def _expand_question(
    conversion: _Conversion, row: Row, passage: Mapping[str, str], key: str, question: Any
) -> None:
    options = _list_entries(question.get("answers")) if isinstance(question, Mapping) else None
    if options is None:
        conversion.refuse(row.where, f"question {key} has no answers.")
        return
    number = _normalise_index(question.get("idx"), key)
    name = conversion.make_unique(f"{passage['id']}/{number}", key, row.where)
    question_text = _find_text(conversion, row, question, "question", key)
    for place, answer in options:
        if not isinstance(answer, Mapping):
            conversion.refuse(row.where, f"question {key} has an answer without a text.")
            continue
        index = _normalise_index(answer.get("idx"), place)
        where = f"{row.where} answer {number}/{index}"
        answer_text = _find_text(conversion, row, answer, "text", key, place)
        if question_text is None or answer_text is None:
            lacks = "its question has no text" if question_text is None else "has no text"
            remedy = "Take SloBench's release, which has it, or add it."
            conversion.left_out.append(Finding("warning", "left-out", where, lacks, remedy))
            continue
        values = {
            **passage,
            "id": f"{name}/{index}",
            "asked": name,
            "question": question_text,
            "answer": answer_text,
            **({"label": _normalise_label(answer["label"])} if "label" in answer else {}),
        }
        conversion.rows.append(Row(values, where))


def _find_text(
    conversion: _Conversion, row: Row, holder: Mapping[str, Any], name: str, *places: str
) -> str | None:
    """The text of a question or an answer; that under a stray key is the corrected one."""
    for key, value in row.values.items():
        if key == "passage" or not isinstance(value, Mapping):
            continue
        entry: Any = value
        for entries, place in zip(("questions", "answers"), places, strict=False):
            listed = _list_entries(entry.get(entries)) if isinstance(entry, Mapping) else None
            entry = dict(listed or ()).get(place)
        if isinstance(entry, Mapping) and isinstance(entry.get(name), str):
            conversion.stray.append(f'{row.where} "{key}"')
            return str(entry[name])
    text = holder.get(name)
    if isinstance(text, int | float) and not isinstance(text, bool) and text == text:
        return cell_text(text)
    return text if isinstance(text, str) and text.strip() else None


def _report_findings(conversion: _Conversion, rows: Sequence[Row], part: str) -> Iterator[Finding]:
    if conversion.stray:
        places = ", ".join(dict.fromkeys(conversion.stray))
        what = f"{len(conversion.stray)} texts were taken from a key beside the passage ({places})."
        yield Finding("note", "stray-key", rows[0].where, what, "Nothing to do.")
    if conversion.repeated:
        what = f"an idx of a passage or question is repeated ({len(conversion.repeated)} in all)."
        remedy = "Nothing to do: its position was added to the uids."
        yield Finding("note", "repeated-id", conversion.repeated[0], what, remedy)
    for finding in conversion.left_out:
        where, what, remedy = finding.where, finding.what, finding.remedy
        if part == "train":
            yield Finding("warning", finding.code, where, f"{what}: left out.", remedy)
        else:
            yield Finding("error", "missing-text", where, f"{what}.", remedy)


def _list_entries(value: Any) -> Iterable[tuple[str, Any]] | None:
    """Entries with their keys: of a list in their order, of an object in the order of numbers."""
    if isinstance(value, list):
        return [(str(i), entry) for i, entry in enumerate(value)]
    if isinstance(value, Mapping):
        return sorted(value.items(), key=lambda item: (len(item[0]), item[0]))
    return None


def _normalise_index(value: Any, otherwise: str) -> str:
    """``3``, ``3.0`` and ``"3,0"`` as ``3``."""
    return cell_text(_drop_decimals(value)) or otherwise


def _normalise_label(value: Any) -> Any:
    """The published 0 and 1 as label names; other spellings stay, and are noted later."""
    names = {0: "false", 1: "true"}
    return names.get(value, value) if type(value) is int else _drop_decimals(value)


def _drop_decimals(value: Any) -> Any:
    """A whole number without the decimals that a spreadsheet gave it."""
    whole = re.fullmatch(r"\s*(\d+)[.,]0+\s*", value) if isinstance(value, str) else None
    return whole.group(1) if whole else value


PROMPTS = {
    "en": Prompt(
        template="{text}\nQuestion: {text_pair}\nIs the answer correct?", label_texts=("no", "yes")
    ),
    "sl": Prompt(
        template="{text}\nVprašanje: {text_pair}\nAli je odgovor pravilen?",
        label_texts=("Ne", "Da"),
    ),
}
"""English: lm-evaluation-harness, ``super_glue/multirc``, without its line ``Answer:`` between
question and answer. Slovene: the same in translation, since
github.com/SloLama/slobench_evaluation lists all answers to a question and asks for the numbers of
the right ones."""

TASK = superglue_task(
    "multirc",
    "MultiRC",
    expand_answers,
    title="MultiRC: which answers to a question on a passage are right",
    kind="answer_set",
    labels=("false", "true"),
    columns=("passage", "question", "answer"),
    metric="f1a_em",
    templates={"pair": pair},
    prompts=PROMPTS,
    group="group",
    clustered=True,
    id="id",
    question="asked",
    aliases={"0": "false", "1": "true"},
)
