"""The card of an export: what it is, a program that predicts with it, what it scores and cost.

Cards and programs are the templates beside this file.
"""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

from paretune import metrics, tasks
from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.statistics.intervals import score_interval
from paretune.data.example import Dataset
from paretune.exporting.restore import TaskSignature
from paretune.files import make_file_name
from paretune.methods.core.titles import title_of
from paretune.models.sources.resolve import ModelSource, find_package_folder
from paretune.models.structure.heads import AUTO_CLASSES, choose_auto_class, load_config
from paretune.models.structure.topology import DECODER, topology_of
from paretune.objectives.encoding import marks_pairs
from paretune.objectives.prompt import Prompt
from paretune.objectives.readouts import for_readout
from paretune.objectives.readouts.label_words import count_trailing_tokens
from paretune.reporting.text import formatting
from paretune.reporting.text.escape import escape_markdown, markdown_code, open_templates
from paretune.store.record import Record
from paretune.study import Generation, Run, Study, TaskSpec
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line
from paretune.training.prepare import PreparedModel

ADAPTERS = ("peft", "lora")
"""Forms that are an adapter in PEFT's files, on a base that is found elsewhere."""
LIBRARIES = {
    "peft": "peft",
    "lora": "peft",
    "merged": "transformers",
    "sentence_transformers": "sentence-transformers",
    "paretune": "paretune",
}
"""The library that opens each form."""
PIPELINES = {
    "sequence_classification": "text-classification",
    "token_classification": "token-classification",
    "multiple_choice": "multiple-choice",
    "seq2seq_lm": "translation",
    "causal_lm": "text-generation",
}
"""The hub's name of the task of each head."""
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's ``--max-lora-rank`` (its ``LoRAConfig``); 16 is its default."""
_PEFT_CLASSES = {
    "SEQ_CLS": "AutoPeftModelForSequenceClassification",
    "TOKEN_CLS": "AutoPeftModelForTokenClassification",
    "SEQ_2_SEQ_LM": "AutoPeftModelForSeq2SeqLM",
    "CAUSAL_LM": "AutoPeftModelForCausalLM",
}


@dataclass(frozen=True)
class ExportedRun:
    """A run that is exported, and what its card says of it.

    Attributes:
        task_cells: all cells of its task, for the baselines.
        form: one of :data:`paretune.exporting.export_selection.FORMS`.
        warnings: sentences that a user must read first.
    """

    study: Study
    cell: Cell
    task_cells: Sequence[Cell]
    record: Record
    dataset: Dataset
    source: ModelSource
    form: str
    warnings: tuple[str, ...] = ()

    @property
    def run(self) -> Run:
        """The run that was trained."""
        return self.record.run

    @property
    def task(self) -> TaskSignature:
        """The facts of its task that the model has to know."""
        return TaskSignature.of(self.run, self.dataset)


USAGES = {
    "sequence_classification": "texts",
    "multiple_choice": "choices",
    "token_classification": "words",
    "seq2seq_lm": "generation",
    "causal_lm": "generation",
}
"""The template of the code that answers, by the head of a task."""


