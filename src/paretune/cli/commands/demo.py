"""``paretune demo``: the shipped study ``demo``, from nothing to an answer in a minute or two."""

from __future__ import annotations

from paretune.cli.json_output import write_result
from paretune.cli.options import AsJson, Quiet, StoreFolder, WorkerOptions, with_option_groups
from paretune.terminal import console, echo, error_stream
from paretune.terminal.plural import pluralise

STUDY = "demo"
_PACKAGE = "package:"


@with_option_groups
def demo(
    workers: WorkerOptions,
    store: StoreFolder = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show a small comparison on sample data.

    Compares full fine-tuning, LoRA and a linear probe. Takes a minute or two on two cores, and
    fetches nothing: the data is part of paretune, the model is a package (the extra `minilm`). It
    is the shipped study `demo`, so every other verb takes it.
    """
    from paretune.errors import RunsFailedError
    from paretune.models.sources.package import find_package_folder
    from paretune.study import Study
    from paretune.verbs.study_input import shipped_studies

    file = shipped_studies()[STUDY]
    study = Study.load(file)
    for model in study.models:  # before torch is imported
        if model.name.startswith(_PACKAGE):
            find_package_folder(model.name.removeprefix(_PACKAGE))

    from paretune.execution.progress import open_observer
    from paretune.reporting.text.terminal_screen import print_answer, print_headlines
    from paretune.verbs.report import load_results, write_outputs
    from paretune.verbs.run import run

    stream = error_stream() if as_json else None
    if not quiet:
        echo(
            "Which fine-tuning method is worth it for a small encoder and 200 labelled texts?\n"
            "Full fine-tuning trains all weights, LoRA a few beside them, a linear probe the head.",
            to=stream,
        )
    with open_observer(stream, quiet=quiet) as observer:
        result = run(file, store=store, observer=observer, **vars(workers))
    report = load_results(study, result.folder).build_report()
    ((_, page),) = write_outputs(report, result.folder / "report.html")
    if as_json:
        advice = [task.advice for task in report.tasks]
        write_result("demo", {"tasks": advice, "page": page})
    elif quiet:
        print_headlines(report, console())
    else:
        print_answer(report, console(), "Three seeds are a first look; a claim needs five.")
        echo(f"Page: {page}")
        echo("Your own data: paretune tune FILE.csv")
    if failed := result.summary.failed:
        raise RunsFailedError(
            f"{pluralise(len(failed), 'run')} stopped with an error.",
            remedy="`paretune run --retry demo` tries them again.",
        )
