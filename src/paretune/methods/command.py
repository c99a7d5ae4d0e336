"""A program of the user as a method: it trains and answers, paretune decides.

Its words are split as ``shlex`` does, never by a shell, and :data:`PLACEHOLDERS` in them are filled
after that. Parts of the data are given as JSON Lines (:func:`describe_row`), answers come back in
:data:`ANSWERS_FILE` (:func:`read_answers`). What starts it and ends it is in
:mod:`paretune.execution.command`.

A row of a file has ``id`` and, as far as the task has them, ``text``, ``text_pair``, ``choices``,
``features``, ``messages``, ``group``, ``question`` and ``label``: a name, a list of names or of
tags, a number, or a text. The files of train and validation have labels, that of test has none.
"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from pydantic import Field

from paretune.data.columns import cell_text, parse_number
from paretune.data.rows import parse_json_lines, read_text
from paretune.errors import MethodError, StudyError, spell_option
from paretune.methods.core.method import Baseline, ConfiguredBaseline
from paretune.methods.core.options import MethodOptions
from paretune.metrics.classification import LABEL_SET, write_label_set
from paretune.objectives import ModelPredictions, Objective, TargetScale
from paretune.study import MethodSpec, digest
from paretune.terminal.plural import pluralise

if TYPE_CHECKING:
    from paretune.answers import Answer
    from paretune.data.example import Dataset
    from paretune.methods.core.method import Rates
    from paretune.models.structure.topology import Topology
    from paretune.objectives.example import Example

PLACEHOLDERS: Mapping[str, str] = {
    "train": "file of the rows to train on",
    "validation": "file of the rows to select by",
    "test": "file of the rows to answer, without labels",
    "out": "empty folder for answers",
    "seed": "of the run",
    "learning_rate": "of the run",
    "model": "folder of the study's model",
}
"""What the words of a command may name in braces."""
NEEDED = ("test", "out")
"""Those without which there is no answer."""
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

    @property
    def draws_seed(self) -> bool:
        """As far as is known."""
        return True

    @property
    def words(self) -> list[str]:
        """The command and its arguments, before anything is filled in.

        Raises:
            ValueError: a quotation is not closed.
        """
        return shlex.split(self.run)

    @property
    def placeholders(self) -> list[str]:
        """What stands in braces, each once."""
        return list(dict.fromkeys(name for word in self.words for name in _BRACES.findall(word)))

    @property
    def reads_model(self) -> bool:
        """Whether it is given the study's model."""
        return "model" in self.placeholders

    def fill(self, values: Mapping[str, object]) -> list[str]:
        """The words with values in place of the placeholders; each stays one word."""
        return [_BRACES.sub(lambda match: str(values[match[1]]), word) for word in self.words]

    def hash_scripts(self) -> str:
        """Of the files that its words name, but not of a program on an absolute path."""
        hashes = []
        for place, word in enumerate(self.words):
            path = Path(self.folder, word)
            skipped = _BRACES.search(word) or (place == 0 and Path(word).is_absolute())
            if not skipped and path.is_file() and path.stat().st_size <= MAX_SCRIPT_BYTES:
                hashes.append([word, hashlib.sha256(path.read_bytes()).hexdigest()])
        return digest(hashes)


@dataclass(frozen=True)
class ConfiguredCommand(ConfiguredBaseline):
    """A command with checked options."""

    @property
    def learns(self) -> bool:
        """Whether it takes a learning rate."""
        return "learning_rate" in self.options.placeholders

    @property
    def is_compared(self) -> bool:
        """It is one of the methods."""
        return True

    def learning_rates(self, topology: Topology) -> Rates | None:
        """Those of full fine-tuning, since no others are known; None where it takes none."""
        if not self.learns:
            return None
        return (5e-6, 1.5e-5, 5e-5) if topology.has_decoder_rates else (3e-5, 1e-4, 3e-4)


@dataclass(frozen=True)
class Command(Baseline):
    """A program of the user."""

    def configure(self, options: Any) -> ConfiguredCommand:
        """The command with checked options."""
        return ConfiguredCommand(self, options)

    def refuse(self, objective: Objective) -> str:
        """Why it cannot serve a task, or ""."""
        if "reward" in objective.readouts:
            return f"a command gives answers, and {objective.title} is decided by rewards"
        return ""


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


METHOD = Command("command", "command", refuse_to_fit, options=CommandOptions)