def render_predict(
    run: Run, dataset: Dataset, prepared: PreparedModel, form: str
) -> tuple[str, Any]:
    """Code that defines ``predict``, which answers as the run did when it was scored.

    Args:
        prepared: the model as it was then.
        form: in which it is exported.

    Returns:
        The code, which needs ``re``, ``torch``, ``model`` and ``tokenizer``, and one of the entries
        of the list that ``predict`` takes; their form depends on the objective.
    """
    loaded, prompt = prepared.loaded, dataset.prompt or Prompt()
    generation = run.generation or Generation()
    objective = for_readout(dataset.objective, run.readout, dataset.prompt)
    decoder = loaded.anatomy.topology.pooled_token == -1
    prompted = decoder and run.readout != "head"
    pairs = prompt.names_pair if prompted else _has_pairs(dataset)
    usage, tail = USAGES[dataset.objective.head], 0
    chat = False
    if prompted and run.readout == "label_words":
        usage, tail = "label_words", count_trailing_tokens(loaded.tokenizer)
    elif prompted:
        usage = "text"
        chat = any(example.messages for example in (*dataset.train[:1], *dataset.test[:1]))
    settings: dict[str, Any] = {}
    if usage == "generation":
        config = loaded.generation_config(generation)
        settings = {
            "num_beams": config.num_beams,
            "length_penalty": config.length_penalty,
            "max_new_tokens": config.max_length - 1,
            "do_sample": False,
            "forced_bos_token_id": loaded.direction.forced_bos_token_id,
        }
    elif usage == "text":
        settings = {**describe_search(run), "pad_token_id": prepared.loaded.pad_id}
    code = render_template(
        f"predict_{usage}.py.j2",
        form=form,
        run=run,
        dataset=dataset,
        prompt=prompt,
        generates=objective.generates,
        decoder=decoder,
        thresholds=getattr(loaded.model.config, "thresholds", None),
        pairs=pairs,
        chat=chat,
        settings=settings,
        tokens=f"truncation=True, max_length={prepared.max_length}, padding=True, "
        'return_tensors="pt"',
        max_length=prepared.max_length,
        marks_pairs=marks_pairs(loaded.tokenizer),
        prefix=loaded.direction.prefix,
        source_language=getattr(loaded.tokenizer, "src_lang", None),
        stop=list(dict.fromkeys((*objective.stop, *generation.stop))),
        # The answer follows no special token that the tokenizer puts behind a text.
        cut=f"[: -{tail}]" if tail else "",
    )
    example: Any = "A text."
    if usage == "choices" or (usage == "label_words" and not prompt.label_texts):
        example = ("A text.", [f"Choice {i}." for i in range(len(dataset.labels))])
    elif chat:
        example = [{"role": "user", "content": "A question."}]
    elif usage == "texts" and dataset.features:
        example = dict.fromkeys(dataset.features, "a value")
    elif pairs and usage != "generation":
        example = ("A first text.", "A second text.")
    return code, example


def describe_search(run: Run) -> dict[str, Any]:
    """How a decoder writes its answers, as arguments of ``generate``."""
    generation = run.generation or Generation()
    search = {
        "max_new_tokens": generation.max_new_tokens,
        "num_beams": generation.num_beams,
        "length_penalty": generation.length_penalty,
        "do_sample": False,
    }
    return {name: value for name, value in search.items() if value is not None}


def render_program(
    form: str,
    task: TaskSignature,
    source: ModelSource,
    predict: str,
    example: Any,
    pad_id: int | None = None,
) -> str:
    """A whole program: imports, loading, ``predict`` and a call, run in the export's folder.

    Args:
        pad_id: the padding token of a base whose config names none.
    """
    form = "peft" if form in ADAPTERS else form
    topology = topology_of(load_config(source))
    module = inside = ""
    if source.name.startswith("package:"):
        module, inside = find_in_package(source)
    labels = ""
    if task.objective.names_labels:
        labels = pprint.pformat(list(task.labels), width=90, compact=True)
    return render_template(
        f"use_{form}.py.j2",
        auto_class=choose_auto_class(topology, task.objective.head),
        base=place_of(source),
        source=source,
        module=module,
        inside=inside,
        # Without a distribution, its name need not be one of the registry.
        install=f"pip install {requirement_of(source)}"
        if source.revision
        else "a package without version",
        draws_head=task.objective.draws_head,
        labels=labels,
        pad_id=pad_id,
        predict=predict,
        example=[example],
    )


def render_texts(spec: TaskSpec, dataset: Dataset) -> str:
    """Say how texts are made: from columns of own data, or by the template of a task."""
    segments: Sequence[Any] = ()
    description = ""
    takes_texts = dataset.languages or dataset.features or spec.has_own_data
    if not takes_texts and (task := tasks.get(spec.name)).templates:
        template = task.templates[spec.template]
        description = " ".join((template.__doc__ or "").split()).replace("``", "`")
        names = {name: f"{{{name}}}" for name in task.columns}
        try:
            segments = template(names, spec.language or task.languages[0])
        except (KeyError, ValueError, IndexError):  # an installed task that looks into its texts
            segments = ()
    return render_template(
        "texts.md.j2", task=spec, dataset=dataset, segments=segments, description=description
    )


