"""Translations: the user's own (tables, TMX, hub datasets, two files of plain text), and built-in.

Columns are called as the languages are, unless the study names others. Without test files some
pairs of train, duplicates together, become the test part: a fifth, at most
:data:`MAX_HELD_OUT_PAIRS`; and that is noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from paretune.data.build import ColumnMapping, build_examples, make_missing_label
from paretune.data.example import Dataset
from paretune.data.labels import cell_text
from paretune.data.parallel import read_line_pairs, read_units, resolve_pair_files
from paretune.data.rows import Row, read_rows
from paretune.data.task import Task
from paretune.errors import StudyError
from paretune.study import TaskSpec
from paretune.tasks.own_data.target_texts import HoldOut, TargetRows, build_dataset, read_hub_rows

MAX_HELD_OUT_PAIRS = 2000
"""Pairs that are held out at most: enough for an interval of one BLEU point, soon translated."""
NESTED_COLUMN = "translation"
"""The column in which Hugging Face datasets keep a pair: ``{"sl": ..., "en": ...}``."""


def load_own_pairs(spec: TaskSpec) -> Dataset:
    """Read the user's pairs and build their examples.

    Raises:
        StudyError: the study asks for a template that own data cannot have.
        DataError: unreadable files, a hub dataset that was never fetched, files that do not belong
            together, missing columns, rows without a text; all such rows are named at once.
    """
    if spec.template != "pair":
        raise StudyError(
            f'task {spec.key} has no template "{spec.template}".',
            remedy="Texts of your own are encoded as they are: remove template.",
        )
    if spec.dataset is not None:
        rows = read_hub_rows(spec)
    else:
        train, source = _read_files(spec, str(spec.train), spec.train_target)
        test, shifted = None, list[Row]()
        if spec.test is not None:
            test, name = _read_files(spec, spec.test, spec.test_target)
            source = f"{source}, {name}"
        if spec.test_shifted is not None:
            shifted, name = _read_files(spec, spec.test_shifted, spec.test_shifted_target)
            source = f"{source}, {name}"
        rows = TargetRows(train, test, (), source, shifted=shifted)
    return _build_pairs(spec, str(spec.kind), _column_names(spec), rows)


def load_built_in_pairs(spec: TaskSpec, task: Task, data_home: Path | None) -> Dataset:
    """The dataset of a built-in translation, from one of its languages into the other.

    Raises:
        StudyError: other languages than it has, or a template.
        DataError: the data is missing or cannot be read.
    """
    languages = (str(spec.source_lang), str(spec.target_lang))
    if set(languages) != set(task.languages):
        raise StudyError(
            f"task {task.name} does not translate from {languages[0]} to {languages[1]}.",
            remedy=f"Its languages are {' and '.join(task.languages)}, in either direction.",
        )
    if spec.template != "pair":
        raise StudyError(
            f'task {spec.key} has no template "{spec.template}".',
            remedy="Texts are translated as they are: remove template.",
        )
    read = task.read_rows(spec, languages[1], data_home)
    source, licence = task.source[languages[1]], task.licence[languages[1]]
    rows = TargetRows(read.train, read.test or None, read.findings, source, licence)
    columns = dict(zip(task.languages, task.columns, strict=True))
    return _build_pairs(spec, task.kind, (columns[languages[0]], columns[languages[1]]), rows)


def _build_pairs(spec: TaskSpec, kind: str, columns: tuple[str, str], rows: TargetRows) -> Dataset:
    """The dataset from its rows.

    Raises:
        DataError: missing columns, or rows without a text.
    """
    mapping = _make_mapping(spec, columns)
    return build_dataset(
        spec,
        kind,
        rows,
        lambda own, part: build_examples(_flatten_nested(own), mapping, part),
        HoldOut(MAX_HELD_OUT_PAIRS, "pairs of train, equal sources"),
        language=spec.target_lang,
        languages=(str(spec.source_lang), str(spec.target_lang)),
    )


def _read_files(spec: TaskSpec, train: str, target: str | None) -> tuple[list[Row], str]:
    """The rows, and what the report calls the files."""
    languages = (str(spec.source_lang), str(spec.target_lang))
    name = train.rpartition("/")[2]
    if target is None and train.lower().endswith(".tmx"):
        return read_units(train, languages, _column_names(spec)), name
    files = resolve_pair_files(train, target, languages)
    if files is None:
        return read_rows(train), name
    names = " and ".join(file.rpartition("/")[2] for file in files)
    return read_line_pairs(*files, _column_names(spec)), names


def _column_names(spec: TaskSpec) -> tuple[str, str]:
    return spec.text or str(spec.source_lang), spec.label or str(spec.target_lang)


def _make_mapping(spec: TaskSpec, columns: tuple[str, str]) -> ColumnMapping:
    source, target = columns
    group = spec.group
    return ColumnMapping(
        columns=columns,
        template=lambda texts: ((texts[source], None),),
        label=target,
        parse_label=lambda value, texts: make_missing_label(),
        id=spec.id,
        group=(lambda values: cell_text(values.get(group))) if group else (lambda values: None),
        required_columns=[group] if group else [],
        target=target,
    )


def _flatten_nested(rows: Sequence[Row]) -> list[Row]:
    """Rows in which a nested pair stands beside the other columns."""
    return [
        replace(row, values={**row.values, **nested})
        if isinstance(nested := row.values.get(NESTED_COLUMN), dict)
        else row
        for row in rows
    ]
