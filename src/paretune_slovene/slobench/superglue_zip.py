"""A SuperGLUE submission: six files of answers, read strictly against a release, and written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from paretune.data.finding import Finding, summarise_by_code
from paretune.data.rows import parse_json_lines
from paretune.errors import DataError, spell_option
from paretune.files import data_home
from paretune_slovene.slobench.official_scores import LABELS, Answers, Key, Label
from paretune_slovene.slobench.submission import (
    File,
    Submission,
    open_submission,
    read_lines,
    write_zip,
)

FILES = {task: f"{task}.jsonl" for task in LABELS}
_SHAPES = (
    '{"idx": 0, "label": ...}',
    '{"idx": 0, "passage": {"questions": [{"idx": 0, "answers": [{"idx": 0, "label": 0}]}]}}',
)


def open_release(path: Path | None) -> Submission:
    """A release: ``qa_test.zip`` or a folder with it, or CLARIN's layout, one folder per task.

    Args:
        path: path of a release, or of the one file of a translation task; None: the release of
            ``paretune data fetch superglue-sl``.

    Raises:
        DataError: there is none.
    """
    if path is None:
        path = data_home() / "superglue-sl"
        if not (path / "qa_test.zip").is_file():
            raise DataError(
                "the release is not there.",
                where=str(path),
                remedy="Run `paretune data fetch superglue-sl`, or name it: "
                f"{spell_option('release', 'PATH')}.",
            )
    for inside in (path / "qa_test.zip", path / "qa_test"):
        if inside.exists():
            return open_submission(inside)
    tasks = {task: path / task / "test.jsonl" for task in FILES}
    if any(file.is_file() for file in tasks.values()):
        files = [
            File(FILES[task], f"{task}/test.jsonl", file.read_bytes())
            for task, file in tasks.items()
            if file.is_file()
        ]
        return Submission(path, False, tuple(files), ())
    return open_submission(path)


def read_answers(
    submission: Submission, release: Submission
) -> tuple[dict[str, dict[Key, Label]], list[Finding]]:
    """The answers to each task, and everything that is wrong with them.

    Args:
        release: the same six files with the rows to answer.

    Raises:
        DataError: the release lacks a file, or is not a release.
    """
    findings = list(_find_stray_files(submission))
    answers: dict[str, dict[Key, Label]] = {}
    for task, name in FILES.items():
        rows = read_rows(release, task)
        files = submission.files_named(name)
        if len(files) != 1:
            what = f"holds no {name} at its root." if not files else f"holds {name} twice."
            remedy = f"It has to hold each of {', '.join(FILES.values())} once."
            findings.append(Finding("error", "missing-file", submission.path.name, what, remedy))
            continue
        answers[task], faults = _read_task(task, files[0], rows)
        findings += summarise_by_code(faults)
    return answers, findings


def read_rows(release: Submission, task: str) -> dict[Key, object]:
    """The rows of a release or reference with their labels as written; None without a label.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    files = release.files_named(FILES[task])
    if len(files) != 1:
        raise DataError(
            f"holds no {FILES[task]} at its root.",
            where=str(release.path),
            remedy="Name the release's qa_test.zip, a folder with it, or one with the six files.",
        )
    cells, faults = _parse_lines(task, files[0])
    if faults:
        raise DataError(faults[0].what, where=faults[0].where, remedy=faults[0].remedy)
    return {key: label for _, key, label in cells}


def read_references(release: Submission) -> dict[str, dict[Key, Label]]:
    """The correct answers.

    Raises:
        DataError: a file is missing, or a row has no label of its task.
    """
    references: dict[str, dict[Key, Label]] = {}
    for task in LABELS:
        references[task] = {}
        for key, value in read_rows(release, task).items():
            label = _canonical_label(task, value)
            if label is None:
                raise DataError(
                    f"{_describe_key(key)} has no label of {task} ({json.dumps(value)}).",
                    where=f"{release.path}: {FILES[task]}",
                    remedy="A reference has a label in every row; published test files have none.",
                )
            references[task][key] = label
    return references


def write_answers(path: Path, answers: Mapping[str, Answers]) -> Path:
    """Write a submission; the same answers always give the same bytes.

    Args:
        path: of the zip, which is replaced.
        answers: for each of the six tasks the label of every row, spelled as in
            :data:`paretune_slovene.slobench.official_scores.LABELS`; keys of MultiRC are
            ``(passage, question, answer)``.

    Raises:
        ValueError: a task is missing or unknown, or a key or label is not of its task.
        OSError: it cannot be written.
    """
    if answers.keys() != LABELS.keys():
        raise ValueError(f"answers of {sorted(answers)}; a submission has {sorted(LABELS)}")
    return write_zip(path, {FILES[task]: render_answers(task, answers[task]) for task in LABELS})


def render_answers(task: str, answers: Answers) -> str:
    """The file of one task.

    Raises:
        ValueError: a key or label is not of the task.
    """
    lines = []
    nested: dict[int, dict[int, list[dict[str, Label]]]] = {}
    for key in sorted(answers, key=lambda key: key if isinstance(key, tuple) else (key,)):
        label = answers[key]
        if not _is_label(task, label):
            place = f"{task}, {_describe_key(key)}"
            raise ValueError(f"{place}: label {label!r} is not one of {LABELS[task]}")
        if isinstance(key, tuple) != (task == "MultiRC"):
            raise ValueError(f"{task}: {key!r} is no key of its rows")
        if isinstance(key, tuple):
            passage, question, answer = key
            questions = nested.setdefault(passage, {})
            questions.setdefault(question, []).append({"idx": answer, "label": label})
        else:
            lines.append(json.dumps({"idx": key, "label": label}))
    for passage, questions in nested.items():
        listed = [{"idx": idx, "answers": entries} for idx, entries in questions.items()]
        lines.append(json.dumps({"idx": passage, "passage": {"questions": listed}}))
    return "".join(f"{line}\n" for line in lines)


