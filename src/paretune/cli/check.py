"""``paretune check``: the audit and one dry step of everything; nothing is trained or kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paretune.cli.options import Online, StudyName
from paretune.cli.overrides import Overrides, overridden, typed
from paretune.terminal import plain, say

if TYPE_CHECKING:
    from paretune.verbs.check import Seen


def check(study: StudyName, overrides: Overrides = None, online: Online = False) -> None:
    """Audit the data; try every method on every model for one step.

    Nothing is trained or kept. Every fault is named with file, line and remedy, and ends in the
    exit code of the first.
    """
    from paretune.report.words import counted
    from paretune.verbs.check import check as look

    checked = look(overridden(study, overrides), online=online, told=_show)
    counts = checked.counts
    said = [counted(counts[severity], severity) for severity in ("error", "warning", "note")]
    say(f"In the data: {', '.join(said)}. Nothing was trained.")
    if not checked.errors:
        say(f"Next: paretune plan {typed(study, overrides)}")
        return
    raise SystemExit(checked.errors[0].exit_code)


def _show(seen: Seen) -> None:
    name = f"{seen.what} {plain(seen.name)}"
    if seen.error is not None:
        say(f"{name}: ERROR {seen.error}")
    else:
        say(f"{name}: {plain(seen.said)}")
    for finding in seen.findings:
        say(f"  {finding.severity}: {plain(finding)}")
