"""A run's model as it was when it was scored: its weights, the model, and new predictions.

Weights come from the store, or the run is trained again (:func:`load_or_retrain`).

paretune's own form of an export is a folder with ``weights.safetensors`` and ``paretune.json`` (the
run, its task and its base model), which :func:`open_native_folder` opens on the base model.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load as load_tensors, save_file

from paretune import methods, objectives
from paretune.answers import Answer, Readout
from paretune.data.example import Dataset
from paretune.errors import MethodError, StoreError, WeightsNotKeptError, spell_option
from paretune.execution.progress import format_duration
from paretune.files import expand_home
from paretune.methods import ConfiguredBaseline
from paretune.models.load import LoadedModel, load_model, rescale_regression_head
from paretune.models.sources.resolve import ModelSource, is_local_folder
from paretune.objectives import Objective
from paretune.objectives.example import Example
from paretune.objectives.prompt import Prompt
from paretune.objectives.readouts import for_readout
from paretune.preparation import ProcessCache
from paretune.reporting.text.formatting import format_bytes
from paretune.store import Store
from paretune.store.encoding import decode_predictions
from paretune.store.record import Record
from paretune.study import Generation, Run, specs
from paretune.study.specs import FrozenModel
from paretune.training.checkpoint import drop_run_axis
from paretune.training.evaluation.predict import evaluate, generate
from paretune.training.forward.passes import Compute
from paretune.training.forward.select import forward_for
from paretune.training.prepare import PreparedModel, prepare

TOLERANCE = 1e-3
"""Largest difference of a number from the recorded one, relative where that is above 1."""
FORMAT = 2
"""Version of ``paretune.json``."""
PATH_KEYS = {
    "task": (*specs.PATH_KEYS, "dataset"),
    "generation": ("bertscore_model",),
    "forgetting": ("text",),
}
"""Settings of a run that may be a path on the machine that trained it; loading needs none."""


class TaskSignature(FrozenModel):
    """The facts of its task that a model has to know."""

    kind: str
    labels: tuple[str, ...]
    languages: tuple[str, ...] = ()
    readout: Readout = "head"

    @classmethod
    def of(cls, run: Run, dataset: Dataset) -> TaskSignature:
        """The signature of a run on its data."""
        return cls(
            kind=dataset.kind,
            labels=dataset.labels,
            languages=dataset.languages,
            readout=run.readout,
        )

    @property
    def objective(self) -> Objective:
        """The objective of the task's kind, by its readout but without the task's prompt."""
        return for_readout(objectives.get(self.kind), self.readout, Prompt())


def load_base(
    task: TaskSignature, source: ModelSource, source_prefix: str | None = None
) -> LoadedModel:
    """The base model with a head for the task."""
    head = task.objective.head_spec(task.labels, task.languages)
    return load_model(source, head, source_prefix=source_prefix)


def restore_run(
    run: Run,
    task: TaskSignature,
    source: ModelSource,
    weights: bytes | None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> PreparedModel:
    """The trained model, on the CPU and in evaluation mode.

    A regression's predictions are in the label's unit.

    Args:
        weights: its trained tensors; None: as they are drawn before training.
        precision: it will compute in this one; its weights are fp32 in either case.

    Raises:
        StoreError: the weights do not belong to such a run.
    """
    loaded = load_base(task, source, run.model.source_prefix)
    training = run.training.model_copy(
        update={"precision": precision, "activation_checkpointing": False}
    )
    prepared = prepare(run.model_copy(update={"training": training}), loaded)
    loaded.model.eval()
    if weights is None:
        return prepared
    stored = load_tensors(weights)
    trained = prepared.trained
    tensors = {n: drop_run_axis(t, trained[n]) for n, t in stored.items() if n in trained}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if len(stored) != len(tensors) or shapes != {n: p.shape for n, p in trained.items()}:
        raise StoreError(
            "the kept weights do not fit the method as it is now.",
            where=f"run {run.method.key} seed {run.seed}",
            remedy="They were made by another version of paretune; train the run again.",
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(tensors[name])
    # The header of safetensors: its length, then JSON.
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    metadata = json.loads(header.get("__metadata__", {}).get("paretune", "{}"))
    if target := metadata.get("target"):
        rescale_regression_head(loaded, target["mean"], target["deviation"])
    if thresholds := metadata.get("thresholds"):
        loaded.model.config.thresholds = thresholds
    return prepared


def write_native_folder(
    run: Run, task: TaskSignature, source: ModelSource, prepared: PreparedModel, folder: Path
) -> None:
    """Write the trained tensors of ``prepared`` and their description."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.detach().contiguous() for name, p in prepared.trained.items()}
    thresholds = getattr(prepared.loaded.model.config, "thresholds", None)
    metadata = {"paretune": json.dumps({"thresholds": thresholds})} if thresholds else None
    save_file(tensors, folder / "weights.safetensors", metadata=metadata)
    local = is_local_folder(source)
    plain = run.model_dump(mode="json")
    if local:
        plain["model"]["name"] = run.model.key
    for section, keys in PATH_KEYS.items():
        values = plain.get(section) or {}
        for key in keys:
            value = values.get(key)
            if isinstance(value, str) and expand_home(value).is_absolute():
                values[key] = Path(value).name
    description = {
        "format": FORMAT,
        "run": plain,
        "task": task.model_dump(mode="json", exclude_defaults=True),
        "base": {
            "name": run.model.key if local else source.name,
            "folder": local,
            "revision": source.revision,
            "weights_hash": source.weights_hash,
        },
    }
    (folder / "paretune.json").write_text(json.dumps(description, indent=2), encoding="utf-8")