def check_command(
    command: ConfiguredCommand, models: int, refuse: Callable[[str, str, str], NoReturn]
) -> None:
    """Check the words of a command.

    Args:
        models: how many the study has.
        refuse: raises MethodError, from an option, what is wrong with it, and a remedy.

    Raises:
        MethodError: they cannot be split, or name too little or what is not known.
    """
    listed = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    try:
        placeholders = command.options.placeholders
    except ValueError as error:
        refuse("run", f"the words cannot be split ({error})", "Close the quotation.")
    if not command.options.words:
        refuse("run", "no command is given", 'Write run: "python train.py --test {test} ...".')
    for name in placeholders:
        if name not in PLACEHOLDERS:
            refuse("run", f"{{{name}}} is not known", f"There are {listed}.")
    if missing := [f"{{{name}}}" for name in NEEDED if name not in placeholders]:
        what = f"it does not name {' and '.join(missing)}"
        refuse("run", what, f"It has to answer the rows of {{test}} in {{out}}/{ANSWERS_FILE}.")
    if models > 1 and not command.options.reads_model:
        what = f"it does not name {{model}}, and the study has {models} models"
        refuse("run", what, "Name {model}, or compare it on one model.")


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


def describe_row(example: Example, dataset: Dataset, *, labelled: bool) -> dict[str, object]:
    """An example as a line of the files that a command gets."""
    (text, pair), *further = example.segments
    row: dict[str, object] = {"id": example.uid, "text": text}
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
    """What a command answered to one row: ``scores`` of the labels, in their order, or ()."""

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
            answers[uid] = _read_answer(row, examples[uid], dataset)
        except ValueError as error:
            raise MethodError(f"{error}.", where=f"{ANSWERS_FILE} line {number}") from None
    if missing := [uid for uid in examples if uid not in answers]:
        named = f"{', '.join(missing[:NAMED])}{' ...' if len(missing) > NAMED else ''}"
        raise MethodError(
            f"{ANSWERS_FILE} lacks {len(missing):,} of {pluralise(len(examples), 'row')}: {named}."
        )
    if len({bool(answer.scores) for answer in answers.values()}) > 1:
        raise MethodError(f"some rows of {ANSWERS_FILE} have scores, and others have none.")
    return answers


def _read_answer(row: Mapping[str, object], example: Example, dataset: Dataset) -> CommandAnswer:
    """One row; ValueError says what is wrong with it."""
    prediction = _read_prediction(row.get("prediction"), example, dataset)
    scores = row.get("scores")
    if scores is None:
        return CommandAnswer(prediction)
    if not (dataset.objective.predicts_labels or dataset.objective.target_types == (LABEL_SET,)):
        raise ValueError("has scores, and the task has no labels that they could be of")
    labels = _list_labels(example, dataset)
    if not isinstance(scores, Mapping) or set(scores) != set(labels):
        raise ValueError(f"has scores of other labels than {_join(labels)}")
    numbers = [parse_number(scores[label]) for label in labels]
    finite = tuple(number for number in numbers if number is not None)
    if len(finite) < len(labels):
        raise ValueError("has a score that is no finite number")
    return CommandAnswer(prediction, finite)


def _read_prediction(value: object, example: Example, dataset: Dataset) -> Answer:
    objective = dataset.objective
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
        _require_labels(tags, dataset.labels)
        return " ".join(tags)
    if objective.target_types == (LABEL_SET,):
        if not isinstance(value, list):
            raise ValueError(f"predicts {value!r}, not a list of labels")
        _require_labels(value, dataset.labels)
        return write_label_set(label in value for label in dataset.labels)
    if objective.generates:
        if not isinstance(value, str):
            raise ValueError(f"predicts {value!r}, which is no text")
        return value
    label, labels = cell_text(value), _list_labels(example, dataset)
    _require_labels([label], labels)
    return labels.index(str(label))


def _list_labels(example: Example, dataset: Dataset) -> tuple[str, ...]:
    """The labels that an example can have."""
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
    scores: Any = None
    if objective.generates or objective.head == "token_classification":
        scores = predictions
    elif scale is not None:
        scores = np.array([[(float(p) - scale.mean) / scale.deviation] for p in predictions])
    elif answers[0].scores:
        scores = np.array([answer.scores for answer in answers])
    elif objective.target_types == (LABEL_SET,):
        scores = np.array(
            [[math.copysign(1, int(has) - 0.5) for has in str(p)] for p in predictions]
        )
    if scores is None:
        return ModelPredictions(predictions, [[] for _ in predictions], None)
    computed = objective.predict(scores, examples, scale)
    loss = computed.loss if scale is not None or answers[0].scores else None
    return replace(computed, prediction=predictions, loss=loss)
