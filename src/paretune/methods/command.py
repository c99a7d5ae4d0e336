"""A program of the user as a method: it trains and answers, paretune decides.

Its words are split as ``shlex`` does, never by a shell, and :data:`PLACEHOLDERS` in them are filled
after that. Parts of the data are given as JSON Lines (:func:`describe_row`), answers come back in
:data:`ANSWERS_FILE` (:func:`read_answers`). :mod:`paretune.execution.command` starts and ends it.

A row of a file has ``id`` and, as far as the task has them, ``text``, ``text_pair``, ``choices``,
``features``, ``messages``, ``group``, ``question`` and ``label``: a name, a list of names or of
tags, a number, or a text. The files of train and validation have labels, that of test has none.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from pydantic import Field, field_validator

from paretune.data.columns import cell_text, parse_number
from paretune.data.rows import parse_json_lines, read_text
from paretune.errors import MethodError, StudyError, spell_option
from paretune.methods.core.method import Baseline
from paretune.methods.core.options import MethodOptions
from paretune.metrics.classification import LABEL_SET, write_label_set
from paretune.objectives import ModelPredictions, Objective, TargetScale
from paretune.study import MethodSpec, digest
from paretune.terminal.plural import pluralise

if TYPE_CHECKING:
    from paretune.answers import Answer
    from paretune.data.example import Dataset
    from paretune.objectives.example import Example

PLACEHOLDERS = ("train", "validation", "test", "out", "seed", "learning_rate", "model")
"""The words of a command may name these in braces: files of rows, an empty folder for answers, seed
and rate of the run, the folder of the study's model."""
NEEDED = ("test", "out")
"""A command without these placeholders cannot answer."""
ANSWERS_FILE = "predictions.jsonl"
MAX_ANSWERS_BYTES = 1 << 30
MAX_SCRIPT_BYTES = 1 << 24
"""Larger files among the words are data or weights, and are not read."""
NAMED = 5
"""Ids or labels that an error names."""
_BRACES = re.compile(r"\{([A-Za-z_]\w*)\}")


class CommandOptions(MethodOptions):
    """``run``: the command line. ``timeout``: seconds after which a run of it fails. ``folder``: in
    which it runs; that of the study file, where none is named. ``version``: to be raised when what
    it starts has changed: only changes of files that ``run`` itself names are seen.
    """

    run: str = ""
    timeout: float | None = Field(default=None, gt=0)
    folder: str = ""
    version: int | str = 1

    @field_validator("run")
    @classmethod
    def _check_words(cls, run: str) -> str:
        named = _BRACES.findall(" ".join(shlex.split(run)))
        if unknown := [name for name in named if name not in PLACEHOLDERS]:
            raise ValueError(f"{{{unknown[0]}}} is none of {_list_placeholders(PLACEHOLDERS)}")
        missing = [name for name in NEEDED if name not in named]
        if run and missing:
            raise ValueError(
                f"{_list_placeholders(missing)} is missing: it has to answer the rows of {{test}} "
                f"in {{out}}/{ANSWERS_FILE}"
            )
        return run

    @property
    def words(self) -> list[str]:
        """The command and its arguments, before anything is filled in."""
        return shlex.split(self.run)

    def names(self, placeholder: str) -> bool:
        """Whether it is given this."""
        return f"{{{placeholder}}}" in self.run

    def fill(self, values: Mapping[str, object]) -> list[str]:
        """The words with values in place of the placeholders; each stays one word."""
        return [_BRACES.sub(lambda match: str(values[match[1]]), word) for word in self.words]

    def hash_scripts(self) -> str:
        """Hash the files that its words name, but no program on an absolute path."""
        hashes = []
        for place, word in enumerate(self.words):
            path = Path(self.folder, word)
            skipped = _BRACES.search(word) or (place == 0 and Path(word).is_absolute())
            if not skipped and path.is_file() and path.stat().st_size <= MAX_SCRIPT_BYTES:
                hashes.append([word, hashlib.sha256(path.read_bytes()).hexdigest()])
        return digest(hashes)


