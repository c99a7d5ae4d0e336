"""The tables of a report as files: LaTeX (booktabs), Markdown, CSV and Parquet.

CSV and Parquet have unrounded values, LaTeX and Markdown what readers see.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from paretune.reporting.document import write_file
from paretune.reporting.parts import (
    Amount,
    Score,
    Table,
)
from paretune.reporting.tables import build_tables, format_rows
from paretune.reporting.text import escape

if TYPE_CHECKING:
    from paretune.reporting import Report

COLUMNS: Mapping[str, tuple[type, str]] = {
    "task": (str, "the task"),
    "model": (str, "the model; empty: the baseline needs none"),
    "method": (str, "the method, as the study calls it"),
    "baseline": (bool, "stands beside the methods and is not under comparison"),
    "against": (str, "the method or baseline that a difference is against"),
    "metric": (str, "what the score is, in words"),
    "score": (float, "mean over seeds on the test part"),
    "difference": (float, "score less that of the other, paired on the same examples"),
    "points": (float, "method less reference in points, over all tasks"),
    "low": (float, "lower end of the 95 % interval"),
    "high": (float, "upper end of the 95 % interval"),
    "n": (int, "test examples; of rates on trial selection examples"),
    "n_groups": (int, "independent groups that the examples are in; empty: each on its own"),
    "n_questions": (int, "questions that the examples answer; empty: no answer set"),
    "seeds": (int, "seeds"),
    "from_seeds": (float, "share of the variance that comes from seeds; empty: not known"),
    "p": (float, "two-sided p-value against no difference"),
    "p_holm": (float, "the same, corrected over its family of comparisons"),
    "mcnemar_p": (float, "McNemar's exact p-value; empty: not two single runs"),
    "standing": (str, "above, unclear or below"),
    "learning_rate": (float, "learning rate of the final runs, or the one on trial"),
    "rate_marks": (str, "undecided, edge"),
    "chosen": (bool, "whether this rate was chosen"),
    "selection_score": (float, "mean on the selection parts; it chooses and is no result"),
    "folds": (int, "selection parts"),
    "lost": (int, "how many of them diverged or did not fit"),
    "verdict": (str, "what may be said beside the baselines"),
    "by_task": (str, "each task with its difference"),
    "further": (str, "how effects differ between tasks, and what failed"),
    "flags": (str, "what else must be known"),
    "failed": (int, "runs that diverged, ran out of memory or answer a constant"),
    "failed_of": (int, "runs that did or did not"),
    "failed_high": (float, "one-sided upper 95 % limit of their rate"),
    "at_most_points_worse": (float, "points that it may be below the best, 95 %; empty: unknown"),
    "measurements": (int, "solo measurements that the numbers are means of; one: no interval"),
    "peak_bytes": (float, "peak in training"),
    "evaluation_peak_bytes": (float, "peak in evaluation"),
    "step_seconds": (float, "median seconds of a step"),
    "inference_seconds": (float, "seconds an example"),
    "trained_parameters": (int, "trained parameters, head included"),
    "model_parameters": (float, "parameters of the whole model, head included"),
    "counted_from": (str, "from what they were counted"),
    "saved_bytes": (float, "size of the trained tensors on disk"),
    "step_joules": (float, "energy of a step"),
    "conditions": (str, "how it was measured: device, threads, batch, length"),
    "counter": (str, "what the peaks were read from"),
    "weights_bytes": (float, "parameters and buffers"),
    "gradients_bytes": (float, "gradients"),
    "optimizer_bytes": (float, "optimiser states"),
    "activations_bytes": (float, "what one forward pass saves for its backward pass"),
    "working_bytes": (float, "the peak less weights, gradients and optimiser states"),
    "rest_bytes": (float, "working less activations; empty: they cannot be separated"),
    "behind": (float, "score of the best experiment less this one's, unpaired"),
    "behind_low": (float, "lower end of its 95 % interval"),
    "behind_high": (float, "upper end of its 95 % interval"),
    "told_apart": (bool, "proven worse than the best, by p_holm under 0.05; empty: no score"),
    "reserved_bytes": (int, "largest memory that the allocator reserved"),
    "train_seconds": (float, "seconds of training; of several runs the median"),
    "where": (str, "task / model / method, stage"),
    "outcome": (str, "diverged, out of memory or error; of peft's results their own status"),
    "runs": (int, "runs that ended so"),
    "said": (str, "what they said"),
}
"""Columns of CSV and Parquet files: types and meanings."""
_OF_A_SCORE = ("low", "high", "n", "n_groups", "n_questions", "seeds")
_SCORES = ("score", "difference", "selection_score")
"""Columns of scores, which have an interval and a basis also where no row has one."""
_Plain = str | float | int | bool | None


def write_tables(report: Report, folder: Path) -> list[Path]:
    """Write every table that has rows in each format; returns the files.

    Raises:
        StoreError: a file cannot be written.
    """
    return [path for table in build_tables(report) for path in write_table(table, folder)]


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write one table in each format; returns the files.

    Raises:
        StoreError: a file cannot be written.
    """
    return [
        write_file(folder / f"{table.name}.{suffix}", write(table), "a table")
        for suffix, write in FORMATS.items()
    ]


