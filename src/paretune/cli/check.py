"""``paretune check``: the audit and one dry step of everything; nothing is trained or kept."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from paretune.cli import study_files


def check(
    study: Annotated[str, typer.Argument(help="a study file, or the name of a shipped one")],
    online: Annotated[bool, typer.Option(help="models and data may come from the hub")] = False,
) -> None:
    """Audit the data and take one dry step of every method on every model."""
    from collections import Counter

    from paretune.data.audit import audit
    from paretune.errors import DataError
    from paretune.planning.checking import dry_steps, truncations
    from paretune.planning.context import Context

    asked, _ = study_files.load(study)
    context = Context(offline=not online)
    counts: Counter[str] = Counter()
    for task in asked.tasks:
        dataset = context.dataset(task)
        sys.stdout.write(
            f"{task.key}: {len(dataset.train)} train, {len(dataset.test)} test, labels "
            f"{', '.join(dataset.labels)}; {dataset.licence}\n"
        )
        for finding in audit(dataset):
            counts[finding.severity] += 1
            sys.stdout.write(f"  {finding.severity}: {finding}\n")
    for finding in truncations(asked, context):
        counts[finding.severity] += 1
        sys.stdout.write(f"  {finding.severity}: {finding}\n")
    failed = None
    for dry in dry_steps(asked, context):
        name = " x ".join(dry.run.cell)
        sys.stdout.write(f"{name}: {'REFUSED: ' + str(dry.error) if dry.error else dry.said}\n")
        failed = failed or dry.error
    sys.stdout.write(
        f"{counts['error']} errors, {counts['warning']} warnings, {counts['note']} notes in the "
        f"data. Nothing was trained.\n"
    )
    if counts["error"]:
        raise DataError(f"{counts['error']} errors in the data, listed above.")
    if failed is not None:
        raise failed
