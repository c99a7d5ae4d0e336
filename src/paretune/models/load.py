"""Opening a pretrained model for a task, with a fresh head where it needs one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from paretune.errors import ModelError
from paretune.models.config import SAFE_LOADING, first_line, load_config, quiet_transformers
from paretune.models.dropout.rates import set_dropout
from paretune.models.sources.file_checks import read_tensor_dtypes
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.anatomy import Anatomy, read_anatomy
from paretune.models.tokenizer import load_tokenizer
from paretune.models.translation_languages import TranslationDirection, set_languages
from paretune.study import derive_seed

__all__ = [
    "LoadedModel",
    "load_model",
    "quiet_transformers",
    "rescale_regression_head",
    "reset_head",
    "set_dropout",
]


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for methods.

    Attributes:
        model: a ``PreTrainedModel`` in fp32 on the CPU, in evaluation mode.
        tokenizer: its fast tokenizer.
        anatomy: where its parts are.
        head_parameters: names of the head's parameters: all that the checkpoint did not supply, and
        the
            classifier; a translation model has none.
        notes: what a reader of the results should know.
        direction: of a translation model: what it is told of the languages.
    """

    model: Any
    tokenizer: Any
    anatomy: Anatomy
    head_parameters: tuple[str, ...]
    notes: tuple[str, ...] = ()
    direction: TranslationDirection | None = None

    def backbone_digest(self) -> str:
        """Sha256 over the bits of all parameters outside the head: the same after a run."""
        digest = hashlib.sha256()
        for name, parameter in sorted(self.model.named_parameters()):
            if name not in self.head_parameters:
                plain = parameter.detach().cpu().reshape(-1).view(torch.uint8)
                digest.update(name.encode())
                digest.update(memoryview(plain.numpy()))
        return digest.hexdigest()


def load_model(
    source: ModelSource,
    *,
    kind: str,
    num_labels: int = 0,
    labels: tuple[str, ...] = (),
    languages: tuple[str, ...] = (),
    source_prefix: str | None = None,
    weights: bool = True,
    tokenizer: Any = None,
    dtype: torch.dtype = torch.float32,
) -> LoadedModel:
    """Open a model for a kind of task; an encoder, and for a translation one with a decoder.

    The head is drawn here as ``transformers`` does, from the global generator; a run draws its own
    with :func:`reset_head`.

    Args:
        source: what ``resolve`` found.
        kind: the task's kind.
        num_labels: classes, 1 for a number; multiple choice has one score for each choice and
            ignores it.
        labels: their names, for the config.
        languages: of a translation, from which into which.
        source_prefix: what a translation model wants before every text.
        weights: False leaves the tensors on the meta device: their names and shapes are checked
            against the files, and nothing is read. Enough to plan, and to know that runs can start.
        tokenizer: this model's own, where it was opened already; a translation opens its own.
        dtype: of all tensors; another than fp32 only where the checkpoint is in it
            (:func:`checkpoint_dtype`).

    Raises:
        ModelError: an architecture without such a head or without a known anatomy, weights that
            are missing or of the wrong shape in the backbone, a tokenizer that cannot be used, or
            languages that the model does not know.
    """
    where = f"model {source.name}"
    if kind == "translation":
        return _load_encoder_decoder(source, languages, source_prefix, where, weights, dtype)
    with quiet_transformers():
        opening = (source, kind, num_labels, labels, where)
        model, info = _load_encoder(*opening, weights, dtype)
        try:
            parts = read_anatomy(
                _traceable_model(model, lambda: _load_encoder(*opening, False, torch.float32)[0])
            )
        except ModelError as error:
            raise ModelError(error.what, where=where, remedy=error.remedy) from None
        tokenizer = tokenizer or load_tokenizer(source.folder, model, parts, where)
    drawn = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    logits = 1 if kind == "multiple_choice" else num_labels
    classifier = _find_classifier(model, parts, logits, where)
    head, lost = [], []
    for name, _ in model.named_parameters():
        outside = any(_is_within(name, module) for module in parts.head_modules)
        if name in drawn and not outside:
            lost.append(name)
        elif name in drawn or _is_within(name, classifier):
            head.append(name)
    _require_all_weights(lost, where)
    notes = list(source.notes)
    if any(name not in info["missing_keys"] for name in head):
        notes.append(f"{source.name} comes with a classifier; every run draws its own instead")
    return LoadedModel(model.eval(), tokenizer, parts, tuple(head), tuple(notes))


