"""The forms of an export: which are possible, how PEFT's and the merged one are written and
opened.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from paretune import methods
from paretune.data.example import Dataset
from paretune.errors import MethodError, first_line
from paretune.exporting.restore import (
    TaskSignature,
    load_base,
    open_native_folder,
    write_native_folder,
)
from paretune.methods import Trains
from paretune.methods.core.injection import suppress_checkpointing_warning
from paretune.models.dropout import restore_dropout
from paretune.models.load import to_conv1d_layers
from paretune.models.quantised import dequantise
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.heads import choose_auto_class, load_config
from paretune.models.structure.topology import topology_of
from paretune.objectives.encoding import pad_batch
from paretune.objectives.example import Example
from paretune.objectives.readouts import for_readout
from paretune.study import Run
from paretune.training.forward.passes import to_tensors
from paretune.training.prepare import PreparedModel

TOLERANCE = 1e-4
"""Largest difference of logits, in fp32, between an opened export and the trained model."""

LORA_TOLERANCE = 1e-2
"""The tolerance of an adapter that was converted into LoRA, which is an approximation."""
KEPT_ENERGY = 1 - 1e-6
"""Share of the squared singular values of a layer's update that a conversion into LoRA keeps."""
LYCORIS = ("loha", "lokr")
"""Methods whose adapters PEFT converts into LoRA, as it does some of its tuners (``peft:NAME``). It
puts none on layers that are Conv1D in the checkpoint (GPT-2); LoRA it does."""

Batch = dict[str, torch.Tensor]


def explain_forms(
    run: Run, task: TaskSignature, source: ModelSource | None = None
) -> dict[str, str]:
    """Say for each form why the run cannot take it; "" if it can.

    Args:
        source: files of the base model; without them, reasons that depend on the model are left
            out.
    """
    configured = methods.configure_method(run.method)
    method, options = configured.method, configured.options
    reason = ""
    decoder = source is not None and topology_of(load_config(source)).pooled_token == -1
    if decoder and task.objective.scales_targets:
        reason = (
            "transformers' classifier of a decoder has no bias, in which the mean of the labels is"
        )
    reasons = {"peft": reason, "merged": reason, "paretune": "", "lora": reason}
    reasons["sentence_transformers"] = f"{method.title} trains no sentence encoder"
    if method.to_sentence_transformers is not None:
        reasons["sentence_transformers"] = ""
    if reason:
        return reasons
    reasons["merged"] = ""
    if method.to_sentence_transformers is not None:
        reasons["merged"] = "transformers has no classifier of sentence vectors"
    elif unmerged := [part.name for part in configured.parts if part.method.merge is None]:
        reasons["merged"] = f"{', '.join(unmerged)} cannot be merged"
    if method.trains is Trains.ADAPTER and method.merge is None:
        reasons["merged"] = f"{method.title} cannot become a part of the weights"
    if method.trains is not Trains.ADAPTER:
        reasons["peft"] = f"{method.title} is no adapter: it leaves a whole model"
        reasons["lora"] = reasons["peft"]
        return reasons
    conv1d = False
    if method.peft_export is None:
        reasons["peft"] = f"PEFT has no {method.title}"
    else:
        reasons["peft"] = method.peft_export.refuse(options, task.objective, None)
        if source is not None and not reasons["peft"]:
            base = load_base(task, source)
            reasons["peft"] = method.peft_export.refuse(options, task.objective, base.model)
            conv1d = bool(base.transposed) and method.name in LYCORIS
    if method.name == "lora":
        reasons["lora"] = "it is LoRA already: export it as peft"
    elif method.name in LYCORIS or method.name.startswith("peft:"):
        reasons["lora"] = reasons["peft"]
    else:
        reasons["lora"] = f"PEFT does not convert {method.title} into LoRA"
    if conv1d and not reasons["peft"]:
        reasons["peft"] = f"PEFT has no {method.title} for what is Conv1D in the checkpoint"
    return reasons


