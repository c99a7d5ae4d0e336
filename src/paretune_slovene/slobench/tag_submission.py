"""Words with tags as SloBench takes them: names in CoNLL-2002, parts of speech in CoNLL-U.

=======  ==================  =======================================================================
kind     files               each line
=======  ==================  =======================================================================
``ner``  ``*.conll2002``     a word, one blank, its tag: ``O``, or a prefix of IOB2 or IOBES, ``-``
                             and a type
``pos``  one ``*.conllu``    ten fields with tabs between them, of which UPOS and XPOS are answers;
                             an empty line ends each sentence, the last one too
=======  ==================  =======================================================================

So its evaluators read them (github.com/clarinsi/slobench-eval-docker, ``eval_conll2002`` and
``eval_sequence_tagging_conllu``). The former joins all sentences: an ``I-`` at the beginning of one
would continue an entity at the end of that before, so a submission writes ``B-`` there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.scores import score_runs, score_sums
from paretune.data.finding import Finding, summarise_by_code
from paretune.data.tags import CONLLU_FIELDS
from paretune.errors import DataError
from paretune.metrics.metric import divide
from paretune.metrics.tags import OUTSIDE, count_entities
from paretune.terminal.plural import pluralise
from paretune_slovene.slobench.official_scores import make_text_predictions
from paretune_slovene.slobench.submission import File, Submission, check_files, read_lines

ENDINGS: dict[str, Literal["ner", "pos"]] = {".conll2002": "ner", ".conllu": "pos"}
NAMES = "NER"
COLUMNS = {"ner": {NAMES: 1}, "pos": {"UPOS": 3, "XPOS": 4}}
"""The answers in a line and the number of their field, by kind."""
UNIVERSAL_TAGS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN"),
    *("PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
"""UPOS (universaldependencies.org/u/pos)."""
_NAME, _FIRST = re.compile(r"(?:O|[BIES]-\S+)$"), re.compile(r"(?:O|[BS]-\S+)$")
_SCORES = {
    "Precision": ("P", lambda counts: divide(counts[..., 0], counts[..., 1])),
    "Recall": ("R", lambda counts: divide(counts[..., 0], counts[..., 2])),
    "F1 score": ("F1", lambda counts: divide(2 * counts[..., 0], counts[..., 1:].sum(axis=-1))),
}
"""SloBench's names for all and for one type; from numbers of right, predicted, true entities."""

Tags = dict[str, list[str]]
"""The tags of each sentence with blanks between them, by answer."""


@dataclass(frozen=True)
class _Token:
    """A line of a word, or the end of a sentence, where ``key`` is empty.

    ``key`` is what the release has too. A range of words in CoNLL-U has no ``tags``.
    """

    line: int
    key: str
    tags: tuple[str, ...] = ()


def find_tag_kind(release: Submission) -> Literal["ner", "pos"] | None:
    """The kind of a release by the ending of its files; None: they hold no words with tags."""
    endings = {PurePosixPath(file.name).suffix for file in release.files}
    return ENDINGS.get(endings.pop()) if len(endings) == 1 else None


def read_words(release: Submission) -> list[str]:
    """The sentences of a release, their words with a blank between them.

    Raises:
        DataError: a file cannot be read, or there is no word.
    """
    sentences = [
        " ".join("\u00a0".join(token.key.rpartition("\t")[2].split()) for token in sentence)
        for file in release.files
        for sentence in _split_sentences(_parse_release(file))
    ]
    if not sentences:
        raise DataError(
            "holds no words.", where=str(release.path), remedy="Name what SloBench wants tagged."
        )
    return sentences


def read_tags(submission: Submission, release: Submission) -> tuple[Tags, list[Finding]]:
    """The tags of a submission by sentences of the release, and everything that is wrong with it.

    Raises:
        DataError: the release cannot be read.
    """
    findings = check_files(submission, len(release.files))
    kind = ENDINGS[PurePosixPath(release.files[0].name).suffix]
    tags: Tags = {name: [] for name in COLUMNS[kind]}
    if findings:
        return tags, findings
    for file, part in zip(submission.files, release.files, strict=True):
        expected = _parse_release(part)
        tokens, faults = _parse(file, kind, answered=True)
        faults += [] if faults else _compare(file, tokens, expected, kind)
        findings += faults
        answers = iter([token.tags for token in tokens if token.tags])
        for sentence in [] if faults else _split_sentences(expected):
            of_words = [next(answers) for _ in sentence]
            for name, column in zip(tags, zip(*of_words, strict=True), strict=True):
                tags[name].append(" ".join(column))
    return tags, [*summarise_by_code(findings)]


def render_tags(
    source: Submission, answers: Sequence[str], column: str
) -> tuple[dict[str, str], list[str]]:
    """The files of a source with one of its columns answered, and sentences on what was changed.

    Whatever else a file has stays. An ``I-`` that continues no entity is written as ``B-``.

    Args:
        answers: the tags of each sentence.
        column: a name of :data:`COLUMNS`.
    """
    pairs = [
        (before, tag)
        for sentence in answers
        for before, tag in pairwise([OUTSIDE, *sentence.split()])
    ]
    begun = [column == NAMES and tag[0] == "I" and a[1:] != tag[1:] for a, tag in pairs]
    tags = iter([f"B{tag[1:]}" if b else tag for b, (_, tag) in zip(begun, pairs, strict=True)])
    texts = {}
    for file in source.files:
        lines, _ = read_lines(file)
        for token in _parse_release(file):
            if token.tags and column == NAMES:
                lines[token.line - 1] = f"{token.key} {next(tags)}"
            elif token.tags:
                fields = lines[token.line - 1].split("\t")
                fields[COLUMNS["pos"][column]] = next(tags)
                lines[token.line - 1] = "\t".join(fields)
        end = [""] if lines and lines[-1] else []
        texts[PurePosixPath(file.name).name] = "".join(f"{line}\n" for line in [*lines, *end])
    count = pluralise(sum(begun), "name")
    return texts, [f"{count} began with I-, which was written as B-."] if any(begun) else []