def render_card(
    export: ExportedRun,
    program: str,
    folder: Path,
    *,
    max_length: int,
    pad_id: int | None,
    difference: float,
    answers: Any,
) -> str:
    """The card as Markdown.

    Args:
        program: of :func:`render_program`.
        folder: of the export, with its files.
        max_length: tokens that the run read of a text.
        pad_id: the padding token of a base whose config names none.
        difference: of logits, relative, between the export and the run.
        answers: :class:`paretune.exporting.export_run.AnswerCheck` of the export.
    """
    run, cell, source = export.run, export.cell, export.source
    named = source.revision or source.name.startswith("package:")
    options = ["--task", cell.task, "--model", cell.model, "--method", cell.method]
    options += ["--seed", str(run.seed), "--form", export.form]
    options += ["--allow-collapsed"] if export.warnings else []
    settings = {
        "method": {"name": run.method.name, **run.method.options},
        "learning_rate": run.learning_rate,
        "seed": run.seed,
        "training": run.training.model_dump(mode="json", exclude_none=True),
        "steps": export.record.result.get("steps"),
        "best_step": export.record.result.get("best_step"),
    }
    predictions = export.record.predictions.get("test")
    score = None
    if predictions is not None and predictions.uid:
        score = score_interval([predictions], cell.metric)
    rank = None
    if export.form in ADAPTERS:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        refused = config.get("use_dora") or config.get("modules_to_save")  # by vLLM
        if config["peft_type"] == "LORA" and not refused:
            rank = int(max([config["r"], *config.get("rank_pattern", {}).values()]))
    return render_template(
        "card.md.j2",
        export=export,
        run=run,
        cell=cell,
        dataset=export.dataset,
        source=source,
        form=export.form,
        objective=export.dataset.objective,
        metric=metrics.get(cell.metric),
        metadata=_describe_model(export, score).to_yaml(),
        # A folder's path means nothing on another machine; the study has a label for it.
        base_name=source.name if named else run.model.key,
        program=program,
        texts=render_texts(run.task, export.dataset),
        pairs=_has_pairs(export.dataset),
        max_length=max_length,
        pad_id=pad_id,
        difference=difference,
        answers=answers,
        labels=export.task.objective.names_labels,
        peft_class=_PEFT_CLASSES.get(export.task.objective.peft_task_type or ""),
        base=place_of(source),
        requirement=requirement_of(source),
        serving=export.form != "paretune"
        and export.task.objective.head == "causal_lm"
        and topology_of(load_config(source)) is DECODER,
        served_name=make_file_name(*run.cell).replace("%", "-"),
        served_base=shlex.quote(source.name) if place_of(source) == "hub" else "BASE_FOLDER",
        rank=rank,
        ranks=VLLM_RANKS,
        max_rank=next((r for r in VLLM_RANKS if r >= (rank or 0)), None),
        baselines=[
            c
            for c in export.task_cells
            if c.baseline and c.model in (NO_MODEL, cell.model) and c is not cell
        ],
        # One run says nothing about the variance over seeds.
        score=score,
        cost=cell.cost[-1].measured if cell.cost else {},
        in_doubt=bool(cell.cost) and cell.cost[-1].step_in_doubt,
        # No line of it begins inside a text, which could end the block.
        settings=yaml_dump(settings, sort_keys=False, width=1 << 20).strip(),
        options=shlex.join(options),
    )


def render_template(template: str, package: str = "paretune.exporting", **values: Any) -> str:
    """The text of a package's template; names of users are escaped by its filters."""
    # No HTML: Markdown and Python have escapes of their own.
    jinja = open_templates(package)
    jinja.filters |= {
        "code": markdown_code,
        "line": sanitise_line,
        "markdown": escape_markdown,
        "repr": repr,
    }
    functions = (
        formatting.format_bytes,
        formatting.format_examples,
        formatting.format_interval,
        formatting.format_runs,
        formatting.format_seconds,
        formatting.format_units,
        pluralise,
        title_of,
    )
    jinja.globals |= {function.__name__: function for function in functions}
    return jinja.get_template(template).render(values)


