"""``paretune check``: the audit and one dry step of everything; nothing is trained or kept."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from paretune.cli.options import Online, StudyName

if TYPE_CHECKING:
    from paretune.verbs.check import Seen


def check(study: StudyName, online: Online = False) -> None:
    """Audit the data; try every method on every model for one step.

    Nothing is trained or kept. Every fault is named with file, line and remedy, and ends in the
    exit code of the first.
    """
    from paretune.report.words import counted
    from paretune.verbs.check import check as look

    checked = look(study, online=online, told=_show)
    counts = checked.counts
    said = [counted(counts[severity], severity) for severity in ("error", "warning", "note")]
    sys.stdout.write(f"In the data: {', '.join(said)}. Nothing was trained.\n")
    if not checked.errors:
        sys.stdout.write(f"Next: paretune plan {study}\n")
        return
    raise SystemExit(checked.errors[0].exit_code)


def _show(seen: Seen) -> None:
    from paretune.report.words import plain

    if seen.error is not None:
        # An error may have several lines of its own; each stays one line and printable.
        faults = "\n".join(plain(line) for line in str(seen.error).splitlines())
        sys.stdout.write(f"{seen.what} {seen.name}: ERROR {faults}\n")
    else:
        sys.stdout.write(f"{seen.what} {seen.name}: {plain(seen.said)}\n")
    for finding in seen.findings:
        sys.stdout.write(f"  {finding.severity}: {plain(finding)}\n")
    sys.stdout.flush()
