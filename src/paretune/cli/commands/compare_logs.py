"""``paretune compare-logs``: sample logs of evaluation harnesses, paired. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import JsonOptions, with_option_groups
from paretune.terminal import console


@with_option_groups
def compare_logs(
    logs: Annotated[
        list[Path],
        typer.Argument(
            metavar="LOG...",
            help="Two or more: samples_*.jsonl of lm-evaluation-harness (--log_samples), .json or "
            ".eval of Inspect, *-model-outputs.json of EuroEval (--debug).",
            show_default=False,
        ),
    ],
    json: JsonOptions,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the logs; by default the first that all have."),
    ] = None,
    filter_name: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="NAME",
            help="Of lm-evaluation-harness: which way of reading an answer, as strict-match.",
        ),
    ] = None,
) -> None:
    """Say which evaluated model is better, with intervals, and how many samples would decide."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from paretune.contrib.sample_logs.comparison import compare_logs as compare
    from paretune.reporting.text.formatting import format_interval
    from paretune.terminal import sanitise_line

    comparison = compare(logs, metric, filter_name)
    if json.as_json:
        fields = {
            "metric": comparison.metric,
            "samples": comparison.samples,
            "left_out": comparison.left_out,
            "scores": comparison.scores,
            "pairs": comparison.pairs,
            "sentences": comparison.sentences,
        }
        write_result("compare-logs", fields, json.output)
        return
    out = console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("log", overflow="fold")
    table.add_column(f"{sanitise_line(comparison.metric)} [95 %]", no_wrap=True)
    for one in sorted(comparison.scores, key=lambda one: -one.score.estimate):
        table.add_row(Text(sanitise_line(one.name)), Text(format_interval(one.score, 3)))
    out.print(table)
    for sentence in comparison.sentences:
        out.print(sentence)
