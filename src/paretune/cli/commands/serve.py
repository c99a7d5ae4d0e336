"""``paretune serve``: let workers elsewhere execute a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import (
    JsonOptions,
    Online,
    StoreFolder,
    StudyArguments,
    with_option_groups,
)
from paretune.terminal import error_stream


@with_option_groups
def serve(
    study: StudyArguments,
    json: JsonOptions,
    store: StoreFolder = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Of one interface of this machine; by default nobody else reaches it.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="0: any that is free.")
    ] = 8765,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Token that workers need; made if missing. [default: server-token in the folder "
            "of the results]",
        ),
    ] = None,
    retry: Annotated[
        bool,
        typer.Option(
            "--retry",
            help="Try runs again that failed, did not fit in memory, or have damaged files.",
        ),
    ] = False,
    online: Online = False,
    report: Annotated[bool, typer.Option(help="Show and write the comparison at the end.")] = True,
) -> None:
    """Serve a study to workers on other machines, until none of its runs is left.

    This process trains nothing, and alone touches the results. `paretune work` is a worker. After
    Ctrl-C or a crash, the same command continues, and so do the workers.
    """
    from paretune.cli.commands.report import show_report
    from paretune.cli.commands.run import raise_if_failed, summary_fields
    from paretune.execution.progress.observer import open_observer
    from paretune.verbs.report import load_results
    from paretune.verbs.serve import serve as serve_study

    with open_observer(error_stream() if json.as_json else None) as observer:
        result = serve_study(
            study.load(),
            store=store,
            host=host,
            port=port,
            token_file=token_file,
            retry=retry,
            online=online,
            observer=observer,
        )
    if json.as_json:
        write_result("serve", summary_fields(result), json.output)
    elif report:
        built = load_results(result.study, result.folder).build_report()
        show_report(built, result.folder, study.as_typed(store))
    raise_if_failed(result.summary.failed)
