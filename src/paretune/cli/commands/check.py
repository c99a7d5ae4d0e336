"""``paretune check``: the audit and one dry step of everything; nothing is trained or kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paretune.cli.json_output import check_json_output, to_json_value, write_result
from paretune.cli.options import AsJson, Device, JsonFile, Online, StudyName
from paretune.cli.overrides import Overrides, load_overridden, study_command
from paretune.terminal import echo, sanitise_line

if TYPE_CHECKING:
    from paretune.verbs.check import CheckedItem, CheckResult

MAX_FAILED = 5
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
    from paretune.reporting.text.formatting import pluralise
    from paretune.verbs.check import check as look

    told = None if check_json_output(as_json, output) else _print_item
    checked = look(load_overridden(study, overrides), online=online, device=device, on_item=told)
    if as_json:
        write_result("check", _json_fields(checked), output)
        if checked.errors:
            raise SystemExit(checked.errors[0].exit_code)
        return
    counts = checked.counts
    said = [pluralise(counts[severity], severity) for severity in ("error", "warning", "note")]
    if not checked.errors:
        echo(f"{', '.join(said)}: the study can run. Nothing was trained.")
        echo(f"Next: paretune plan {study_command(study, overrides)}")
        return
    failed = [sanitise_line(name) for name in checked.failed]
    more = f" and {len(failed) - MAX_FAILED} more" if len(failed) > MAX_FAILED else ""
    untried = (
        "" if checked.models_checked else " Models and methods were not tried without the data."
    )
    echo(
        f"{', '.join(said)}: the study cannot run. Failed: {', '.join(failed[:MAX_FAILED])}{more}."
        f"{untried}"
    )
    raise SystemExit(checked.errors[0].exit_code)


def _json_fields(checked: CheckResult) -> dict[str, Any]:
    counts = checked.counts
    return {
        "study": checked.study.study,
        "can_run": not checked.errors,
        "errors": counts["error"],
        "warnings": counts["warning"],
        "notes": counts["note"],
        "failed": checked.failed,
        "tried": checked.models_checked,
        "seen": [{**to_json_value(seen), "errors": seen.errors} for seen in checked.items],
    }


def _print_item(seen: CheckedItem) -> None:
    name = f"{seen.what} {sanitise_line(seen.name)}"
    if seen.error is None:
        echo(f"{name}: {sanitise_line(seen.said)}")
    elif not any(finding.severity == "error" for finding in seen.findings):
        echo(f"{name}: ERROR {seen.error}")
    else:
        echo(f"{name}: cannot be used")
    for finding in seen.findings:
        severity = "ERROR" if finding.severity == "error" else finding.severity
        echo(f"  {severity}: {sanitise_line(finding)}")
