"""Loading a pretrained model for a task, with a new head where it needs one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import safetensors
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from paretune.errors import ModelError, first_line
from paretune.models.dropout import DropoutRates, read_dropout_rates
from paretune.models.quantised import QuantisedLinear
from paretune.models.sources.files import read_tensor_dtypes
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.anatomy import Anatomy, read_anatomy
from paretune.models.structure.heads import (
    SAFE_LOADING,
    load_config,
    quiet_transformers,
    require_head,
    score_last_token,
    scores_tokens,
)
from paretune.models.structure.layers import is_within, parent_name
from paretune.models.structure.topology import topology_of
from paretune.models.tokenizer import load_tokenizer
from paretune.models.translation_languages import NO_DIRECTION, TranslationDirection, set_languages
from paretune.models.weight_storage import WeightStorage, require_finite, store_weights
from paretune.objectives.objective import HeadSpec
from paretune.study import Generation, derive_seed

if TYPE_CHECKING:
    from transformers import GenerationConfig


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for methods.

    Attributes:
        model: a ``PreTrainedModel`` on the CPU, in evaluation mode; what is trained is in fp32.
        head_parameters: names of the head's parameters: all that the checkpoint did not supply, and
            the classifier; none where the head is the checkpoint's own.
        direction: how a translation model is told the languages; empty for all others.
        transposed: layers that the checkpoint has as ``Conv1D``, linear layers here
            (:mod:`paretune.models.load`).
    """

    model: Any
    tokenizer: Any
    anatomy: Anatomy
    head_parameters: tuple[str, ...]
    notes: tuple[str, ...] = ()
    direction: TranslationDirection = NO_DIRECTION
    dropout_rates: DropoutRates = field(default_factory=dict)
    transposed: tuple[str, ...] = ()

    @property
    def pad_id(self) -> int:
        """The token of padding, which is masked, so that any token would do."""
        return self.anatomy.pad_id or 0

    def generation_config(self, generation: Generation) -> GenerationConfig:
        """The search of a study, by this model.

        Raises:
            TypeError: it generates no texts.
        """
        return self.anatomy.topology.generation_config(
            self.model, generation, self.anatomy.max_length, self.direction.forced_bos_token_id
        )

    def backbone_digest(self) -> str:
        """SHA-256 of all parameters outside the head, bit by bit; runs leave it."""
        digest = hashlib.sha256()
        packed = [
            (f"{name}.{buffer_name}", buffer)
            for name, module in self.model.named_modules()
            if isinstance(module, QuantisedLinear)
            for buffer_name, buffer in module.named_buffers(recurse=False)
        ]
        for name, tensor in sorted([*self.model.named_parameters(), *packed], key=itemgetter(0)):
            if name not in self.head_parameters:
                plain = tensor.detach().cpu().reshape(-1).view(torch.uint8)
                digest.update(name.encode())
                digest.update(memoryview(plain.numpy()))
        return digest.hexdigest()


def load_model(
    source: ModelSource,
    head: HeadSpec,
    *,
    source_prefix: str | None = None,
    weights: bool = True,
    tokenizer: Any = None,
    bf16: bool = False,
) -> LoadedModel:
    """Load a model with the head that an objective asks for; runs draw it by :func:`reset_head`.

    Args:
        source_prefix: what a translation model wants before every text.
        weights: False leaves the tensors on the meta device: their names and shapes are checked
            against the files, and nothing is read. Enough to plan, and to know that runs can start.
        bf16: hold frozen matrices in bf16 (:mod:`paretune.models.weight_storage`). No weight goes
            through fp32 that is held in less.

    Raises:
        ModelError: an architecture without such a head or with an unknown structure, weights that
            are missing or of the wrong shape in the backbone, a tokenizer that cannot be used, or
            languages that the model does not know.
        MissingDependencyError: what quantises is not installed.
    """
    where, storage = f"model {source.name}", WeightStorage(bf16, source.quantisation)
    with quiet_transformers():
        config = load_config(source)
        auto_class = require_head(config, head, where)
        if head.problem_type is not None or head.labels:
            names = head.labels or tuple(f"LABEL_{i}" for i in range(head.logits))
            config.id2label = dict(enumerate(names))
            config.label2id = {name: i for i, name in enumerate(names)}
            config.problem_type = head.problem_type
        elif head.logits and topology_of(config).pooled_token == -1:
            config.num_labels = head.logits  # each choice is a text of its own
        open_model = partial(_from_pretrained, auto_class, source, config, where)
        # The model is first opened without weights: the config's shapes are compared with those of
        # the files before they take memory, and the anatomy is read from a model whose weights no
        # pass has read.
        model, info = open_model(False, torch.float32)
        transposed = to_linear_layers(model)
        try:
            anatomy = read_anatomy(model)
        except ModelError as error:
            raise ModelError(error.what, where=where, remedy=error.remedy) from None
        parameters = _split_drawn(model, anatomy, head, info, where)
        fast = anatomy.topology.requires_fast_tokenizer
        tokenizer = tokenizer or load_tokenizer(source.folder, model, anatomy, where, fast=fast)
        if weights:
            dtype = checkpoint_dtype(source)
            model = open_model(True, dtype)[0]
            to_linear_layers(model)
        if anatomy.topology.pooled_token == -1:
            if anatomy.pad_id is None:  # a decoder's config may name no padding token
                model.config.pad_token_id = tokenizer.pad_token_id
                anatomy = replace(anatomy, pad_id=tokenizer.pad_token_id)
            if scores_tokens(model):
                # It keeps no keys and values for tokens to come.
                model.forward = partial(model.forward, use_cache=False)
            elif head.logits:
                model.forward = partial(score_last_token, model)
        direction = NO_DIRECTION
        if head.languages and head.kind == "causal_lm":  # its prompt names the languages
            direction = TranslationDirection(prefix=source_prefix or "")
        elif head.languages:
            direction = set_languages(tokenizer, head.languages, source_prefix, where)
    if weights:
        if dtype != torch.float32:
            _recompute_half_tensors(model, anatomy)
        store_weights(model, anatomy, storage, source.folder, where)
    notes = list(source.notes)
    if any(name not in info["missing_keys"] for name in parameters):
        notes.append(f"{source.name} comes with a classifier; every run draws its own instead")
    rates = read_dropout_rates(model)
    return LoadedModel(
        model.eval(), tokenizer, anatomy, parameters, tuple(notes), direction, rates, transposed
    )


