"""The authors' own table of runs, as it was read from their notebooks: one row a run.

A CSV (or another file that :func:`paretune.data.formats.read.read_rows` reads) with at least
:data:`COLUMNS`. How many rows were scored is not in it, so the labels of those rows are asked for,
and every accuracy has to be a share of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from paretune.contrib.paper.claims import find_flaw, load_claims
from paretune.contrib.paper.published import STEP, PublishedRun, find_constant_label
from paretune.data.formats.read import read_rows
from paretune.data.formats.row import Row
from paretune.errors import DataError

COLUMNS = (
    "task",
    "model",
    "method",
    "per_device_train_batch_size",
    "max_steps",
    "num_train_epochs",
    "trainable",
    "acc",
    "f1",
    "gpu_gb",
)
TASKS = {"machine_translation_slo_en": "rsdo4"}
"""Names that the notebooks have, where they are not ours in other letters."""
MODELS = {
    "croslo": "croslo",
    "sloberta": "sloberta",
    "xlm-bert": "xlm-r",
    "xml-bert": "xlm-r",  # so spelled in the BoolQ notebooks
    "opus-mt-sla-en": "opus-mt",
}
METHODS = {"ft": "full", "prompt": "prompt", "lora": "lora", "loha": "loha"}

Labels = Callable[[str], Mapping[str, int]]
"""From a task's name to how often each label stands in the rows that were scored."""


def read_published_runs(path: Path, labels: Labels) -> tuple[PublishedRun, ...]:
    """Every run of the table; ``labels`` is asked once for each task that has an accuracy.

    Raises:
        DataError: the file cannot be read, lacks a column, names something unknown, has a run
            twice, or an accuracy that cannot be one of the rows that were scored.
    """
    known: dict[str, Mapping[str, int]] = {}
    made: dict[tuple[str, str, str], PublishedRun] = {}
    for row in read_rows(path):
        task = _named(row, "task", TASKS | {t: t for claim in load_claims() for t in claim.tasks})
        if _number(row, "acc") is not None and task not in known:
            known[task] = labels(task)
        run = _run(row, task, known.get(task, {}))
        key = (run.task, run.model, run.method)
        if key in made:
            raise DataError(
                f"is a second run of {' / '.join(key)}.",
                where=row.where,
                remedy="Keep one; the paper has one run of each.",
            )
        made[key] = run
    return tuple(made.values())


def _run(row: Row, task: str, labels: Mapping[str, int]) -> PublishedRun:
    model, method = _named(row, "model", MODELS), _named(row, "method", METHODS)
    f1, n = _number(row, "f1"), sum(labels.values())
    right, trained = _right(row, n), _number(row, "trainable")
    if right is not None and f1 is None:
        raise DataError(
            "has an accuracy and no f1.",
            where=row.where,
            remedy="Give both, or leave both empty (translation).",
        )
    return PublishedRun(
        task=task,
        model=model,
        method=method,
        n=n,
        right=right,
        f1=f1,
        gb=_given(row, "gpu_gb"),
        batch=int(_given(row, "per_device_train_batch_size")),
        length=_length(row),
        trained=None if trained is None else int(trained),
        constant=find_constant_label(right, f1, labels),
        flaw=find_flaw(task, model, method),
    )


def _right(row: Row, n: int) -> int | None:
    share = _number(row, "acc")
    if share is None:
        return None
    right = round(share * n)
    if not 0 <= right <= n or not n or abs(right / n - share) > STEP:
        raise DataError(
            f"has an accuracy of {share:g}, which is no share of {n:,} rows.",
            where=row.where,
            remedy="The data that is here is not what was scored. Fetch it with `paretune data "
            "fetch superglue-sl`, or name its folder.",
        )
    return right


def _length(row: Row) -> str:
    steps = _number(row, "max_steps")
    if steps:
        return f"{steps:g} steps"
    epochs = _given(row, "num_train_epochs")
    return "1 epoch" if epochs == 1 else f"{epochs:g} epochs"


def _named(row: Row, column: str, names: Mapping[str, str]) -> str:
    written = _value(row, column)
    found = names.get(written.lower())
    if found is None:
        raise DataError(
            f'has the {column} "{written}".',
            where=row.where,
            remedy=f"Known are {', '.join(names)}, in capitals or not.",
        )
    return found


def _given(row: Row, column: str) -> float:
    found = _number(row, column)
    if found is None or found <= 0:
        raise DataError(
            f'has no number above 0 in "{column}".',
            where=row.where,
            remedy="Every run of the table has one; without it, leave the run out.",
        )
    return found


def _number(row: Row, column: str) -> float | None:
    """The number in a column, None where it is empty."""
    written = _value(row, column)
    if not written:
        return None
    try:
        found = float(written)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise DataError(
            f'has "{written}" in "{column}".',
            where=row.where,
            remedy="Give a number of at least 0, or leave it empty.",
        )
    return found


def _value(row: Row, column: str) -> str:
    if column not in row.values:
        raise DataError(
            f'has no column "{column}".',
            where=row.where,
            remedy=f"The table of published runs has {', '.join(COLUMNS)}.",
        )
    found = row.values[column]
    return "" if found is None else str(found).strip()
