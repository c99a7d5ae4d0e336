"""``tune``: from a data file to an answer and an exported adapter."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from paretune.study import Study
from paretune.study.data_frame import save_data_frame
from paretune.study.quantities import parse_duration, parse_size
from paretune.verbs.export import ExportResult, export
from paretune.verbs.output_file import write_output
from paretune.verbs.plan import plan
from paretune.verbs.recommend import recommend
from paretune.verbs.report import report
from paretune.verbs.run import RunResult, run
from paretune.verbs.study_draft import draft_study
from paretune.verbs.time_budget import fit_to_budget

if TYPE_CHECKING:
    from paretune.execution.progress.observer import Observer
    from paretune.reporting.model import Report
    from paretune.reporting.text.recommendation import Advice
    from paretune.verbs.workers import WorkerOptions

Tell = Callable[[str], None]


class Columns(TypedDict, total=False):
    """Columns that need no guess.

    Attributes:
        label: the column of labels.
        text: the column of texts.
        pair: the column of second texts.
        source: of a translation, what to translate.
        target: of a translation, the translation.
    """

    label: str | None
    text: str | None
    pair: str | None
    source: str | None
    target: str | None


@dataclass(frozen=True)
class TuneResult:
    """A comparison on a data file, and what came of it.

    Attributes:
        file: the study file, which can be changed and run again.
        study: what it says.
        doubts: guesses to look at; empty where an existing study file was continued.
        reduced: what was given up for the time budget, as words.
        run: where the results are, and how the runs ended.
        advice: what to take, why, and what would change it.
        exported: the trained model; None where what to take needs no training.
    """

    file: Path
    study: Study
    doubts: tuple[str, ...]
    reduced: tuple[str, ...]
    run: RunResult
    advice: Advice
    exported: ExportResult | None

    @property
    def report(self) -> Report:
        """Scores with intervals, costs and verdicts of all methods."""
        return report(self.study, store=self.run.folder)

    def _repr_html_(self) -> str:
        exported = "" if self.exported is None else self.exported._repr_html_()
        return self.report._repr_html_() + exported


def tune(
    data: Any,
    *,
    model: str | None = None,
    columns: Columns | None = None,
    test: str | None = None,
    drop_unlabelled: bool = False,
    budget: str | float | None = None,
    max_memory: str | float | None = None,
    output: Path | str | None = None,
    observer: Observer | None = None,
    tell: Tell | None = None,
    quiet: bool = False,
    **workers: Unpack[WorkerOptions],
) -> TuneResult:
    """Compare fine-tuning methods on a data file, and export what to take.

    Writes the study file ``NAME.yaml``, the results ``studies/NAME`` and the export into the
    current folder. The same call continues where it was interrupted.

    Args:
        data: a data file (csv, tsv, jsonl, parquet), or a DataFrame (pandas, polars) or
            ``datasets.Dataset``, whose rows are written to ``data-HASH.parquet``.
        model: a hub name, a folder, or ``package:NAME``; a small English one by default.
        columns: ``label``, ``text``, ``pair``, ``source``, ``target``; guessed by default.
        test: the test file, or ``none``: a part of the rows. By default a file in the same folder
            that is called so and fits.
        drop_unlabelled: leave out rows that have no label.
        budget: time for the whole comparison: ``"30min"``, or seconds. Where it is too short, rows,
            rates, seeds and methods are given up.
        max_memory: peak memory in training: ``"4GiB"``, or bytes.
        output: folder of the export; ``exports/STUDY/...`` by default.
        observer: told how the runs go on; by default it is shown in a terminal or a notebook.
        tell: called with a sentence on what was guessed, reduced and predicted; shown by default as
            the runs are.
        quiet: show nothing.
        workers: ``workers``, ``threads``, ``devices``, ``online``
            (:class:`~paretune.verbs.workers.WorkerOptions`).

    Returns:
        The answer, and where the study file, the results and the export are. Runs that stopped with
        an error raise nothing; they are in ``run.summary.failed``.

    Raises:
        ParetuneError: the data, the model or a method cannot be used, or the budget is too small.
        KeyboardInterrupt: after the workers gave their runs back.
    """
    from paretune.data.schema_inference.infer_task import NamedColumns
    from paretune.execution.progress.observer import default_tell

    if max_memory is not None:
        parse_size(max_memory, "--max-memory")  # before hours of training, not after them
    tell = tell or default_tell(quiet=quiet)
    if isinstance(data, Path | str):
        path = Path(data)
    else:
        path = save_data_frame(data, Path())
        tell(f"The data is kept in {path}.")
    draft = draft_study(
        path,
        None,
        model,
        NamedColumns(**(columns or {})),
        None,
        test=test,
        drop_unlabelled=drop_unlabelled,
    )
    file = Path(f"{draft.name}.yaml")
    doubts: tuple[str, ...] = ()
    reduced: tuple[str, ...] = ()
    if file.exists():
        tell(f"Continuing with {file} as it is.")
    else:
        doubts, text = draft.doubts, draft.text
        tell(f"What was guessed, also in {file}:")
        for guess in draft.guesses:
            tell(f"  {guess}")
        if budget is not None:
            text, reduced = _fit(text, budget, workers, tell)
        write_output(file, text, overwrite=False)
    study = Study.load(file)
    ran = run(study, observer=observer, quiet=quiet, **workers)
    (advice,) = recommend(study, called=str(file), max_memory=max_memory)
    exported = None
    if advice.command:
        exported = export(
            study,
            method=advice.method,
            output=output,
            train_again=True,
            online=workers.get("online", False),
            tell=tell,
        )
    return TuneResult(file, study, doubts, reduced, ran, advice, exported)


def _fit(
    text: str, budget: str | float, workers: WorkerOptions, tell: Tell
) -> tuple[str, tuple[str, ...]]:
    """The study file, reduced so that it fits the budget, and what was given up.

    Its comments stay.
    """
    from ruamel.yaml import YAML

    from paretune.reporting.text.formatting import format_seconds

    seconds = parse_duration(budget, "--budget")
    yaml = YAML()  # round trip: keeps comments, and makes plain values of any text
    yaml.preserve_quotes = True
    yaml.width = 200
    values: dict[str, Any] = yaml.load(text)
    reduced, predicted = fit_to_budget(
        values,
        seconds,
        lambda study: plan(study, **workers),
        lambda own: Study.parse(json.loads(json.dumps(own))),
    )
    if reduced:
        tell(f"To stay within {format_seconds(seconds)}: {'; '.join(reduced)}.")
    tell(f"Predicted: {format_seconds(predicted.seconds_left or 0.0)}.")
    out = io.StringIO()
    yaml.dump(values, out)
    return out.getvalue(), tuple(reduced)
