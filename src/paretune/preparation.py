"""Prepares once in a process what runs read: data and its parts, encoded texts, models.

Planning reads it to identify a run and to predict its cost, training to train it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from paretune import methods
from paretune.answers import Readout
from paretune.data.example import Dataset
from paretune.data.prompt import draw_shots
from paretune.data.split import assign_folds, split_by_fold, take_share, take_whole_groups
from paretune.models.load import LoadedModel, load_model
from paretune.models.sources.resolve import ModelSource, resolve_source
from paretune.objectives import HeadSpec, Objective
from paretune.objectives.encoding import Encoded, encode_texts
from paretune.objectives.example import Example
from paretune.objectives.objective import Encode
from paretune.objectives.readouts import for_readout
from paretune.study import NO_MODEL, UNNAMED_MODEL, ModelSpec, Run, TaskSpec, compute_run_id, digest
from paretune.tasks import load_dataset as load_task

UNLABELLED = "unlabelled"
TEST_PARTS = ("test", "test_shifted", UNLABELLED)
"""Parts that final runs answer; training and selection never see them. The last one has no score.
"""

MAX_SELECTION_TEXTS = 500
"""The most texts in the selection part of a language model: every evaluation generates them."""


@dataclass(frozen=True)
class Parts:
    """The parts of a run's data; test parts are empty while a learning rate is tried."""

    train: list[Example]
    selection: list[Example]
    test: list[Example]
    test_shifted: list[Example] = field(default_factory=list)
    unlabelled: list[Example] = field(default_factory=list)

    def named(self, part: str) -> list[Example]:
        """Return the examples of a part, by its field's name."""
        examples: list[Example] = getattr(self, part)
        return examples

    @property
    def reported(self) -> tuple[str, ...]:
        """The parts that are answered after training, and have examples."""
        return tuple(part for part in ("selection", *TEST_PARTS) if self.named(part))