def _split_drawn(
    model: nn.Module, anatomy: Anatomy, head: HeadSpec, info: dict[str, Any], where: str
) -> tuple[str, ...]:
    """Names of the head's parameters; ModelError where the checkpoint lacks any of the backbone."""
    drawn = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    if not head.logits:  # the checkpoint's own head: nothing may be missing
        _require_none(sorted(drawn), info, where)
        return ()
    classifier, _ = find_classifier(model, anatomy, head.logits, where)
    parameters, lost = [], []
    for name, _ in model.named_parameters():
        in_head = is_within(name, *anatomy.head_modules)
        if name in drawn and not in_head:
            lost.append(name)
        elif name in drawn or is_within(name, classifier):
            parameters.append(name)
    _require_none(lost, info, where)
    return tuple(parameters)


def _require_none(lost: Sequence[str], info: dict[str, Any], where: str) -> None:
    if not lost:
        return
    listed = ", ".join(lost[:4]) + (f" and {len(lost) - 4} more" if len(lost) > 4 else "")
    what = f"the checkpoint lacks weights of the model, or has them in another shape: {listed}."
    shapes = {name: pair for name, *pair in info["mismatched_keys"]}
    if reshaped := [name for name in lost if name in shapes]:
        saved, expected = map(tuple, shapes[reshaped[0]])
        what += f" {reshaped[0]} is {saved} in the file and {expected} by config.json."
    raise ModelError(
        what, where=where, remedy="It is damaged, or its config.json belongs to another model."
    )


def require_finite_weights(source: ModelSource) -> None:
    """Read all of a checkpoint's weights, and check that they are numbers.

    Raises:
        ModelError: one is not.
    """
    for path in sorted(source.folder.glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
            for name, tensor in tensors:
                require_finite(name, tensor, f"model {source.name}")


def reset_head(loaded: LoadedModel, seed: int) -> None:
    """Draw all parameters of the head as ``transformers`` initialises them, from ``seed`` alone.

    The same seed gives the same bits whatever ran before and on every device; the global
    generators are left as they were.
    """
    if not loaded.head_parameters:
        return
    model, head = loaded.model, set(loaded.head_parameters)
    devices = {}
    for name, parameter in model.named_parameters():
        if name in head:
            devices[name] = parameter.device
            parameter.data = parameter.data.cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "head"))
        _initialise(model, head)
    for name, device in devices.items():
        parameter = model.get_parameter(name)
        parameter.data = parameter.data.to(device)


def checkpoint_dtype(source: ModelSource) -> torch.dtype:
    """The half precision of all of a checkpoint's floating-point tensors; otherwise fp32."""
    types = set().union(*map(read_tensor_dtypes, source.folder.glob("*.safetensors")))
    floating = {name for name in types if "F" in name}
    halves = {"BF16": torch.bfloat16, "F16": torch.float16}
    return halves.get("".join(floating), torch.float32)


def _recompute_half_tensors(model: Any, anatomy: Anatomy) -> None:
    """Compute in fp32 what is in no file (sines, scales) and came out in half precision.

    Raises:
        ModelError: the model's class does not compute it again.
    """
    saved = {*model.state_dict()} - {*anatomy.untrainable}
    named = (*model.named_parameters(), *model.named_buffers())
    computed = {
        n: t for n, t in named if t.is_floating_point() and t.itemsize == 2 and n not in saved
    }
    if not computed:
        return
    for tensor in computed.values():
        tensor.data = torch.full(tensor.shape, torch.nan)
    _initialise(model, {*computed})
    if wrong := [name for name, tensor in computed.items() if tensor.isnan().any()]:
        raise ModelError(
            f"{type(model).__name__} does not compute {wrong[0]} again in fp32.",
            remedy="Save its weights in fp32.",
        )