def build_peft_model(
    run: Run, task: TaskSignature, source: ModelSource, prepared: PreparedModel
) -> tuple[Any, Any]:
    """The run as PEFT's model on a fresh base, head included; and its tokenizer."""
    base = load_base(task, source)
    configured = methods.configure_method(run.method).with_tokenizer(base.tokenizer)
    peft_export = configured.method.peft_export
    assert peft_export is not None  # noqa: S101  (explain_forms was asked)
    injection = prepared.injection
    heads = [
        module
        for module in base.anatomy.head_modules
        if any(name.startswith(f"{module}.") for name in base.head_parameters)
    ]
    modules_to_save = [*heads, *injection.modules_to_save]
    common = {
        "modules_to_save": modules_to_save or None,
        "task_type": task.objective.peft_task_type,
    }
    adapter = peft_export.convert(base.model, configured.options, injection, common)
    with torch.no_grad():
        full_weights = {name: injection.parameters[name] for name in injection.base_weights}
        for name, parameter in {**prepared.head, **full_weights}.items():
            module = next(m for m in modules_to_save if name.startswith(f"{m}."))
            saved = adapter.get_base_model().get_submodule(module).modules_to_save["default"]
            saved.get_parameter(name.removeprefix(f"{module}.")).copy_(parameter)
    return adapter, base.tokenizer


def write_peft_adapter(
    run: Run, task: TaskSignature, source: ModelSource, prepared: PreparedModel, folder: Path
) -> None:
    """Write an adapter in PEFT's format, head included.

    Raises:
        MethodError: PEFT cannot represent it.
    """
    adapter, tokenizer = build_peft_model(run, task, source, prepared)
    adapter.save_pretrained(folder)
    _finish_adapter(folder, source, tokenizer)


def write_lora_conversion(
    run: Run, task: TaskSignature, source: ModelSource, prepared: PreparedModel, folder: Path
) -> None:
    """Write another adapter of PEFT's as LoRA, which servers such as vLLM take.

    PEFT factorises the update of each layer (``peft.convert_to_lora``): the smallest rank that
    keeps :data:`KEPT_ENERGY` of its squared singular values. Here every layer then gets the largest
    of these ranks, padded with zeros, since servers take one rank.

    Raises:
        MethodError: PEFT cannot convert it.
    """
    import peft
    from safetensors.torch import save_file

    adapter, tokenizer = build_peft_model(run, task, source, prepared)
    try:
        config, tensors = peft.convert_to_lora(adapter, rank=KEPT_ENERGY)
    except (TypeError, ValueError) as error:
        raise MethodError(
            f"PEFT cannot convert it into LoRA ({first_line(error)}).",
            where=f"method {run.method.key}",
            remedy="Export it as peft, or merged.",
        ) from None
    rank = max(len(t) for name, t in tensors.items() if name.endswith(".lora_A.weight"))
    for name, tensor in tensors.items():
        if name.endswith(".lora_A.weight"):
            missing = rank - len(tensor)
            tensors[name] = F.pad(tensor, (0, 0, 0, missing))
        elif name.endswith(".lora_B.weight"):
            tensors[name] = F.pad(tensor, (0, rank - tensor.shape[1]))
    config.r = config.lora_alpha = rank
    layers = config.rank_pattern or config.target_modules
    config.target_modules = set(layers)
    config.rank_pattern, config.alpha_pattern = {}, {}
    config.task_type, config.inference_mode = task.objective.peft_task_type, True
    folder.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(str(folder))
    _finish_adapter(folder, source, tokenizer)


def _finish_adapter(folder: Path, source: ModelSource, tokenizer: Any) -> None:
    """Write the tokenizer, and the name of a base of the hub.

    PEFT's config names it only after writing, or PEFT asks the hub.
    """
    if source.revision is not None and not source.name.startswith("package:"):
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config |= {"base_model_name_or_path": source.name, "revision": source.revision}
        path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    tokenizer.save_pretrained(folder)