def _load_encoder_decoder(
    source: ModelSource,
    languages: tuple[str, ...],
    source_prefix: str | None,
    where: str,
    weights: bool,
    dtype: torch.dtype,
) -> LoadedModel:
    """An encoder with a decoder: nothing of it is drawn, so nothing may be missing."""
    from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, AutoModelForSeq2SeqLM

    with quiet_transformers():
        config = load_config(source)
        if type(config) not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
            raise ModelError(
                f'is of type "{config.model_type}" and cannot translate.',
                where=where,
                remedy="Choose a model with encoder and decoder (OPUS-MT, mBART, NLLB, T5).",
            )
        opening = (AutoModelForSeq2SeqLM, source, config, where)
        model, info = _from_pretrained(*opening, weights, dtype)
        try:
            parts = read_anatomy(
                _traceable_model(model, lambda: _from_pretrained(*opening, False, torch.float32)[0])
            )
        except ModelError as error:
            raise ModelError(error.what, where=where, remedy=error.remedy) from None
        tokenizer = load_tokenizer(source.folder, model, parts, where, fast=False)
        direction = set_languages(tokenizer, model, languages, source_prefix, where)
    _require_all_weights(
        [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])], where
    )
    return LoadedModel(model.eval(), tokenizer, parts, (), source.notes, direction)


def _require_all_weights(lost: Sequence[str], where: str) -> None:
    if lost:
        shown = ", ".join(lost[:4]) + (f" and {len(lost) - 4} more" if len(lost) > 4 else "")
        raise ModelError(
            f"the checkpoint lacks weights of the model, or has them in another shape: {shown}.",
            where=where,
            remedy="It is damaged, or its config.json belongs to another model.",
        )


def reset_head(loaded: LoadedModel, seed: int) -> None:
    """Draw all parameters of the head as ``transformers`` initialises them, from ``seed`` alone.

    The same seed gives the same bits whatever ran before and on every device; the global
    generators are left as they were.
    """
    if not loaded.head_parameters:
        return
    model, head = loaded.model, set(loaded.head_parameters)
    # transformers initialises what is not marked as done: open the head and the way to it. Some
    # models draw a child's weights in their parent's turn (ModernBERT), so parents must be open.
    ways = {"", *(name[:i] for name in head for i, letter in enumerate(name) if letter == ".")}
    for name, module in model.named_modules():
        module._is_hf_initialized = name not in ways
    for buffer in model.buffers():
        buffer._is_hf_initialized = True
    devices = {}
    for name, parameter in model.named_parameters():
        parameter._is_hf_initialized = name not in head
        if name in head:
            devices[name] = parameter.device
            parameter.data = parameter.data.cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "head"))
        model.initialize_weights()
    for name, device in devices.items():
        parameter = model.get_parameter(name)
        parameter.data = parameter.data.to(device)