def score_tags(answers: Tags, references: Tags) -> dict[str, Interval]:
    """SloBench's scores in 0..1: of all entities and by type, or of each column of CoNLL-U.

    Where the words are the release's, precision, recall and F1 of UPOS and XPOS are one number.
    """
    intervals: dict[str, Interval] = {}
    for name, texts in answers.items():
        right = references[name]
        runs = [make_text_predictions(texts, right)]
        if name != NAMES:
            score = score_runs(runs, "token_accuracy")
            intervals[f"{name} F1 Score"] = confidence_interval(score)
            continue
        types, (counts,) = count_entities(right, [texts], strict=False)
        by_type = counts.astype(float).reshape(len(texts), 3, -1)
        tables = [by_type.sum(axis=2), *np.moveaxis(by_type, 2, 0)]
        for table, kind in zip(tables, ["", *types], strict=True):
            for metric, (short, from_sums) in _SCORES.items():
                score = score_sums(runs, [table], from_sums)
                intervals[f"{short} ({kind})" if kind else metric] = confidence_interval(score)
    return intervals


def choose_column(kind: str, label: str | None, labels: Sequence[str]) -> str | None:
    """The column of :data:`COLUMNS` that a task answers; None: SloBench has none for it.

    Args:
        kind: the kind of the release.
        label: the name of the task's column.
        labels: its tags.
    """
    if kind == "pos" and label in CONLLU_FIELDS:
        return label.upper() if label.upper() in COLUMNS[kind] else None
    if (kind == "ner") != all(map(_NAME.match, labels)):
        return None
    return NAMES if kind == "ner" else "UPOS" if set(labels) <= {*UNIVERSAL_TAGS} else "XPOS"


def _parse_release(file: File) -> list[_Token]:
    kind = ENDINGS[PurePosixPath(file.name).suffix]
    tokens, faults = _parse(file, kind, answered=False)
    if faults:
        raise DataError(faults[0].what, where=faults[0].where, remedy=faults[0].remedy)
    return [*tokens, _Token(0, "")] if tokens and tokens[-1].key else tokens


def _parse(file: File, kind: str, *, answered: bool) -> tuple[list[_Token], list[Finding]]:
    """The words and the ends of sentences; ``answered``: each word has its tag."""
    lines, faults = read_lines(file)
    findings = [fault for fault in faults if fault.code != "empty-line"]
    tokens: list[_Token] = []

    def add_error(code: str, what: str, remedy: str) -> None:
        findings.append(Finding("error", code, f"{file.where} line {number}", what, remedy))

    for number, line in enumerate(lines, 1):
        if not line or (kind == "ner" and not line.strip()):
            tokens.append(_Token(number, ""))
        elif kind == "ner":
            word, *tags = line.strip(" \t").split(" ") if answered else re.split("[ \t]+", line)
            if answered and (len(tags) != 1 or "\t" in line):
                add_error(
                    "wrong-shape", "is not a word, one blank and its tag.", "Write: Ana B-PER"
                )
            elif answered and not (_NAME if tokens and tokens[-1].key else _FIRST).match(tags[0]):
                remedy = "Write O, or B- or I- and a type; a sentence begins with no I-."
                add_error("wrong-label", f'"{tags[0]}" is no tag of a name here.', remedy)
            else:
                tokens.append(_Token(number, word, (tags[0] if answered else OUTSIDE,)))
        elif not line.startswith("#") or (tokens and tokens[-1].key):
            fields = line.split("\t")
            if len(fields) != len(CONLLU_FIELDS):
                what = f"has {len(fields)} fields; CoNLL-U has {len(CONLLU_FIELDS)}."
                add_error("wrong-shape", what, "Put one tab between each two, and _ where nothing.")
            elif "." not in fields[0]:
                cells = ["_".join(fields[place].split()) for place in COLUMNS[kind].values()]
                tags = [] if "-" in fields[0] else [cell or "_" for cell in cells]
                tokens.append(_Token(number, f"{fields[0]}\t{fields[1]}", tuple(tags)))
    return tokens, findings


def _split_sentences(tokens: Sequence[_Token]) -> list[list[_Token]]:
    sentences: list[list[_Token]] = [[]]
    for token in tokens:
        if not token.key:
            sentences.append([])
        elif token.tags:
            sentences[-1].append(token)
    return [sentence for sentence in sentences if sentence]


def _compare(
    file: File, tokens: Sequence[_Token], expected: Sequence[_Token], kind: str
) -> list[Finding]:
    """The first place where the words are not the release's; ends of sentences in CoNLL-U too."""
    sides = [[t for t in side if t.key or kind == "pos"] for side in (tokens, expected)]
    end = _Token(tokens[-1].line if tokens else 1, "nothing more")
    for token, right in zip_longest(*sides, fillvalue=end):
        if token.key != right.key or (token is end) != (right is end):
            keys = [t.key.replace("\t", " ") or "the end of a sentence" for t in (token, right)]
            what = f"has {keys[0]} where the release has {keys[1]}."
            remedy = "Answer the words of the release, all of them, in its order."
            where = f"{file.where} line {token.line}"
            return [Finding("error", "other-words", where, what, remedy)]
    return []