def open_native_folder(folder: Path, source: ModelSource) -> PreparedModel:
    """The model that :func:`write_native_folder` wrote, on its base model.

    Raises:
        MethodError: it has an unknown format, or belongs to another base model.
    """
    description = read_native_folder(folder)
    base, task = description["base"], TaskSignature.model_validate(description["task"])
    if base["weights_hash"] != source.weights_hash:
        raise MethodError(
            f"was trained on other files of {base['name']} than those of {source.name}.",
            where=str(folder),
            remedy="Give the base that it was trained on.",
        )
    weights = (folder / "weights.safetensors").read_bytes()
    return restore_run(Run.model_validate(description["run"]), task, source, weights)


def read_native_folder(folder: Path) -> dict[str, Any]:
    """The content of ``paretune.json``.

    Raises:
        MethodError: there is none, or it has an unknown format.
    """
    try:
        text = (folder / "paretune.json").read_text(encoding="utf-8")
        description: dict[str, Any] = json.loads(text)
    except (OSError, ValueError) as error:
        raise MethodError(
            f"is no folder that paretune exported ({error}).", where=str(folder)
        ) from None
    if description.get("format") != FORMAT:
        raise MethodError(
            f"is of format {description.get('format')}; this version reads {FORMAT}.",
            where=str(folder),
            remedy="Update paretune.",
        )
    return description


def predict(
    run: Run,
    dataset: Dataset,
    examples: Sequence[Example],
    caches: ProcessCache,
    weights: bytes | None,
) -> tuple[tuple[Any, ...], int]:
    """Answers to new examples, computed as when the run was scored.

    Args:
        examples: of the dataset's form; their labels are ignored.
        weights: its trained tensors; None for a baseline, which is fitted again.

    Returns:
        (examples,) indices into the dataset's labels, or texts; and how many texts were truncated.

    Raises:
        MethodError: the task has labels, and the run answers by texts that it writes.
    """
    objective = caches.objective(run)
    if dataset.labels and objective.generates:
        raise MethodError(
            "its answers are texts that it writes, which may name no label.",
            where=" x ".join(run.cell),
            remedy="Choose a run whose readout is label_words or head.",
        )
    truncated = 0
    if weights is None:
        method = methods.configure(run.method)
        assert isinstance(method, ConfiguredBaseline)  # noqa: S101  (its run has no model)
        fitted = method.fit(caches.parts(run).train, len(dataset.labels), run.seed)
        answers = fitted(examples)
    else:
        compute, source = Compute.of(run, "cpu"), caches.source(run.model)
        task = TaskSignature.of(run, dataset)
        prepared = restore_run(run, task, source, weights, compute.precision)
        loaded, context = prepared.loaded, prepared.context
        encoded = caches.encode(
            list(examples), loaded, source, prepared.max_length, objective.encode
        )
        truncated = sum(encoded.truncated)
        if objective.generates:
            answers = generate(loaded, context, compute, encoded, run.generation or Generation())
        else:
            forward = forward_for(loaded, context, compute)
            answers = evaluate(forward, encoded, objective.collector)
    if objective.predicts_labels:
        answers = map(int, answers.argmax(1))
    elif dataset.labels:
        answers = objective.predict(answers, examples, None).prediction
    return tuple(answers), truncated


