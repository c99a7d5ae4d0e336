"""The type of a method, which is one value at the end of its file: ``METHOD = Method(...)``.

Whatever the rest of the package has to know about a method is a field of this value; nothing asks
for its name. A :class:`Baseline` answers without a model. A :class:`ConfiguredMethod` and a
:class:`ConfiguredBaseline` have the options of a study file beside it.

Nothing here imports torch at run time, since analysis and reports read these facts too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paretune.answers import Readout
from paretune.methods.core.options import ALL, LayerOptions, MethodOptions, list_layers
from paretune.objectives import LossOptions, Objective
from paretune.objectives.example import Example

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from paretune.methods.core.injection import Injection
    from paretune.models.load import LoadedModel
    from paretune.models.pass_context import PassContext
    from paretune.models.structure.anatomy import Anatomy
    from paretune.models.structure.topology import Topology
    from paretune.objectives.encoding import Encoded
    from paretune.objectives.objective import Loss

Rates = tuple[float, float, float]
"""A low, a middle and a high learning rate: the range that makes sense for a method."""


class Trains(Enum):
    """The parameters that training changes. Cost estimates, exports and stacks follow from it."""

    EVERYTHING = "every parameter of the model"
    ADAPTER = "parameters of its own beside the frozen model, and the head"
    HEAD = "the head alone"
    NOTHING = "nothing"


class Head(Enum):
    """The head that a method needs."""

    ANY = "any"
    NEW = "a head that is drawn for the task"
    PRETRAINED = "a head that came with the checkpoint"
    LABELS = "a head that is drawn to choose one of several labels"


def always(options: Any) -> bool:
    """Whatever the options are."""
    return True


@dataclass(frozen=True)
class BodyTraining:
    """Training of the body by a loss of its own, with a head that is fitted before each evaluation.

    Attributes:
        texts_per_row: texts that a training pass reads for each row of a batch.
        draw: from the training part, the rows of a step and a seed to the texts of the step, as
            choices: (rows, ``texts_per_row``, tokens). MethodError where there are none.
        loss: of the model's outputs for these texts, in place of the objective's.
        loss_settings: which of :data:`~paretune.objectives.objective.LOSS_SETTINGS` it reads, or
            ``fit_head``.
        fit_head: sets the head, (loaded model, labels, options, embed); ``embed()`` gives the
            model's outputs for the training part in evaluation mode, (rows, outputs).
    """

    texts_per_row: int
    draw: Callable[[Encoded, Sequence[int], int], Encoded]
    loss: Loss
    fit_head: Callable[[LoadedModel, Sequence[Any], LossOptions, Callable[[], Any]], None]
    loss_settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PeftExport:
    """A method as PEFT has it.

    Attributes:
        convert: a ``PeftModel`` around a fresh base, (model, options, injection, common), with the
            trained tensors; ``common`` goes to PEFT's config (``task_type``,
            ``modules_to_save``).
        refuse: with these options, for this objective, on this model (None: not opened, so not
            asked), why it cannot be; or "".
    """

    convert: Callable[[Any, Any, Injection, dict[str, Any]], Any]
    refuse: Callable[[Any, Objective, nn.Module | None], str] = lambda options, objective, model: ""


@dataclass(frozen=True)
class Method:
    """A way to fine-tune a model. Facts that depend on the options are functions of them.

    Attributes:
        name: in study files; also the name of the method's file, or of its entry point.
        inject: puts the method into a model, (model, anatomy, options, context, seed) -> injection.
            It draws from private generators of ``seed``. The base's own parameters are not changed,
            and ``Injection.undo`` restores the model bit for bit. It raises MethodError where the
            model or the options cannot be served, and leaves the model as before.
        count_parameters: the formula for the trained parameters without the head
            (EVERYTHING: with the head), of a model that may be on the meta device.
        code_epoch: raised whenever the method's results change; it is part of a run's identity.
        head: which head it needs; tasks with another are refused.
        readouts: how a model with this method may answer (:mod:`paretune.objectives.readouts`), as
            far as task, model and ``head`` allow it.
        body_training: the loss of its steps, where it is not the objective's.
        reads_base_weights: it trains, measures or rewrites the base's matrices; where no method
            does, they may be held in bf16.
        cannot_train_quantised: with these options, why its adapters do not train beside quantised
            matrices; or "".
        learning_rates: rates on encoders and translation models; None: it learns nothing.
        decoder_learning_rates: rates on decoder-only models, where they are others.
        merge: folds the trained parameters into the weights and takes the method out, which leaves
            a plain model with the same logits; None: it cannot be merged.
        peft_export: makes PEFT's form of the method; None: PEFT has none that runs here.
        to_sentence_transformers: writes the trained model as a folder of sentence-transformers
            whose vectors are the logits, (loaded model, most tokens, folder).
        first_in_stack: why it must be the first member of a stack; or "".
        virtual_tokens: it puts them before the ``text``, which one member of a stack may do, or
            before keys and values of ``attention``. No token of a text goes through its parameters.
        wraps_layers: it takes the place of layers, as PEFT's tuners do. ``count_parameters`` puts
            it into the model, and so needs the model's weights.
        members_of: with these options, the methods that it is made of. Rates are those of the
            first; epoch, precision and costs follow from all of them.
        saved_widths: vectors of a layer's width that it keeps for each token and layer until the
            backward pass, beside the layer's own; measured (``bench/method_costs.py``).
    """

    # Every method has these.
    name: str
    title: str
    options: type[MethodOptions]
    inject: Callable[[Any, Anatomy, Any, PassContext, int], Injection]
    count_parameters: Callable[[Any, Anatomy, Any], int]
    learning_rates: Rates | None
    # Methods that train otherwise than adapters set these.
    decoder_learning_rates: Rates | None = None
    code_epoch: int = 1
    trains: Trains = Trains.ADAPTER
    head: Head = Head.ANY
    readouts: tuple[Readout, ...] = ("head", "label_words", "text", "reward", "likelihood")
    body_training: BodyTraining | None = None
    reads_base_weights: Callable[[Any], bool] = lambda options: False
    cannot_train_quantised: Callable[[Any], str] = lambda options: ""
    # Exports read these.
    merge: Callable[[nn.Module, Injection], None] | None = None
    peft_export: PeftExport | None = None
    to_sentence_transformers: Callable[[LoadedModel, int, Path], None] | None = None
    # Stacks read these.
    first_in_stack: str = ""
    virtual_tokens: Literal["", "text", "attention"] = ""
    wraps_layers: bool = False
    members_of: Callable[[Any], Sequence[ConfiguredMethod]] | None = None
    # Memory estimates read this.
    saved_widths: float = 2.0

    @property
    def not_in_stack(self) -> str:
        """Why it cannot be a member of a stack, or ""."""
        if "methods" in self.options.model_fields:
            return "name its members instead"
        if self.wraps_layers:
            return "it takes the place of layers that others stand beside"
        return {
            Trains.EVERYTHING: "it trains everything already",
            Trains.ADAPTER: "",
            Trains.HEAD: "the head is trained with every method",
            Trains.NOTHING: "it trains nothing",
        }[self.trains]


@dataclass(frozen=True)
class Baseline:
    """A predictor without a model.

    Attributes:
        name: in study files.
        fit: takes training examples, number of labels, options and seed, and gives a function from
            examples to scores (examples, labels), or to texts.
        code_epoch: raised whenever its results change.
        is_useful: whether anybody may take it; otherwise it is only a score to be exceeded,
            and never recommended.
        complexity: between baselines that score the same, the lowest is recommended.
    """

    name: str
    title: str
    fit: Callable[[Sequence[Example], int, Any, int], Callable[[Sequence[Example]], Any]]
    options: type[MethodOptions] = MethodOptions
    code_epoch: int = 1
    is_useful: bool = True
    complexity: int = 0


@dataclass(frozen=True)
class ConfiguredMethod:
    """A method with checked options, and its facts for these options."""

    method: Method
    options: Any

    @property
    def name(self) -> str:
        """The name in study files."""
        return self.method.name

    @property
    def trains(self) -> Trains:
        """The part of the model that training changes."""
        return self.method.trains

    @property
    def learns(self) -> bool:
        """Whether it takes steps."""
        return self.trains is not Trains.NOTHING

    def loss_settings(self, objective: Objective) -> tuple[str, ...]:
        """The :data:`~paretune.objectives.objective.LOSS_SETTINGS` that its steps read."""
        body = self.method.body_training
        return objective.loss_settings if body is None else body.loss_settings

    @cached_property
    def parts(self) -> Sequence[ConfiguredMethod]:
        """The methods that it is made of, in order; empty but for a stack."""
        return self.method.members_of(self.options) if self.method.members_of else ()

    def learning_rates(self, topology: Topology) -> Rates | None:
        """Low, middle, high on models of a topology; None where nothing is learnt."""
        if self.parts:
            return self.parts[0].learning_rates(topology)
        in_decoders = self.method.decoder_learning_rates if topology.has_decoder_rates else None
        return in_decoders or self.method.learning_rates

    @property
    def code_epoch(self) -> int:
        """Part of a run's identity; new code of a part is a new run too."""
        return self.method.code_epoch + sum(part.code_epoch - 1 for part in self.parts)

    @property
    def reads_base_weights(self) -> bool:
        """Whether the base's matrices must be there in full precision."""
        return self.method.reads_base_weights(self.options) or any(
            part.reads_base_weights for part in self.parts
        )

    @property
    def cannot_train_quantised(self) -> str:
        """Why it cannot train on a quantised base, or ""."""
        if self.trains is Trains.EVERYTHING:
            return "it trains every weight, and no step moves a quantised one"
        reasons = (part.cannot_train_quantised for part in self.parts)
        return next(filter(None, reasons), self.method.cannot_train_quantised(self.options))

    def inject(
        self, model: nn.Module, anatomy: Anatomy, context: PassContext, seed: int
    ) -> Injection:
        """Put the method into a model; ``seed`` is the run's."""
        return self.method.inject(model, self.own_part(anatomy), self.options, context, seed)

    def count_parameters(self, model: nn.Module, anatomy: Anatomy) -> int:
        """The trained parameters."""
        return self.method.count_parameters(model, self.own_part(anatomy), self.options)

    def count_token_parameters(self, model: nn.Module, anatomy: Anatomy) -> int:
        """Count the trained parameters that every token of a text goes through."""
        if self.parts:
            subset = self.own_part(anatomy)
            return sum(part.count_token_parameters(model, subset) for part in self.parts)
        if self.trains is not Trains.ADAPTER:
            return 0
        if self.method.virtual_tokens or self.method.wraps_layers:  # these cannot be counted here
            return 0
        return self.count_parameters(model, anatomy)

    def count_layers_below(self, anatomy: Anatomy) -> int:
        """How many of a model's layers lie below everything that the method trains.

        The backward pass ends above them. 0 where it is not known.
        """
        subset, below = self.own_part(anatomy), 0
        if self.trains is Trains.HEAD:
            below = len(subset.layers)
        elif self.parts:
            below = min(part.count_layers_below(subset) for part in self.parts)
        else:
            below = self.options.count_layers_below(subset)
        if below == len(subset.layers):
            return len(anatomy.layers)
        return anatomy.find_layer(subset.layers[below].name) or 0

    def sum_saved_widths(self, anatomy: Anatomy) -> float:
        """Vectors of the width that it keeps for each token until the backward pass.

        They are summed over its layers, and come on top of those that the layers themselves keep.
        """
        subset = self.own_part(anatomy)
        if self.parts:
            return sum(part.sum_saved_widths(subset) for part in self.parts)
        below: int = self.options.count_layers_below(subset)
        return self.method.saved_widths * (len(subset.layers) - below)

    def own_part(self, anatomy: Anatomy) -> Anatomy:
        """The part of a model that the method sees: the layers of its option ``layers``.

        Raises:
            MethodError: the model has fewer layers.
        """
        if not isinstance(self.options, LayerOptions) or self.options.layers == ALL:
            return anatomy
        return anatomy.select_layers(list_layers(self.options.layers, len(anatomy.layers)))

    def with_tokenizer(self, tokenizer: Any) -> ConfiguredMethod:
        """A copy whose options also have the token ids of their texts."""
        return replace(self, options=self.options.with_tokenizer(tokenizer))


@dataclass(frozen=True)
class ConfiguredBaseline:
    """A baseline with checked options."""

    method: Baseline
    options: Any
    learns = False

    def learning_rates(self, topology: Topology) -> Rates | None:
        """It has no rates, since it has no steps."""
        return None

    @property
    def code_epoch(self) -> int:
        """Part of a run's identity."""
        return self.method.code_epoch

    def fit(
        self, train: Sequence[Example], num_labels: int, seed: int
    ) -> Callable[[Sequence[Example]], Any]:
        """A function from examples to scores (examples, labels), or to texts.

        If examples have several labels, each is fitted against the rest; the scores are logits.
        """
        if not isinstance(train[0].label, str):
            return self.method.fit(train, num_labels, self.options, seed)
        columns = zip(*(str(e.label) for e in train), strict=True)
        rows = ([replace(e, label=int(a)) for e, a in zip(train, c, strict=True)] for c in columns)
        predictors = [self.method.fit(labelled, 2, self.options, seed) for labelled in rows]
        return lambda examples: np.column_stack([np.diff(p(examples)) for p in predictors])