def read_values(table: Table) -> list[dict[str, _Plain]]:
    """The values of each row by the columns of its file; what is no finite number is None.

    Scores become their estimate, interval and basis.
    """
    rows: list[dict[str, _Plain]] = []
    for row in table.rows:
        values: dict[str, _Plain] = {}
        for name, value in row.items():
            if isinstance(value, Score):
                basis = (value.n_examples, value.n_clusters, value.n_questions, value.n_seeds)
                numbers = (value.estimate, value.low, value.high, *basis)
                values |= dict(zip((name, *_OF_A_SCORE), numbers, strict=True))
            elif name in _SCORES:
                values |= dict.fromkeys((name, *_OF_A_SCORE))
            else:
                values[name] = value.value if isinstance(value, Amount) else value
        rows.append(values)
    names = dict.fromkeys(name for row in rows for name in row if name in COLUMNS)

    def read(name: str, value: _Plain) -> _Plain:
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return None
        plain: _Plain = COLUMNS[name][0](value)
        return plain

    return [{name: read(name, row.get(name)) for name in names} for row in rows]


def render_csv(table: Table) -> str:
    """Names of columns, then the unrounded values; what is not there is empty."""
    out, rows = io.StringIO(), read_values(table)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(rows[0])
    for values in rows:
        writer.writerow(
            escape.escape_csv(value)
            if isinstance(value, str)
            else str(value).lower()
            if isinstance(value, bool)
            else value
            for value in values.values()
        )
    return out.getvalue()


def render_parquet(table: Table) -> bytes:
    """Typed columns, each with its meaning; title and notes in the schema's metadata."""
    import pyarrow
    import pyarrow.parquet

    types = {
        str: pyarrow.string(),
        float: pyarrow.float64(),
        int: pyarrow.int64(),
        bool: pyarrow.bool_(),
    }
    rows = read_values(table)
    fields = [
        pyarrow.field(name, types[COLUMNS[name][0]], metadata={"meaning": COLUMNS[name][1]})
        for name in rows[0]
    ]
    about = {"title": table.title, "notes": "\n".join(table.notes)}
    out = io.BytesIO()
    schema = pyarrow.schema(fields, metadata=about)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), out)
    return out.getvalue()


LONG = 32
"""Letters of a cell beyond which LaTeX breaks its column's lines: cells that hold sentences."""


def render_text(table: Table, form: Literal["tex", "md"]) -> str:
    """As readers see it, under its title, with the notes below.

    LaTeX needs ``array``, ``booktabs`` and ``graphicx``, and T1 fonts for other alphabets.
    """
    texts = format_rows(table)
    sides = []
    for column in zip(*texts, strict=True):
        starts = [text.removeprefix("<")[:1] for text in column]
        numeric = all(start.isdigit() or start in "-–" for start in starts)
        is_long = form == "tex" and max(map(len, column)) > LONG
        sides.append("text" if is_long else "r" if numeric else "l")
    jinja = escape.open_templates("paretune.reporting")
    jinja.filters |= {"latex": escape.escape_latex, "markdown": escape.escape_markdown}
    headings = [column.heading for column in table.columns]
    template = jinja.get_template(f"table.{form}.j2")
    return template.render(table=table, headings=headings, texts=texts, sides=sides)


FORMATS: Mapping[str, Callable[[Table], str | bytes]] = {
    "tex": partial(render_text, form="tex"),
    "md": partial(render_text, form="md"),
    "csv": render_csv,
    "parquet": render_parquet,
}
"""What each suffix is written by."""