def check_weights_kept(records: Sequence[Record], store: Store) -> None:
    """Check that the weights of all these runs were kept.

    Raises:
        WeightsNotKeptError: names those that were not, with what training them again takes.
    """
    dropped = store.list_dropped_runs()
    missing = [r for r in records if r.result.get("weights") is None or r.run_id in dropped]
    if not missing:
        return
    raise WeightsNotKeptError(
        "its trained weights were not kept." if len(missing) == 1 else "trained weights not kept.",
        where=", ".join(f"{' x '.join(r.run.cell)} ({describe_retraining(r)})" for r in missing),
        remedy=f"Add {spell_option('train_again', True)}: the same run gives the same weights. "
        "protocol.keep_weights in the study file says how many bytes are kept.",
    )


def describe_retraining(record: Record) -> str:
    """``418 MiB, 12 min of training``: size of a run's weights, and what training took."""
    parts = [format_bytes(int(record.result.get("trained_bytes", 0)))]
    seconds = record.measured.get("wall_seconds", {}).get("train")
    if seconds is not None:
        parts.append(f"{format_duration(float(seconds))} of training")
    return ", ".join(parts)


def load_or_retrain(
    record: Record,
    store: Store,
    *,
    train_again: bool,
    tell: Callable[[str], None] = lambda sentence: None,
) -> bytes:
    """All trained tensors of a run, as safetensors.

    Args:
        record: a final run of a method that trains a model.
        train_again: train the run again if its weights were not kept.
        tell: called before that with a sentence on what it takes.

    Raises:
        StoreError: they were not kept, or the run trained again predicts something else.
    """
    blob = record.result.get("weights")
    if blob is not None and record.run_id not in store.list_dropped_runs():
        return store.read_blob(blob)
    if record.run.method.is_command:
        named = record.result.get("artifact", "it named no artifact")
        raise StoreError(
            f"the store has no copy of what the command made ({named}).",
            where=" x ".join(record.run.cell),
            remedy="It is kept where result.json names a file or a folder in {out} as artifact, up "
            "to protocol.keep_weights; otherwise look where the command put it.",
        )
    if not train_again:
        check_weights_kept([record], store)
    tell(f"Training again: {' x '.join(record.run.cell)}, seed {record.run.seed} "
         f"({describe_retraining(record)} when it ran)")  # fmt: skip
    import torch

    from paretune.training.trainer import train_run

    torch.set_num_threads(record.measured.get("environment", {}).get("threads", 1))
    with tempfile.TemporaryDirectory() as folder:
        outcome = train_run(record.run, checkpoint=Path(folder) / "state")
    answers, recorded = outcome.blobs["predictions"], record.result["predictions"]
    answers_match = hashlib.sha256(answers).hexdigest() == recorded
    if not answers_match:
        # Bit for bit only if it trained alone and on the same processor; else to rounding.
        before = decode_predictions(store.read_blob(recorded), f"run {record.run_id}")["test"]
        now = decode_predictions(answers, "the run trained again")["test"]
        pairs = zip(now.prediction, before.prediction, strict=False)
        answers_match = before.uid == now.uid and all(is_same_answer(*pair) for pair in pairs)
    if not answers_match:
        raise StoreError(
            "trained again it answers differently: other data, processor or versions.",
            where=" x ".join(record.run.cell),
            remedy="Export where it was trained, or run the study here.",
        )
    return outcome.blobs["weights"]


def is_same_answer(answer: Answer, recorded: Answer) -> bool:
    """Whether they are equal, numbers within :data:`TOLERANCE`."""
    if isinstance(answer, float) and isinstance(recorded, float):
        return abs(answer - recorded) <= TOLERANCE * max(1.0, abs(recorded))
    return answer == recorded
