"""What a process keeps between runs: data read once, texts encoded once, a model loaded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from paretune.data.example import Dataset, Example
from paretune.data.split import assign_folds, take_whole_groups
from paretune.models.bf16_weights import cast_to_bf16
from paretune.models.load import (
    LoadedModel,
    checkpoint_dtype,
    has_computed_half_tensors,
    load_model,
)
from paretune.models.sources.resolve import ModelSource, resolve_source
from paretune.objectives.encoding import Encoded, encode_texts
from paretune.objectives.objective import Encode
from paretune.study import ModelSpec, Run, TaskSpec
from paretune.tasks import load_dataset as load_task


@dataclass(frozen=True)
class Parts:
    """The three parts of a run's data; ``test`` is empty while a rate is on trial."""

    train: list[Example]
    selection: list[Example]
    test: list[Example]


@dataclass
class ProcessCache:
    """Caches of one process. Everything in them is read-only to runs, and undone if touched."""

    datasets: dict[str, Dataset] = field(default_factory=dict)
    encoded: dict[tuple[Any, ...], Encoded] = field(default_factory=dict)
    sources: dict[str, ModelSource] = field(default_factory=dict)
    loaded: dict[tuple[Any, ...], LoadedModel] = field(default_factory=dict)
    outlines: dict[tuple[Any, ...], LoadedModel] = field(default_factory=dict)

    def dataset(self, spec: TaskSpec) -> Dataset:
        """The task's data, read at the first call; never from the network."""
        key = spec.model_dump_json()
        if key not in self.datasets:
            self.datasets[key] = load_task(spec)
        return self.datasets[key]

    def source(self, spec: ModelSpec) -> ModelSource:
        """Where the model's files lie, found at the first call; never from the network."""
        key = spec.model_dump_json()
        if key not in self.sources:
            self.sources[key] = resolve_source(spec, offline=True)
        return self.sources[key]

    def model(self, spec: ModelSpec, dataset: Dataset, *, bf16: bool = False) -> LoadedModel:
        """The pretrained model with a head for this task; the last one is kept.

        Args:
            spec: of the model.
            dataset: of the task.
            bf16: with the backbone's matrices held in bf16, for a method that never reads them.
        """
        source = self.source(spec)
        head = dataset.objective.head_spec(dataset.labels, dataset.languages)
        key = (source.weights_hash, head, spec.source_prefix, bf16)
        if key not in self.loaded:
            self.loaded.clear()
            self.encoded = {k: v for k, v in self.encoded.items() if k[0] == source.weights_hash}
            opened = partial(load_model, source, head, source_prefix=spec.source_prefix)
            self.loaded[key] = _load_in_bf16(opened, source) if bf16 else opened()
        return self.loaded[key]

    def outline(self, spec: ModelSpec, dataset: Dataset) -> LoadedModel:
        """The model without its weights (:func:`load_model`), with a head for this task; all are
        kept.

        One is enough for tasks that differ in nothing but the names of their labels.

        Raises:
            ModelError: it cannot be used; a run with it could not start.
        """
        source = self.source(spec)
        head = dataset.objective.head_spec(dataset.labels, dataset.languages)
        key = (source.weights_hash, replace(head, purpose="", labels=()), spec.source_prefix)
        if key not in self.outlines:
            others = [one for known, one in self.outlines.items() if known[0] == key[0]]
            # A tokenizer that was set to its languages is not shared.
            shared = others[0].tokenizer if others and not head.languages else None
            self.outlines[key] = load_model(
                source,
                head,
                source_prefix=spec.source_prefix,
                weights=False,
                tokenizer=shared,
            )
        return self.outlines[key]

    def drop_model(self) -> None:
        """Forget the model, because it may not be as it was loaded."""
        self.loaded.clear()

    def parts(self, run: Run) -> Parts:
        """Train, selection and test of a run, as its protocol has it."""
        dataset = self.dataset(run.task)
        test = list(dataset.test) if run.stage == "final" else []
        if run.selection == "test":
            return Parts(list(dataset.train), list(dataset.test), test)
        part = assign_folds(dataset.train, run.split_seed)
        chosen = [e for e, p in zip(dataset.train, part, strict=True) if p == run.fold]
        rest = [e for e, p in zip(dataset.train, part, strict=True) if p != run.fold]
        limit = dataset.objective.max_selection_examples
        if limit is not None:
            chosen, more = take_whole_groups(chosen, limit)
            rest += more
        return Parts(rest, chosen, test)

    def encode(
        self,
        examples: list[Example],
        loaded: LoadedModel,
        source: ModelSource,
        length: int,
        encode: Encode = encode_texts,
    ) -> Encoded:
        """Token ids of the examples, made once for each tokenizer, list and length.

        Args:
            examples: of one part.
            loaded: whose tokenizer, and prefix of a translation.
            source: of the same model.
            length: most tokens of a text.
            encode: the objective's.
        """
        # The examples themselves, not their uids: two tasks both have a "train:0".
        direction = loaded.direction
        key = (source.weights_hash, length, tuple(examples), direction, encode)
        if key not in self.encoded:
            self.encoded[key] = encode(examples, loaded.tokenizer, length, direction.prefix)
        return self.encoded[key]


def _load_in_bf16(opened: Callable[..., LoadedModel], source: ModelSource) -> LoadedModel:
    """A model held in bf16, which a checkpoint in half precision becomes without being in fp32."""
    loaded = opened(dtype=checkpoint_dtype(source))
    if has_computed_half_tensors(loaded):
        loaded = opened()
    loaded.model.config.dtype = torch.float32  # as it is called that is held so
    cast_to_bf16(loaded.model, loaded.anatomy)
    return loaded
