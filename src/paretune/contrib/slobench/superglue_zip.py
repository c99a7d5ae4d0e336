"""A SuperGLUE submission: six files of answers, read strictly against a release, and written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from paretune.contrib.slobench.official_scores import LABELS, Answers, Key, Label
from paretune.contrib.slobench.submission import File, Submission, read_lines, write_zip
from paretune.data.finding import Finding, truncate_findings
from paretune.data.formats import jsonl
from paretune.errors import DataError

FILES = {task: f"{task}.jsonl" for task in LABELS}


def read_answers(
    submission: Submission, release: Submission
) -> tuple[dict[str, dict[Key, Label]], list[Finding]]:
    """The answers of each task, and everything that is wrong with them.

    Args:
        submission: what is handed in.
        release: the same six files with the rows that want an answer.

    Raises:
        DataError: the release lacks a file, or is not what it should be.
    """
    found = list(_find_stray_files(submission))
    answers: dict[str, dict[Key, Label]] = {}
    for task, name in FILES.items():
        wanted = read_rows(release, task)
        files = submission.files_named(name)
        if len(files) != 1:
            what = f"holds no {name} at its root." if not files else f"holds {name} twice."
            remedy = f"It has to hold each of {', '.join(FILES.values())} once."
            found.append(Finding("error", "missing-file", submission.path.name, what, remedy))
            continue
        answers[task], faults = _read_task(task, files[0], wanted)
        for code in dict.fromkeys(fault.code for fault in faults):
            found += truncate_findings([fault for fault in faults if fault.code == code])
    return answers, found


def read_rows(release: Submission, task: str) -> dict[Key, object]:
    """The rows of a release or reference with their labels as they stand there; None without.

    Raises:
        DataError: there is no such file, or it is not one.
    """
    files = release.files_named(FILES[task])
    if len(files) != 1:
        raise DataError(
            f"holds no {FILES[task]} at its root.",
            where=str(release.path),
            remedy="Name the release's qa_test.zip, a folder with it, or one with the six files.",
        )
    text, faults = read_lines(files[0])
    if faults:
        raise DataError(faults[0].what, where=faults[0].where, remedy=faults[0].remedy)
    found: dict[Key, object] = {}
    for number, line in enumerate(text, 1):
        where = f"{files[0].where} line {number}"
        try:
            for _, row in jsonl.parse_rows(line, files[0].where):
                found.update(_parse_row(task, row))
        except DataError as error:
            raise DataError(error.what, where=where, remedy=error.remedy) from None
        except ValueError as error:
            raise DataError(f"{error}.", where=where, remedy="Fetch it again.") from None
    return found


def read_references(release: Submission) -> dict[str, dict[Key, Label]]:
    """The right answers.

    Raises:
        DataError: a file is missing, or a row has no label of its task.
    """
    found: dict[str, dict[Key, Label]] = {}
    for task in LABELS:
        found[task] = {}
        for key, value in read_rows(release, task).items():
            label = _canonical_label(task, value)
            if label is None:
                raise DataError(
                    f"{_describe_key(key)} has no label of {task} ({json.dumps(value)}).",
                    where=f"{release.path}: {FILES[task]}",
                    remedy="A reference has a label in every row; published test files have none.",
                )
            found[task][key] = label
    return found


def write_answers(path: Path, answers: Mapping[str, Answers]) -> Path:
    """Write a submission; the same answers always give the same bytes.

    Args:
        path: of the zip; what is there is replaced.
        answers: for each of the six tasks the label of every row, spelled as in
            :data:`paretune.contrib.slobench.official_scores.LABELS`; MultiRC's keys are ``(passage,
            question, answer)``.

    Raises:
        ValueError: a task is missing or unknown, a key or a label is not of its task.
    """
    if answers.keys() != LABELS.keys():
        raise ValueError(f"answers of {sorted(answers)}; a submission has {sorted(LABELS)}")
    return write_zip(path, {FILES[task]: _render_answers(task, answers[task]) for task in LABELS})


def _render_answers(task: str, answers: Answers) -> str:
    written = []
    nested: dict[int, dict[int, list[dict[str, Label]]]] = {}
    for key in sorted(answers, key=lambda key: key if isinstance(key, tuple) else (key,)):
        label = answers[key]
        if type(label) is not type(LABELS[task][0]) or label not in LABELS[task]:
            raise ValueError(
                f"{task}, {_describe_key(key)}: label {label!r} is not one of {LABELS[task]}"
            )
        if isinstance(key, tuple) != (task == "MultiRC"):
            raise ValueError(f"{task}: {key!r} is no key of its rows")
        if isinstance(key, tuple):
            passage, question, answer = key
            questions = nested.setdefault(passage, {})
            questions.setdefault(question, []).append({"idx": answer, "label": label})
        else:
            written.append(json.dumps({"idx": key, "label": label}))
    for passage, questions in nested.items():
        inside = [{"idx": idx, "answers": found} for idx, found in questions.items()]
        written.append(json.dumps({"idx": passage, "passage": {"questions": inside}}))
    return "".join(f"{line}\n" for line in written)


def _find_stray_files(submission: Submission) -> Iterator[Finding]:
    """Files that no task has. SloBench passes over them; a task in a folder it does not find."""
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
    task: str, file: File, wanted: Mapping[Key, object]
) -> tuple[dict[Key, Label], list[Finding]]:
    text, found = read_lines(file)
    answers: dict[Key, Label] = {}
    seen: dict[Key, int] = {}

    def fault(code: str, number: int, what: str, remedy: str) -> None:
        found.append(Finding("error", code, f"{file.where} line {number}", what, remedy))

    for number, line in enumerate(text, 1):
        try:
            cells = [
                cell
                for _, row in jsonl.parse_rows(line, file.where)
                for cell in _parse_row(task, row)
            ]
        except DataError as error:
            fault("not-json", number, error.what, error.remedy)
            continue
        except ValueError as error:
            fault("wrong-shape", number, f"{error}.", f"A line is {_SHAPES[task == 'MultiRC']}.")
            continue
        for key, label in cells:
            if key in seen:
                what = f"answers {_describe_key(key)} again (first in line {seen[key]})."
                fault("repeated-id", number, what, "Keep one of them.")
            elif key not in wanted:
                what = f"{_describe_key(key)} is no row of the release."
                fault("unknown-id", number, what, "Remove it; idx is that of the test file.")
            elif type(label) is not type(LABELS[task][0]) or label not in LABELS[task]:
                shown = json.dumps(label, ensure_ascii=False)
                listed = ", ".join(json.dumps(known) for known in LABELS[task])
                meant = _canonical_label(task, label)
                remedy = f"Write {json.dumps(meant if meant is not None else LABELS[task][0])}"
                remedy += (
                    " exactly so." if meant is not None else ", or another of them, exactly so."
                )
                fault("wrong-label", number, f"{_describe_key(key)}: label {shown} is not one of {listed}.",
                      remedy)  # fmt: skip
            else:
                answers[key] = label
            seen.setdefault(key, number)
    missing = [key for key in wanted if key not in seen]
    if missing:
        some = "; ".join(map(_describe_key, missing[:5])) + (" ..." if len(missing) > 5 else "")
        what = f"answers {len(wanted) - len(missing)} of {len(wanted)}; missing: {some}."
        remedy = "SloBench refuses a task unless every row of its test file is answered."
        found.append(Finding("error", "missing-rows", file.where, what, remedy))
    return answers, found


_SHAPES = (
    '{"idx": 0, "label": ...}',
    '{"idx": 0, "passage": {"questions": [{"idx": 0, "answers": [{"idx": 0, "label": 0}]}]}}',
)


def _parse_row(task: str, row: Mapping[str, object]) -> Iterator[tuple[Key, object]]:
    """Key and label of what a line answers: one, or all answers of a passage."""
    idx = _idx(row, "the row")
    if task != "MultiRC":
        yield idx, row.get("label")
        return
    passage = row.get("passage")
    if not isinstance(passage, dict):
        raise ValueError('has no "passage" with "questions"')
    for question in _objects(passage, "questions"):
        number = _idx(question, "a question")
        for answer in _objects(question, "answers"):
            yield (idx, number, _idx(answer, "an answer")), answer.get("label")


def _objects(inside: Mapping[str, object], name: str) -> list[dict[str, object]]:
    found = inside.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError(f'has no list "{name}" where one belongs')
    return found


def _idx(row: Mapping[str, object], what: str) -> int:
    found = row.get("idx")
    if not isinstance(found, int) or isinstance(found, bool):
        raise ValueError(f'{what} has no whole number "idx"')
    return found


def _canonical_label(task: str, label: object) -> Label | None:
    """The label that is meant, where it is merely spelled otherwise: ``true`` for ``"true"``."""
    for known in LABELS[task]:
        if isinstance(known, int):
            if label == known and not isinstance(label, bool):
                return known
        elif str(label).lower() == known.lower() and isinstance(label, (str, bool)):
            return known
    return None


def _describe_key(key: Key) -> str:
    if isinstance(key, tuple):
        return "passage {}, question {}, answer {}".format(*key)
    return f"idx {key}"
