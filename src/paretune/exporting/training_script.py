"""A run as one file that trains it again, over ``transformers`` and ``peft`` alone."""

from __future__ import annotations

import pprint
from enum import Enum
from importlib.metadata import version
from typing import Any

from paretune import methods
from paretune.data.instructions import FORMS, find_form
from paretune.data.rows import read_rows
from paretune.errors import MethodError
from paretune.exporting.card import (
    describe_search,
    find_in_package,
    place_of,
    render_template,
    requirement_of,
)
from paretune.exporting.formats import build_peft_model, explain_forms
from paretune.exporting.restore import TaskSignature, restore_run
from paretune.methods.core.titles import title_of
from paretune.methods.full import NAME as FULL
from paretune.methods.lora import METHOD as LORA
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.heads import choose_auto_class, load_config, quiet_transformers
from paretune.models.structure.topology import DECODER, topology_of
from paretune.objectives.encoding import marks_pairs
from paretune.objectives.readouts.label_words import count_trailing_tokens
from paretune.preparation import ProcessCache
from paretune.store.record import Record
from paretune.study import Run, Study

KINDS = ("classification", "pair", "instruction")
"""Kinds of tasks of which there is a script."""
PACKAGES = ("torch", "transformers", "peft", "numpy")
NOT_OF_TRAINING = (
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version",
    "revision",
)  # fmt: skip
"""Fields of PEFT's config that describe a saved adapter."""


def explain_no_script(run: Run, task: TaskSignature, source: ModelSource, *, chat: bool) -> str:
    """Why there is no script of a run; "" if there is.

    Args:
        chat: the rows are conversations.
    """
    if task.kind not in KINDS or run.task.features:
        return (
            "a script trains a classifier of texts or pairs of texts, or a decoder that follows "
            f"instructions, and this is {task.kind}"
        )
    if not run.task.has_own_data:
        return f"the task {run.task.key} makes texts of its rows by a program"
    if source.quantisation is not None:
        return "a script trains models that are not quantised"
    if run.task.loss_on == "all_answers":
        return "a script learns the last answer of a conversation, and this run all of them"
    if task.kind == "instruction" and run.task.text is None and run.task.train is not None:
        form = find_form(read_rows(run.task.train)[0].values)
        if form is None or form not in FORMS[: 1 + chat]:
            return "a script reads prompts with completions, or messages, as TRL does"
    method = methods.configure_method(run.method).method
    if method.name == FULL:
        return ""
    return explain_forms(run, task, source)["peft"]


def render_script(study: Study, record: Record, source: ModelSource, caches: ProcessCache) -> str:
    """The text of the script.

    Args:
        record: a final run that has ended.
        caches: with the data of the run.

    Raises:
        DataError: the data of the run are not here.
        MethodError: there is no script of such a run.
    """
    run = record.run
    dataset = caches.dataset(run.task)
    task = TaskSignature.of(run, dataset)
    chat = any(example.messages for example in dataset.train)
    if reason := explain_no_script(run, task, source, chat=chat):
        raise MethodError(
            f"has no training script: {reason}.",
            where=f"method {run.method.key}",
            remedy="Export its weights.",
        )
    rows, training = caches.parts(run).train, run.training
    objective = caches.objective(run)
    loss = objective.loss_options(
        rows, dataset.labels, training.label_smoothing, training.class_weights
    )
    with quiet_transformers():
        prepared = restore_run(run, task, source, None)
        config: Any = None
        if run.method.name != FULL:
            adapter, _ = build_peft_model(run, task, source, prepared)
            config = adapter.peft_config["default"]
    factors = sorted({*prepared.injection.learning_rate_factors.values()})
    if factors and run.method.name != LORA.name:
        raise MethodError(
            "has no training script: its tensors have several learning rates.",
            where=f"method {run.method.key}",
            remedy="Export its weights.",
        )
    weights = loss.class_weights
    loaded = prepared.loaded
    decoder = topology_of(load_config(source)) is DECODER
    prompted = run.readout != "head"
    tail = count_trailing_tokens(loaded.tokenizer) if prompted else 0
    place = place_of(source)
    module, inside = find_in_package(source) if place == "package" else ("", "")
    packages = [name for name in PACKAGES if config or name != "peft"]
    requirements = [f"{name}=={version(name).partition('+')[0]}" for name in packages]
    steps = training.max_steps or training.epochs * -(-len(rows) // training.batch_size)
    return render_template(
        "train.py.j2",
        about=f"Method {title_of(run.method.key)} of the study {study.study} on {run.task.key}, "
        f"seed {run.seed}, chosen by paretune {version('paretune')}.",
        requirements=[*requirements, *([requirement_of(source)] if place == "package" else [])],
        run=run,
        task=run.task,
        source=source,
        place=place,
        module=module,
        inside=inside,
        columns=(run.task.text or "prompt", run.task.label or "completion"),
        labels=dataset.labels and pprint.pformat(list(dataset.labels), width=90, compact=True),
        auto_class=choose_auto_class(topology_of(load_config(source)), objective.head),
        decoder=decoder,
        prompted=prompted,
        generates=objective.generates,
        chat=chat,
        prompt=dataset.prompt,
        # The answer follows no special token that the tokenizer puts behind a text.
        cut=f"[: -{tail}]" if tail else "",
        settings=describe_search(run),
        stop=[*dict.fromkeys((*objective.stop, *run.generation.stop))] if run.generation else [],
        rows="texts" if prompted else "labels",
        pad_token=loaded.tokenizer.pad_token,
        marks_pairs=marks_pairs(loaded.tokenizer),
        head=pprint.pformat([*loaded.head_parameters], width=90),
        frozen=[*loaded.anatomy.untrainable],
        max_length=prepared.max_length,
        micro_batch=record.result["micro_batch"],
        best_step=record.result["best_step"],
        steps=steps,
        label_smoothing=loss.label_smoothing,
        class_weights=weights and [row[0] for row in weights],
        config=config and _list_changes(config),
        config_class=type(config).__name__,
        factors=f'{factors[0]} if "lora_B" in name else 1.0' if factors else "1.0",
    )


def _list_changes(config: Any) -> dict[str, str]:
    """The fields of PEFT's config that are not its defaults, as Python."""
    usual = type(config)().to_dict()
    changes = {}
    for name, value in config.to_dict().items():
        if name in NOT_OF_TRAINING or value == usual.get(name):
            continue
        # PEFT adds names of heads that are there already.
        if isinstance(value, set) or name == "modules_to_save":
            value = sorted(set(value))
        if isinstance(value, Enum):
            value = value.value
        changes[name] = pprint.pformat(value, width=90, compact=True)
    return changes
