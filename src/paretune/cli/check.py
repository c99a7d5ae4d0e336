"""``paretune check``: the audit and one dry step of everything; nothing is trained or kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paretune.cli.json_output import asked, give, values
from paretune.cli.options import AsJson, Device, JsonFile, Online, StudyName
from paretune.cli.overrides import Overrides, overridden, typed
from paretune.terminal import plain, say

if TYPE_CHECKING:
    from paretune.verbs.check import Checked, Seen

FAILED = 5
"""So many things that failed are named in the last line; the lines above have all."""


def check(
    study: StudyName,
    overrides: Overrides = None,
    online: Online = False,
    device: Device = "auto",
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Audit the data; try every method on every model for one step.

    Nothing is trained or kept. Every fault is named with file, line and remedy, and ends in the
    exit code of the first. The data comes first; where none of it can be read, no model is opened.
    """
    from paretune.report.words import counted
    from paretune.verbs.check import check as look

    told = None if asked(as_json, output) else _show
    checked = look(overridden(study, overrides), online=online, device=device, told=told)
    if as_json:
        give("check", _fields(checked), output)
        if checked.errors:
            raise SystemExit(checked.errors[0].exit_code)
        return
    counts = checked.counts
    said = [counted(counts[severity], severity) for severity in ("error", "warning", "note")]
    if not checked.errors:
        say(f"{', '.join(said)}: the study can run. Nothing was trained.")
        say(f"Next: paretune plan {typed(study, overrides)}")
        return
    failed = [plain(name) for name in checked.failed]
    more = f" and {len(failed) - FAILED} more" if len(failed) > FAILED else ""
    untried = "" if checked.tried else " Models and methods were not tried without the data."
    say(
        f"{', '.join(said)}: the study cannot run. Failed: {', '.join(failed[:FAILED])}{more}."
        f"{untried}"
    )
    raise SystemExit(checked.errors[0].exit_code)


def _fields(checked: Checked) -> dict[str, Any]:
    counts = checked.counts
    return {
        "study": checked.study.study,
        "can_run": not checked.errors,
        "errors": counts["error"],
        "warnings": counts["warning"],
        "notes": counts["note"],
        "failed": checked.failed,
        "tried": checked.tried,
        "seen": [{**values(seen), "errors": seen.errors} for seen in checked.seen],
    }


def _show(seen: Seen) -> None:
    name = f"{seen.what} {plain(seen.name)}"
    if seen.error is None:
        say(f"{name}: {plain(seen.said)}")
    elif not any(finding.severity == "error" for finding in seen.findings):
        say(f"{name}: ERROR {seen.error}")
    else:
        say(f"{name}: cannot be used")
    for finding in seen.findings:
        severity = "ERROR" if finding.severity == "error" else finding.severity
        say(f"  {severity}: {plain(finding)}")