@dataclass
class ProcessCache:
    """Caches of one process; a run that changes a cached value restores it."""

    datasets: dict[str, Dataset] = field(default_factory=dict)
    encoded: dict[tuple[Any, ...], Encoded] = field(default_factory=dict)
    sources: dict[str, ModelSource] = field(default_factory=dict)
    loaded: dict[tuple[Any, ...], LoadedModel] = field(default_factory=dict)
    outlines: dict[tuple[Any, ...], LoadedModel] = field(default_factory=dict)
    forgetting: dict[tuple[Any, ...], list[float]] = field(default_factory=dict)
    activations: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def dataset(self, spec: TaskSpec) -> Dataset:
        """Return the task's data; never from the network."""
        key = spec.model_dump_json()
        if key not in self.datasets:
            self.datasets[key] = load_task(spec)
        return self.datasets[key]

    def source(self, spec: ModelSpec, *, offline: bool = True) -> ModelSource:
        """Return the model's files; fetch them first when not offline.

        Raises:
            ModelError: the files are missing or cannot be used.
        """
        key = spec.model_dump_json()
        if key not in self.sources:
            self.sources[key] = resolve_source(spec, offline=offline)
        return self.sources[key]

    def identify(self, run: Run) -> str:
        """Compute the run's identity from its data, the prompt it reads, weights and method code.

        For a run that generates texts it also covers how its model decodes where the study does not
        say.
        """
        dataset, weights_hash = self.dataset(run.task), ""
        configured = methods.configure(run.method)
        data_hash = dataset.content_hash
        if run.readout != "head" and dataset.prompt is not None:
            data_hash = digest([data_hash, dataset.prompt.canonical_form()])
        if run.model not in (NO_MODEL, UNNAMED_MODEL):
            source = self.source(run.model)
            weights_hash = source.weights_hash
            if run.generation is not None:
                chosen = run.generation.model_dump(exclude_none=True)
                decoding = {k: v for k, v in source.decoding.items() if k not in chosen}
                weights_hash = digest([weights_hash, decoding]) if decoding else weights_hash
        if run.method.is_command:
            weights_hash = digest([weights_hash, configured.options.hash_scripts()])
        return compute_run_id(
            run,
            data_hash=data_hash,
            weights_hash=weights_hash,
            code_epoch=configured.code_epoch,
        )

    def objective(self, run: Run, max_tokens: int | None = None) -> Objective:
        """Return the task's objective as the run trains it: with its readout and solved examples.

        Args:
            max_tokens: the most tokens of a model's input, with solved examples; None for no limit.
        """
        dataset, prompt = self.dataset(run.task), self.dataset(run.task).prompt
        shots = methods.configure(run.method).options.shots
        if shots and prompt is not None:
            solved = draw_shots(self.parts(run).train, shots, run.seed)
            room = run.training.max_length * (shots + 1)
            prompt = prompt.with_shots(solved, min(room, max_tokens or room))
        return for_readout(dataset.objective, run.readout, prompt)

    def run_model(self, run: Run, *, bf16: bool = False) -> LoadedModel:
        """Return the :meth:`model` of a run."""
        return self.model(run.model, self.dataset(run.task), readout=run.readout, bf16=bf16)

    def model(
        self, spec: ModelSpec, dataset: Dataset, *, readout: Readout = "head", bf16: bool = False
    ) -> LoadedModel:
        """Return the pretrained model with the head of a readout; only the last one is cached.

        Args:
            bf16: whether its weights are in bf16.
        """
        source = self.source(spec)
        head = _head_spec(dataset, readout)
        key = (source.weights_key, source.decoding_key, head, spec.source_prefix, bf16)
        if key not in self.loaded:
            self.loaded.clear()
            self.encoded = {k: v for k, v in self.encoded.items() if k[0] == source.weights_hash}
            self.activations = {
                k: v for k, v in self.activations.items() if k[0] == source.weights_key
            }
            self.loaded[key] = load_model(source, head, source_prefix=spec.source_prefix, bf16=bf16)
        return self.loaded[key]

    def outline(
        self, spec: ModelSpec, dataset: Dataset, *, readout: Readout = "head"
    ) -> LoadedModel:
        """Return the model without its weights, with a head; tasks with as many labels share one.

        Raises:
            ModelError: the model cannot be used; a run with it could not start.
        """
        source = self.source(spec)
        head = _head_spec(dataset, readout)
        shape = replace(head, purpose="", labels=())
        key = (source.weights_hash, source.decoding_key, shape, spec.source_prefix)
        if key not in self.outlines:
            same = [outline for k, outline in self.outlines.items() if k[0] == key[0]]
            # A tokenizer with languages set is not shared.
            shared = same[0].tokenizer if same and not head.languages else None
            self.outlines[key] = load_model(
                source,
                head,
                source_prefix=spec.source_prefix,
                weights=False,
                tokenizer=shared,
            )
        return self.outlines[key]

    def drop_model(self) -> None:
        """Drop the model, because it may differ from the loaded one."""
        self.loaded.clear()

    def parts(self, run: Run) -> Parts:
        """Return the parts of a run, by its protocol."""
        dataset = self.dataset(run.task)
        rows, test = list(dataset.train), list(dataset.test)
        if run.outer is not None:
            rows, test = split_by_fold(dataset, run.outer, run.split_seed)
        if run.rows < 1:  # fewer labels also leave fewer rows for selection
            rows = take_share(rows, run.rows, run.split_seed)
        final: tuple[list[Example], ...] = ([], [], [])
        if run.stage == "final":
            # Encoding and prediction need labels: these get the first one, which nothing reads.
            unlabelled = dataset.unlabelled if dataset.predicts_unlabelled else ()
            final = test, [*dataset.shifted], [replace(example, label=0) for example in unlabelled]
        if run.selection == "test":
            return Parts(rows, test, *final)  # a preset's run, which trains on all rows
        folds = assign_folds(rows, run.split_seed)
        selection = [e for e, f in zip(rows, folds, strict=True) if f == run.fold]
        train = [e for e, f in zip(rows, folds, strict=True) if f != run.fold]
        if not dataset.objective.draws_head:
            selection, rest = take_whole_groups(selection, MAX_SELECTION_TEXTS)
            train += rest
        return Parts(train, selection, *final)

    def encode(
        self,
        examples: list[Example],
        loaded: LoadedModel,
        source: ModelSource,
        length: int,
        encode: Encode = encode_texts,
    ) -> Encoded:
        """Return the token ids of the examples; each tokenizer, list and length is encoded once."""
        # The key has the examples, not their uids: two tasks both have a "train:0".
        direction = loaded.direction
        key = (source.weights_hash, length, tuple(examples), direction, encode)
        if key not in self.encoded:
            self.encoded[key] = encode(examples, loaded.tokenizer, length, direction.prefix)
        return self.encoded[key]


def _head_spec(dataset: Dataset, readout: Readout) -> HeadSpec:
    objective = for_readout(dataset.objective, readout, dataset.prompt)
    return objective.head_spec(dataset.labels, dataset.languages)
