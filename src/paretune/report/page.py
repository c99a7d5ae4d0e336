"""The report as one HTML page: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from paretune.analysis.budget import expected_best
from paretune.errors import StoreError
from paretune.report import bars, curves, fronts, words
from paretune.report.build import Finding, Report, build
from paretune.store.record import Record
from paretune.store.rows import RunState
from paretune.study import Study


def html(
    study: Study,
    records: Sequence[Record],
    states: Sequence[RunState],
    path: Path,
    findings: Iterable[Finding] = (),
) -> Path:
    """Write the page to ``path``, whole or not at all.

    Args:
        study: what was asked for.
        records: ended runs with their predictions.
        states: how all runs stand.
        path: of the page; its folder is made if it is missing.
        findings: what the audit found in the study's data.

    Raises:
        StoreError: the page cannot be written there.
    """
    text = render(build(study, records, states, findings))
    try:
        _write(path, text)
    except OSError as error:
        raise StoreError(
            f"the page cannot be written ({error.strerror}).",
            where=str(path),
            remedy="Name another file or free some space.",
        ) from None
    return path


def render(report: Report) -> str:
    """The page as text. Everything that comes from data or names is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("paretune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = [
        {
            "task": task,
            "figures": [f for f in (bars.quality(task, i), bars.memory(task, i)) if f],
            "curves": curves.panels(task),
            "budgets": [
                (row, best)
                for row in task.tuned
                if (best := expected_best(row.cell.tuning, row.cell.metric))
            ],
        }
        for i, task in enumerate(report.tasks)
    ]
    return jinja.get_template("report.html.j2").render(
        report=report,
        parts=parts,
        words=words,
        curve=(curves.WIDTH, curves.HEIGHT),
        front_size=(fronts.WIDTH, fronts.PLOT, fronts.LEFT),
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(beside).chmod(0o666 & ~umask)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