def _find_stray_files(submission: Submission) -> Iterator[Finding]:
    """Files of no task, which SloBench ignores; it also misses a task in a folder."""
    for file in submission.files:
        if file.name in FILES.values():
            continue
        name = PurePosixPath(file.name).name
        remedy = "Remove it; SloBench passes over it."
        if name in FILES.values():
            remedy = "SloBench looks at the root only: zip the files, not their folder."
        yield Finding("warning", "stray-file", file.where, "is no file of a task.", remedy)
    for name in submission.litter:
        where = f"{submission.path.name}::{name}"
        remedy = "Leave it out: zip -X on macOS."
        yield Finding("warning", "litter", where, "was left by the system.", remedy)


def _read_task(
    task: str, file: File, release_rows: Mapping[Key, object]
) -> tuple[dict[Key, Label], list[Finding]]:
    cells, findings = _parse_lines(task, file)
    answers: dict[Key, Label] = {}
    first_lines: dict[Key, int] = {}

    def add_error(code: str, number: int, what: str, remedy: str) -> None:
        findings.append(Finding("error", code, f"{file.where} line {number}", what, remedy))

    for number, key, label in cells:
        place = _describe_key(key)
        if key in first_lines:
            what = f"answers {place} again (first in line {first_lines[key]})."
            add_error("repeated-id", number, what, "Keep one of them.")
        elif key not in release_rows:
            remedy = "Remove it; idx is that of the test file."
            add_error("unknown-id", number, f"{place} is no row of the release.", remedy)
        elif isinstance(label, str | int) and _is_label(task, label):
            answers[key] = label
        else:
            what, remedy = _describe_wrong_label(task, label)
            add_error("wrong-label", number, f"{place}: {what}", remedy)
        first_lines.setdefault(key, number)
    missing = [key for key in release_rows if key not in first_lines]
    if missing:
        some = "; ".join(map(_describe_key, missing[:5])) + (" ..." if len(missing) > 5 else "")
        total = len(release_rows)
        what = f"answers {total - len(missing)} of {total}; missing: {some}."
        remedy = "SloBench refuses a task unless every row of its test file is answered."
        findings.append(Finding("error", "missing-rows", file.where, what, remedy))
    return answers, findings


def _parse_lines(task: str, file: File) -> tuple[list[tuple[int, Key, object]], list[Finding]]:
    """Line, key and label of everything that a file answers, and what cannot be read."""
    lines, findings = read_lines(file)
    cells: list[tuple[int, Key, object]] = []
    for number, line in enumerate(lines, 1):
        where = f"{file.where} line {number}"
        try:
            for _, row in parse_json_lines(line, file.where):
                cells += [(number, key, label) for key, label in _parse_row(task, row)]
        except DataError as error:
            findings.append(Finding("error", "not-json", where, error.what, error.remedy))
        except ValueError as error:
            remedy = f"A line is {_SHAPES[task == 'MultiRC']}."
            findings.append(Finding("error", "wrong-shape", where, f"{error}.", remedy))
    return cells, findings


def _describe_wrong_label(task: str, label: object) -> tuple[str, str]:
    labels = ", ".join(json.dumps(label) for label in LABELS[task])
    what = f"label {json.dumps(label, ensure_ascii=False)} is not one of {labels}."
    intended = _canonical_label(task, label)
    if intended is not None:
        return what, f"Write {json.dumps(intended)} exactly so."
    return what, f"Write {json.dumps(LABELS[task][0])}, or another of them, exactly so."


def _parse_row(task: str, row: Mapping[str, object]) -> Iterator[tuple[Key, object]]:
    """Key and label of what a line answers: one, or all answers of a passage."""
    idx = _parse_idx(row, "the row")
    if task != "MultiRC":
        yield idx, row.get("label")
        return
    passage = row.get("passage")
    if not isinstance(passage, dict):
        raise ValueError('has no "passage" with "questions"')
    for question in _parse_objects(passage, "questions"):
        number = _parse_idx(question, "a question")
        for answer in _parse_objects(question, "answers"):
            yield (idx, number, _parse_idx(answer, "an answer")), answer.get("label")


def _parse_objects(row: Mapping[str, object], name: str) -> list[dict[str, object]]:
    value = row.get(name)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f'has no list "{name}" where one belongs')
    return value


def _parse_idx(row: Mapping[str, object], what: str) -> int:
    value = row.get("idx")
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f'{what} has no whole number "idx"')
    return value


def _is_label(task: str, label: Label) -> bool:
    """Whether it is spelled as SloBench has it: not ``true`` for ``"true"`` nor for 1."""
    return type(label) is type(LABELS[task][0]) and label in LABELS[task]


def _canonical_label(task: str, label: object) -> Label | None:
    """The label that is meant, where only its spelling differs: ``true`` for ``"true"``."""
    for intended in LABELS[task]:
        if isinstance(intended, int):
            if label == intended and not isinstance(label, bool):
                return intended
        elif str(label).lower() == intended.lower() and isinstance(label, (str, bool)):
            return intended
    return None


def _describe_key(key: Key) -> str:
    if isinstance(key, tuple):
        return "passage {}, question {}, answer {}".format(*key)
    return f"idx {key}"
