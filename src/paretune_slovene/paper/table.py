"""The authors' own table of runs, as it was read from their notebooks: one row a run.

A CSV (or another file that :func:`paretune.data.rows.read_rows` reads) with at least
:data:`COLUMNS`. How many rows were scored is not in it, so the labels of those rows are asked for,
and every accuracy has to be a share of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from paretune.data.rows import Row, read_rows
from paretune.errors import DataError
from paretune_slovene.paper.claims import find_flaw, load_claims
from paretune_slovene.paper.published import STEP, PublishedRun, find_constant_label

COLUMNS = (
    *("task", "model", "method", "per_device_train_batch_size", "max_steps", "num_train_epochs"),
    *("trainable", "acc", "f1", "gpu_gb"),
)
TASKS = {"machine_translation_slo_en": "rsdo4"}
"""Names in the notebooks that differ from paretune's by more than letter case."""
MODELS = {
    "croslo": "croslo",
    "sloberta": "sloberta",
    "xlm-bert": "xlm-r",
    "xml-bert": "xlm-r",  # so spelled in the BoolQ notebooks
    "opus-mt-sla-en": "opus-mt",
}
METHODS = {"ft": "full", "prompt": "prompt", "lora": "lora", "loha": "loha"}

Labels = Callable[[str], Mapping[str, int]]
"""A function from a task's name to the number of scored rows of each label."""


def read_published_runs(path: Path, labels: Labels) -> tuple[PublishedRun, ...]:
    """Every run of the table; ``labels`` is called once for each task that has an accuracy.

    Raises:
        DataError: the file cannot be read, lacks a column, has an unknown name, has a run twice,
            or has an accuracy that the scored rows cannot give.
    """
    label_counts: dict[str, Mapping[str, int]] = {}
    runs: dict[tuple[str, str, str], PublishedRun] = {}
    tasks = TASKS | {task: task for claim in load_claims() for task in claim.tasks}
    for row in read_rows(path):
        task = _parse_name(row, "task", tasks)
        if _parse_number(row, "acc") is not None and task not in label_counts:
            label_counts[task] = labels(task)
        run = _parse_run(row, task, label_counts.get(task, {}))
        key = (run.task, run.model, run.method)
        if key in runs:
            what = f"is a second run of {' / '.join(key)}."
            raise DataError(what, where=row.where, remedy="Keep one; the paper has one of each.")
        runs[key] = run
    return tuple(runs.values())


def _parse_run(row: Row, task: str, labels: Mapping[str, int]) -> PublishedRun:
    model, method = _parse_name(row, "model", MODELS), _parse_name(row, "method", METHODS)
    f1, n = _parse_number(row, "f1"), sum(labels.values())
    right, trained = _count_correct(row, n), _parse_number(row, "trainable")
    if right is not None and f1 is None:
        remedy = "Give both, or leave both empty (translation)."
        raise DataError("has an accuracy and no f1.", where=row.where, remedy=remedy)
    return PublishedRun(
        task=task,
        model=model,
        method=method,
        n=n,
        right=right,
        f1=f1,
        gb=_require_number(row, "gpu_gb"),
        batch=int(_require_number(row, "per_device_train_batch_size")),
        length=_describe_length(row),
        trained=None if trained is None else int(trained),
        constant=find_constant_label(right, f1, labels),
        flaw=find_flaw(task, model, method),
    )


def _count_correct(row: Row, n: int) -> int | None:
    share = _parse_number(row, "acc")
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


def _describe_length(row: Row) -> str:
    steps = _parse_number(row, "max_steps")
    if steps:
        return f"{steps:g} steps"
    epochs = _require_number(row, "num_train_epochs")
    return "1 epoch" if epochs == 1 else f"{epochs:g} epochs"


def _parse_name(row: Row, column: str, names: Mapping[str, str]) -> str:
    text = _cell_text(row, column)
    name = names.get(text.lower())
    if name is None:
        remedy = f"Known are {', '.join(names)}, in capitals or not."
        raise DataError(f'has the {column} "{text}".', where=row.where, remedy=remedy)
    return name


def _require_number(row: Row, column: str) -> float:
    number = _parse_number(row, column)
    if number is None or number <= 0:
        remedy = "Every run of the table has one; without it, leave the run out."
        raise DataError(f'has no number above 0 in "{column}".', where=row.where, remedy=remedy)
    return number


def _parse_number(row: Row, column: str) -> float | None:
    """The number in a column; None if it is empty."""
    text = _cell_text(row, column)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        remedy = "Give a number of at least 0, or leave it empty."
        raise DataError(f'has "{text}" in "{column}".', where=row.where, remedy=remedy)
    return number


def _cell_text(row: Row, column: str) -> str:
    if column not in row.values:
        remedy = f"The table of published runs has {', '.join(COLUMNS)}."
        raise DataError(f'has no column "{column}".', where=row.where, remedy=remedy)
    value = row.values[column]
    return "" if value is None else str(value).strip()