def _initialise(model: Any, names: set[str]) -> None:
    """Let ``transformers`` initialise some parameters and buffers, and no other.

    It initialises what is not marked as initialised: unmark these and their parents, since some
    models draw a child's weights in their parent's turn (ModernBERT).
    """
    parents = {"", *(name[:i] for name in names for i, letter in enumerate(name) if letter == ".")}
    for name, module in model.named_modules():
        module._is_hf_initialized = name not in parents
    for name, tensor in (*model.named_buffers(), *model.named_parameters()):
        tensor._is_hf_initialized = name not in names
    model.initialize_weights()


def _from_pretrained(
    auto_class: Any, source: ModelSource, config: Any, where: str, weights: bool, dtype: torch.dtype
) -> tuple[Any, dict[str, Any]]:
    try:
        model, info = auto_class.from_pretrained(
            source.folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # a classifier of another task; judged by the caller
            output_loading_info=True,
            use_kernels=False,  # these are code of the hub, which others may write
            **({} if weights else {"device_map": "meta"}),
            **SAFE_LOADING,
        )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (what a config asks for can fail anywhere)
        raise ModelError(f"cannot be loaded ({first_line(error)}).", where=where) from None
    return model, info


def rescale_regression_head(loaded: LoadedModel, mean: float, deviation: float) -> None:
    """Let a regression head predict in the unit of the labels, not in standard deviations.

    A decoder's classifier has no bias, and gets one.
    """
    last: Any = find_classifier(loaded.model, loaded.anatomy, 1, "rescale")[1]
    with torch.no_grad():
        last.weight.mul_(deviation)
        if last.bias is None:
            last.bias = nn.Parameter(torch.zeros_like(last.weight[:, 0]))
        last.bias.mul_(deviation).add_(mean)


def find_classifier(
    model: nn.Module, parts: Anatomy, logits: int, where: str
) -> tuple[str, nn.Linear]:
    """The last linear layer of the head with as many outputs as there are logits.

    Returns:
        The name of the head module that it is, or is in; and the layer.

    Raises:
        ModelError: there is none.
    """
    matching = [
        (outer, module)
        for outer in parts.head_modules
        for module in model.get_submodule(outer).modules()
        if isinstance(module, nn.Linear) and module.out_features == logits
    ]
    if not matching:
        raise ModelError(
            f"{type(model).__name__} has no linear layer with {logits} outputs; "
            f"behind its backbone it has {', '.join(parts.head_modules) or 'nothing'}.",
            where=where,
        )
    return matching[-1]


def load_headless_encoder(source: ModelSource) -> tuple[Any, Any]:
    """An encoder in fp32 on the CPU, in evaluation mode, and its tokenizer.

    Raises:
        ModelError: it cannot be loaded, lacks weights that its hidden states need, or cannot pad.
    """
    from transformers import AutoModel, AutoTokenizer

    where = f"model {source.name}"
    with quiet_transformers():
        open_model = partial(_from_pretrained, AutoModel, source, load_config(source), where)
        info = open_model(False, torch.float32)[1]
        # Many lack a pooler; hidden states do not depend on it.
        missing = [key for key in info["missing_keys"] if "pooler" not in key]
        reshaped = [name for name, *_ in info["mismatched_keys"]]
        _require_none(sorted({*missing, *reshaped}), info, where)
        model = open_model(True, torch.float32)[0]
        try:
            tokenizer = AutoTokenizer.from_pretrained(source.folder, **SAFE_LOADING)
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot be loaded ({first_line(error)}).", where=where) from None
    if not tokenizer.pad_token:
        remedy = "Choose an encoder, in the style of BERT."
        raise ModelError("its tokenizer has no padding token.", where=where, remedy=remedy)
    return model.eval(), tokenizer


def to_linear_layers(model: Any) -> tuple[str, ...]:
    """Replace every ``Conv1D`` by a linear layer, in place; the names of those replaced."""
    names = tuple(name for name, module in model.named_modules() if isinstance(module, Conv1D))
    for name in names:
        old = model.get_submodule(name)
        new = nn.Linear(old.nx, old.nf, device="meta")
        _replace(model, name, old, new)
    return names


def to_conv1d_layers(model: Any, names: Iterable[str]) -> None:
    """Undo :func:`to_linear_layers`, in place, with the weights as they are now."""
    for name in names:
        old = model.get_submodule(name)
        # Made as small as can be: its constructor draws weights, and these are replaced.
        new = Conv1D(1, 1)
        new.nf, new.nx = old.out_features, old.in_features
        _replace(model, name, old, new)


def _replace(model: Any, name: str, old: Any, new: Any) -> None:
    new.weight = nn.Parameter(old.weight.detach().t().contiguous(), old.weight.requires_grad)
    new.bias = old.bias
    new.train(old.training)
    setattr(model.get_submodule(parent_name(name)), name.rpartition(".")[2], new)
