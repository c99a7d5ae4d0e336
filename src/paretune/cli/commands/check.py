"""``paretune check``: audit the data and try one step of everything; nothing is kept."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.cli.json_output import to_json_value, write_result
from paretune.cli.options import (
    Devices,
    JsonOptions,
    Online,
    StudyArguments,
    with_option_groups,
)
from paretune.terminal import echo, sanitise_line

if TYPE_CHECKING:
    from paretune.verbs.check import CheckedItem, CheckResult

MAX_FAILED = 5
"""How many failed items the last line names; the lines above have all."""


@with_option_groups
def check(
    study: StudyArguments,
    json: JsonOptions,
    online: Online = False,
    devices: Devices = "auto",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only errors, warnings and the last line.")
    ] = False,
) -> None:
    """Check data, models and methods before a run.

    Every method takes one step on every model. Nothing is trained or kept. Every problem is shown
    with file, line and remedy; the exit code is that of the first. The data comes first: if none of
    it can be read, no model is opened.
    """
    from paretune.verbs.check import check as run_checks

    on_item = None if json.as_json else partial(_print_item, quiet=quiet)
    result = run_checks(study.load(), online=online, devices=devices, on_item=on_item)
    if json.as_json:
        write_result("check", _json_fields(result), json.output)
    else:
        _print_summary(result, study.as_typed(), quiet=quiet)
    if result.errors:
        raise SystemExit(result.errors[0].exit_code)


def _json_fields(result: CheckResult) -> dict[str, Any]:
    counts = result.counts
    return {
        "study": result.study.study,
        "can_run": not result.errors,
        "errors": counts["error"],
        "warnings": counts["warning"],
        "notes": counts["note"],
        "failed": result.failed,
        "tried": result.models_checked,
        "seen": [
            {
                "what": item.kind,
                "name": item.name,
                "said": item.description,
                "findings": to_json_value(item.findings),
                "error": to_json_value(item.error),
                "errors": item.errors,
            }
            for item in result.items
        ],
    }


def _print_summary(result: CheckResult, study: str, *, quiet: bool) -> None:
    from paretune.terminal.plural import pluralise

    severities = ("error", "warning", "note")
    counts = ", ".join(pluralise(result.counts[severity], severity) for severity in severities)
    if not result.errors:
        echo(f"{counts}: the study can run. Nothing was trained.")
        if not quiet:
            echo(f"Next: paretune plan {study}")
        return
    failed = [sanitise_line(name) for name in result.failed]
    more = f" and {len(failed) - MAX_FAILED} more" if len(failed) > MAX_FAILED else ""
    untried = ""
    if not result.models_checked:
        untried = " Models and methods were not tried without the data."
    names = ", ".join(failed[:MAX_FAILED])
    echo(f"{counts}: the study cannot run. Failed: {names}{more}.{untried}")


def _print_item(item: CheckedItem, *, quiet: bool) -> None:
    name = f"{item.kind} {sanitise_line(item.name)}"
    findings = [one for one in item.findings if not (quiet and one.severity == "note")]
    if quiet and item.error is None and not findings:
        return
    if item.error is None:
        echo(f"{name}: {sanitise_line(item.description)}")
    elif not any(finding.severity == "error" for finding in item.findings):
        echo(f"{name}: ERROR {item.error}")
    else:
        echo(f"{name}: cannot be used")
    for finding in findings:
        severity = "ERROR" if finding.severity == "error" else finding.severity
        echo(f"  {severity}: {sanitise_line(finding)}")