def _list_placeholders(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


def refuse_to_fit(
    train: Sequence[Example], num_labels: int, options: CommandOptions, seed: int
) -> NoReturn:
    """A command answers the rows of its runs alone.

    Raises:
        MethodError: always.
    """
    raise MethodError(
        "a command answers the rows of its study alone.",
        where=options.run,
        remedy="Start it yourself with other rows.",
    )


METHOD = Baseline("command", "command", refuse_to_fit, options=CommandOptions)


def refuse_commands(commands: Sequence[MethodSpec], *, allowed: bool) -> None:
    """Refuse to start programs that a study names, unless the user has allowed it.

    Raises:
        StudyError: with the commands.
    """
    if commands and not allowed:
        listed = "; ".join(f"{method.key}: {method.options.get('run')}" for method in commands)
        raise StudyError(
            f"the study starts commands, which can do all that you can: {listed}.",
            remedy=f"If you trust them, add {spell_option('allow_commands', True)}.",
        )


def describe_command(method: MethodSpec) -> str:
    """A command as the study file has it, and where it runs."""
    options = CommandOptions.model_validate(method.options)
    return f"{options.run} (in {options.folder or '.'})"


def name_row(example: Example, dataset: Dataset) -> str:
    """The id of an example in the files of a command: of external data that of the user."""
    return example.segments[0][0] if dataset.objective.is_external else example.uid


def describe_row(example: Example, dataset: Dataset, *, labelled: bool) -> dict[str, object]:
    """An example as a line of the files that a command gets."""
    row: dict[str, object] = {"id": name_row(example, dataset)}
    if not dataset.objective.is_external:
        (text, pair), *further = example.segments
        row["text"] = text
        if further:
            row["choices"] = [choice for _, choice in example.segments]
        elif pair is not None:
            row["text_pair"] = pair
    if example.features:
        row["features"] = dict(zip(dataset.features, example.features, strict=True))
    if example.messages:
        row["messages"] = [{"role": who, "content": text} for who, text in example.messages]
    row |= {key: v for key in ("group", "question") if (v := getattr(example, key)) is not None}
    if labelled:
        row["label"] = _describe_label(example, dataset)
    return row


def _describe_label(example: Example, dataset: Dataset) -> object:
    objective, reference = dataset.objective, dataset.objective.reference(example)
    if objective.target_types == (LABEL_SET,):
        present = zip(dataset.labels, str(reference), strict=True)
        return [label for label, has in present if has == "1"]
    if objective.predicts_labels and isinstance(reference, int):
        return dataset.labels[reference]
    if objective.head == "token_classification":
        return str(reference).split()
    return reference


@dataclass(frozen=True)
class CommandAnswer:
    """The answer of a command to one row: ``scores`` of the labels, in their order, or ()."""

    prediction: Answer
    scores: tuple[float, ...] = ()


def read_answers(
    path: Path, examples: Mapping[str, Example], dataset: Dataset
) -> dict[str, CommandAnswer]:
    """The answers to all examples, by id.

    Args:
        examples: that were to be answered, by id.

    Raises:
        ParetuneError: no file or a broken one; a row that is missing, unknown or there twice; an
            answer that is none of the task's.
    """
    if not path.is_file():
        raise MethodError(f"it left no {ANSWERS_FILE} in {{out}}.")
    if path.stat().st_size > MAX_ANSWERS_BYTES:
        raise MethodError(f"its {ANSWERS_FILE} is larger than {MAX_ANSWERS_BYTES >> 20} MiB.")
    text, _ = read_text(path)
    answers: dict[str, CommandAnswer] = {}
    for number, row in parse_json_lines(text, ANSWERS_FILE):
        uid = str(row.get("id"))
        try:
            if uid not in examples:
                raise ValueError(f'answers "{uid}", which is no id of the test file')
            if uid in answers:
                raise ValueError(f'answers "{uid}" a second time')
            prediction = _read_prediction(row.get("prediction"), examples[uid], dataset)
            scores = _read_scores(row.get("scores"), examples[uid], dataset)
        except ValueError as error:
            raise MethodError(f"{error}.", where=f"{ANSWERS_FILE} line {number}") from None
        answers[uid] = CommandAnswer(prediction, scores)
    if missing := [uid for uid in examples if uid not in answers]:
        raise MethodError(
            f"{ANSWERS_FILE} lacks {len(missing):,} of {pluralise(len(examples), 'row')}: "
            f"{_join(missing)}."
        )
    if len({bool(answer.scores) for answer in answers.values()}) > 1:
        raise MethodError(f"some rows of {ANSWERS_FILE} have scores, and others have none.")
    return answers


def _read_scores(scores: object, example: Example, dataset: Dataset) -> tuple[float, ...]:
    """The score of each label, in their order; () where there are none."""
    if scores is None:
        return ()
    if not (dataset.objective.predicts_labels or dataset.objective.target_types == (LABEL_SET,)):
        raise ValueError("has scores, and the task has no labels that they could be of")
    labels = _list_labels(example, dataset)
    if not isinstance(scores, Mapping) or set(scores) != set(labels):
        raise ValueError(f"has scores of other labels than {_join(labels)}")
    numbers = [parse_number(scores[label]) for label in labels]
    finite = tuple(number for number in numbers if number is not None)
    if len(finite) < len(labels):
        raise ValueError("has a score that is no finite number")
    return finite


def _read_prediction(value: object, example: Example, dataset: Dataset) -> Answer:
    objective, labels = dataset.objective, _list_labels(example, dataset)
    if objective.scales_targets:
        number = parse_number(value)
        if number is None:
            raise ValueError(f"predicts {value!r}, which is no finite number")
        return number
    if objective.head == "token_classification":
        tags = value.split() if isinstance(value, str) else value
        words = example.segments[0][0].split(" ")
        if not isinstance(tags, list) or len(tags) != len(words):
            raise ValueError(f"predicts {value!r}, not a tag for each of {len(words)} words")
        _require_labels(tags, labels)
        return " ".join(tags)
    if objective.target_types == (LABEL_SET,):
        if not isinstance(value, list):
            raise ValueError(f"predicts {value!r}, not a list of labels")
        _require_labels(value, labels)
        return write_label_set(label in value for label in labels)
    if objective.generates:
        if not isinstance(value, str):
            raise ValueError(f"predicts {value!r}, which is no text")
        return value
    label = cell_text(value)
    _require_labels([label], labels)
    return labels.index(str(label))


def _list_labels(example: Example, dataset: Dataset) -> tuple[str, ...]:
    choices = len(example.segments)
    return dataset.labels[:choices] if choices > 1 else dataset.labels


def _require_labels(values: Sequence[object], labels: Sequence[str]) -> None:
    for value in values:
        if value not in labels:
            raise ValueError(f"predicts {value!r}, which is none of the labels {_join(labels)}")


def _join(labels: Sequence[str]) -> str:
    return f"{', '.join(labels[:NAMED])}{' ...' if len(labels) > NAMED else ''}"


def build_predictions(
    answers: Sequence[CommandAnswer],
    examples: Sequence[Example],
    objective: Objective,
    scale: TargetScale | None,
) -> ModelPredictions:
    """The predictions of one part.

    Args:
        answers: to the examples, in their order.
        scale: of the training part's numbers, where the task has numbers.
    """
    predictions = [answer.prediction for answer in answers]
    if objective.generates or objective.head == "token_classification":
        return replace(objective.predict(predictions, examples, None), prediction=predictions)
    has_loss = scale is not None or bool(answers[0].scores)
    scores: Sequence[Sequence[float]] = [answer.scores for answer in answers]
    if scale is not None:
        scores = [[(float(number) - scale.mean) / scale.deviation] for number in predictions]
    elif not has_loss and objective.target_types == (LABEL_SET,):  # whose metrics rank labels
        scores = [[float(has) - 0.5 for has in str(labels)] for labels in predictions]
    elif not has_loss:
        return ModelPredictions(predictions, [[] for _ in predictions], None)
    computed = objective.predict(np.array(scores), examples, scale)
    return replace(computed, prediction=predictions, loss=computed.loss if has_loss else None)