def render_loading_lines(form: str, task: TaskSignature, folder: Path) -> tuple[str, ...]:
    """The import and the line that loads an export by the class of its library for any base."""
    place, objective, labels = repr(str(folder)), task.objective, ""
    if form == "paretune":
        return "import paretune", f"model, tokenizer = paretune.load({place})"
    library, name, load = {
        "peft": ("peft", _PEFT_CLASSES.get(objective.peft_task_type or ""), ".from_pretrained"),
        "merged": ("transformers", AUTO_CLASSES[objective.head], ".from_pretrained"),
        "sentence_transformers": ("sentence_transformers", "SentenceTransformer", ""),
    }.get(form, ("", None, ""))
    if name is None:
        return (f"# the program in {folder / 'README.md'} loads it",)
    if form == "peft" and objective.names_labels:
        labels = f", num_labels={len(task.labels)}"
    return f"from {library} import {name}", f"model = {name}{load}({place}{labels})"


def warn_before_publishing(
    form: str, folder: Path, target: Path, source: ModelSource
) -> tuple[str, ...]:
    """Warn that an export names a path of this machine, and say how to change it."""
    if form not in ADAPTERS or place_of(source) == "hub":
        return ()
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return (
        f"Before you publish it: base_model_name_or_path in {target / 'adapter_config.json'} is a "
        f"path of this machine ({config['base_model_name_or_path']}), since the base has no "
        "name on the hub. "
        'Write there a name that others can open, or "": '
        "PeftModel.from_pretrained(base, FOLDER) does not read it, only AutoPeftModel does.",
    )


def _describe_model(export: ExportedRun, score: Any) -> ModelCardData:
    """The block that the hub reads; without a licence: it depends on base, data and owner.

    It has the score of this run, and the mean of all final runs of its cell.
    """
    run, cell, source, dataset = export.run, export.cell, export.source, export.dataset
    metric, pipeline = metrics.get(cell.metric), PIPELINES[export.task.objective.head]
    mean = cell.interval if cell.interval is not None and cell.interval.n_seeds > 1 else None
    results = [
        EvalResult(
            task_type=pipeline,
            dataset_type=run.task.dataset or sanitise_line(cell.task),
            dataset_name=sanitise_line(cell.task),
            dataset_split="cross-validation" if cell.design.is_cross_validation else "test",
            dataset_revision=run.task.revision,
            metric_type=metric.name,
            metric_value=round(interval.estimate, 6),
            metric_name=f"{metric.title}, {name}: {formatting.format_interval(interval)} "
            f"({formatting.format_basis(interval)})",
        )
        for name, interval in (("this model", score), ("mean of all runs", mean))
        if interval is not None
    ]
    return ModelCardData(
        library_name=LIBRARIES[export.form],
        pipeline_tag=pipeline,
        tags=["paretune", sanitise_line(run.method.name)],
        base_model=source.name if place_of(source) == "hub" else None,
        language=list(dataset.languages or filter(None, [dataset.language])) or None,
        datasets=[run.task.dataset] if run.task.dataset else None,
        eval_results=results or None,
        model_name=sanitise_line(f"{title_of(cell.method)} for {cell.task}") if results else None,
    )


def _has_pairs(dataset: Dataset) -> bool:
    examples = dataset.train or dataset.test
    return any(second is not None for _, second in examples[0].segments) if examples else False


def find_in_package(source: ModelSource) -> tuple[str, str]:
    """The module of a base that lies in a package, and code for its place below it."""
    name = source.name.removeprefix("package:")
    module = name.replace("-", "_")
    # Not the source's folder: converted weights are in a cache of this machine.
    parts = find_package_folder(name)[0].parts
    last = len(parts) - parts[::-1].index(module)
    return module, "".join(f" / {part!r}" for part in parts[last:])


def place_of(source: ModelSource) -> str:
    """Where a base is found: ``hub``, ``package``, or ``folder`` of this machine."""
    if source.name.startswith("package:"):
        return "package"
    return "folder" if source.revision is None else "hub"


def requirement_of(source: ModelSource) -> str:
    """The requirement by which pip installs the package of a base."""
    name = source.name.removeprefix("package:").replace("_", "-")
    return f"{name}=={source.revision}" if source.revision else name