def _load_encoder(
    source: ModelSource,
    kind: str,
    num_labels: int,
    labels: tuple[str, ...],
    where: str,
    weights: bool,
    dtype: torch.dtype,
) -> tuple[Any, dict[str, Any]]:
    from transformers import (
        MODEL_FOR_MULTIPLE_CHOICE_MAPPING,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        AutoModelForMultipleChoice,
        AutoModelForSequenceClassification,
    )

    config = load_config(source)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f'is of type "{config.model_type}", a translation model with encoder and decoder, '
            f"and cannot serve a {kind.replace('_', ' ')} task.",
            where=where,
            remedy="Choose an encoder (BERT, RoBERTa, DeBERTa, ELECTRA, ModernBERT ...).",
        )
    if kind == "multiple_choice":
        opener, known = AutoModelForMultipleChoice, MODEL_FOR_MULTIPLE_CHOICE_MAPPING
    else:
        opener = AutoModelForSequenceClassification
        known = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
        names = labels or tuple(f"LABEL_{i}" for i in range(num_labels))
        config.id2label = dict(enumerate(names))
        config.label2id = {name: i for i, name in enumerate(names)}
        one = "regression" if kind == "regression" else "single_label_classification"
        config.problem_type = one
    if type(config) not in known:
        raise ModelError(
            f'is of type "{config.model_type}", for which transformers has no head for '
            f"{kind.replace('_', ' ')}.",
            where=where,
            remedy="Encoders (BERT, RoBERTa, DistilBERT, DeBERTa, ELECTRA, ModernBERT) have one.",
        )
    return _from_pretrained(opener, source, config, where, weights, dtype)


def _traceable_model(model: Any, outline: Callable[[], Any]) -> Any:
    """A model in fp32 for its anatomy, which runs it: in half precision, its outline on meta."""
    return model if model.dtype == torch.float32 else outline()


def checkpoint_dtype(source: ModelSource) -> torch.dtype:
    """The half precision that all of a checkpoint's numbers are in; fp32 where there is none."""
    types = set().union(*map(read_tensor_dtypes, source.folder.glob("*.safetensors")))
    floating = {name for name in types if "F" in name}
    halves = {"BF16": torch.bfloat16, "F16": torch.float16}
    return halves.get("".join(floating), torch.float32)


def has_computed_half_tensors(loaded: LoadedModel) -> bool:
    """Whether the model computed tensors itself (sines) in the half precision it was opened in.

    They are in no file, and other numbers than those of fp32.
    """
    kept = {*loaded.model.state_dict()} - {*loaded.anatomy.untrainable}
    named = (*loaded.model.named_parameters(), *loaded.model.named_buffers())
    return any(t.is_floating_point() and t.itemsize == 2 for n, t in named if n not in kept)


def _from_pretrained(
    opener: Any, source: ModelSource, config: Any, where: str, weights: bool, dtype: torch.dtype
) -> tuple[Any, dict[str, Any]]:
    try:
        model, info = opener.from_pretrained(
            source.folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # a classifier of another task; judged by the caller
            output_loading_info=True,
            **({} if weights else {"device_map": "meta"}),
            **SAFE_LOADING,
        )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (what a config asks for can fail anywhere)
        raise ModelError(f"cannot be opened ({first_line(error)}).", where=where) from None
    return model, info


def rescale_regression_head(loaded: LoadedModel, mean: float, deviation: float) -> None:
    """Make a regression's last layer answer in the label's unit instead of in deviations."""
    outer = loaded.model.get_submodule(_find_classifier(loaded.model, loaded.anatomy, 1, "rescale"))
    last = [m for m in outer.modules() if isinstance(m, nn.Linear) and m.out_features == 1][-1]
    with torch.no_grad():
        last.weight.mul_(deviation)
        last.bias.mul_(deviation).add_(mean)


def _find_classifier(model: nn.Module, parts: Anatomy, logits: int, where: str) -> str:
    """The head module that holds the linear layer that gives the logits: the last one."""
    giving = [
        outer
        for outer in parts.head_modules
        for module in model.get_submodule(outer).modules()
        if isinstance(module, nn.Linear) and module.out_features == logits
    ]
    if not giving:
        raise ModelError(
            f"{type(model).__name__} has no linear layer that gives {logits} logits; "
            f"after its backbone it has {', '.join(parts.head_modules) or 'nothing'}.",
            where=where,
        )
    return giving[-1]


def _is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")