def write_merged_model(
    run: Run, task: TaskSignature, source: ModelSource, prepared: PreparedModel, folder: Path
) -> None:
    """Write a plain ``transformers`` checkpoint; ``prepared`` is used up."""
    method, loaded = prepared.method.method, prepared.loaded
    # A quantised base is written as it was trained on, rounded: with the checkpoint's own weights
    # the same adapter would give other logits.
    dequantise(loaded.model)
    if method.merge is not None:
        method.merge(loaded.model, prepared.injection)
    to_conv1d_layers(loaded.model, loaded.transposed)
    first_token = loaded.direction.forced_bos_token_id
    if first_token is not None:  # otherwise it would translate into another language
        loaded.model.generation_config.forced_bos_token_id = first_token
    # The probabilities of the run, or 0 below a linear probe, are no property of the model.
    restore_dropout(loaded.model, loaded.dropout_rates)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def write_sentence_encoder(
    run: Run, task: TaskSignature, source: ModelSource, prepared: PreparedModel, folder: Path
) -> None:
    """Write a folder of sentence-transformers, whose vectors are the logits."""
    write = prepared.method.method.to_sentence_transformers
    assert write is not None  # noqa: S101  (explain_forms was asked)
    write(prepared.loaded, prepared.max_length, folder)


WRITERS = {
    "paretune": write_native_folder,
    "peft": write_peft_adapter,
    "lora": write_lora_conversion,
    "sentence_transformers": write_sentence_encoder,
    "merged": write_merged_model,
}
"""The function that writes each form; ``merged`` uses the model up."""


def open_export(form: str, task: TaskSignature, source: ModelSource, folder: Path) -> Any:
    """The model of an exported folder, opened as a user does."""
    if form == "paretune":
        return open_native_folder(folder, source).loaded.model
    if form in ("peft", "lora"):
        import peft

        with suppress_checkpointing_warning():
            return peft.PeftModel.from_pretrained(load_base(task, source).model, str(folder))
    if form == "sentence_transformers":
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    import transformers

    topology = topology_of(load_config(source))
    auto_class = getattr(transformers, choose_auto_class(topology, task.objective.head))
    return auto_class.from_pretrained(folder, local_files_only=True, use_kernels=False)


def make_batch(
    run: Run, dataset: Dataset, examples: Sequence[Example], prepared: PreparedModel
) -> Batch:
    """Examples of the task, as inputs of the model; of a causal model without targets."""
    objective = for_readout(dataset.objective, run.readout, dataset.prompt)
    loaded, length = prepared.loaded, prepared.max_length
    encoded = objective.encode(examples, loaded.tokenizer, length, loaded.direction.prefix)
    batch = to_tensors(pad_batch(encoded, range(len(examples)), loaded.pad_id), "cpu")
    if objective.head == "causal_lm":
        batch.pop("labels")
    return batch


def compute_logits(model: Any, batch: Batch) -> torch.Tensor:
    """Logits in fp32, without gradients; a decoder scores the choices of all examples as texts.

    Where words are scored they are (tokens, vocabulary | labels), for all tokens but padding.
    PEFT's prompts stand in front of them.
    """
    model.eval()
    if hasattr(model, "encode"):  # a SentenceTransformer
        with torch.inference_mode():
            vectors: torch.Tensor = model(dict(batch))["sentence_embedding"]
        return vectors.float()
    choices = batch["input_ids"].shape[1] if batch["input_ids"].ndim == 3 else 0
    decoder = topology_of(model.config).pooled_token == -1
    flat = bool(choices) and decoder
    if flat:
        batch = {name: values.flatten(0, 1) for name, values in batch.items()}
    with torch.inference_mode():
        logits: torch.Tensor = model(**batch).logits.float()
    if logits.ndim == 3 and (decoder or "labels" not in batch):
        return logits[:, -batch["input_ids"].shape[1] :][batch["attention_mask"].bool()]
    return logits.view(-1, choices) if flat else logits
