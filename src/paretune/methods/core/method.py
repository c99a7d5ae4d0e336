"""What a method is: one value at the end of its file, ``METHOD = Method(...)``, and its options.

Whatever the rest of the package has to know about a method is a field of this value; nothing asks
for its name. What answers without a model is a :class:`Baseline`. Options are a pydantic model of
what a study file may say beside the name; one is shared by every method that stands beside layers:
:attr:`LayerOptions.layers`.

Nothing here imports torch at run time, since analysis and reports read these facts too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from paretune.answers import Readout
from paretune.errors import MethodError
from paretune.objectives import LossOptions, Objective
from paretune.study.specs import FrozenModel
from paretune.study.study_file import KeyPath
from paretune.study.validation_errors import read_faults

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from paretune.methods.core.injection import Injection
    from paretune.methods.core.registry import ConfiguredMethod
    from paretune.methods.core.run_axis import Fleet
    from paretune.models.load import LoadedModel
    from paretune.models.structure.anatomy import Anatomy
    from paretune.objectives.encoding import Encoded
    from paretune.objectives.example import Example
    from paretune.objectives.objective import Loss


class MethodOptions(FrozenModel):
    """Base of the options of every method, and the options of a method that has none.

    Values are taken as they are: ``"8"`` and ``8.0`` are no whole numbers. What is no field is not
    set in study files: a private attribute, filled in later.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    READ_WITH: ClassVar[Mapping[str, str]] = {}
    """Options that are read only where another one, a flag, is true."""

    @property
    def shots(self) -> int:
        """How many solved examples of train stand in each prompt; drawn by the run's seed."""
        return 0

    def with_tokenizer(self, tokenizer: Any) -> Self:
        """The same, with the token ids of what is held as text."""
        return self

    def count_layers_below(self, anatomy: Anatomy) -> int:
        """How many layers of an anatomy lie below everything that is trained.

        The option ``layers`` has taken others out of the anatomy before.
        """
        return 0


OptionsT = TypeVar("OptionsT", bound=MethodOptions)
Locate = Callable[[KeyPath, str], str]
"""Where a study says something, for errors: from keys below a method, and what stands there."""


def no_place(place: KeyPath, words: str) -> str:
    """No more than the words."""
    return words


def parse_options(
    method: str,
    options: type[OptionsT],
    values: Mapping[str, Any],
    locate: Locate = no_place,
) -> OptionsT:
    """Check the values of a study file and make a method's options of them.

    Raises:
        MethodError: an unknown option, a wrong type, or a value out of range; a line for each.
    """
    try:
        return options.model_validate(dict(values))
    except ValidationError as error:
        faults = []
        for fault in read_faults(error, options, values):
            option = ", option " + ".".join(map(str, fault.group)) if fault.group else ""
            where = locate(fault.place, f"method {method}{option}")
            faults.append(MethodError(f"{fault.what}.", where=where, remedy=fault.remedy))
        if len(faults) == 1:
            raise faults[0] from None
        raise MethodError("\n".join(map(str, faults))) from None


def _as_tuple(value: Any) -> Any:
    """A list as a tuple, and what stands alone as a tuple of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
"""A list of names; one may stand alone."""
LayerNumbers = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_as_tuple), Field(min_length=1)
]
"""Numbers of layers, from 0; one may stand alone."""


def _read_methods(value: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} is not a list of methods")
    methods = [{"name": entry} if isinstance(entry, str) else entry for entry in value]
    for entry in methods:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise ValueError(f"{entry!r} is not a method; write a name, or {{name: ..., rank: 8}}")
    return tuple(dict(entry) for entry in methods)


MethodList = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_read_methods)]
"""Methods: names, or mappings with a name and the method's options."""


ALL = "all"
_END = re.compile(r"(upper|lower):([1-9][0-9]*)")
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")


def parse_subset(value: Any) -> str:
    """One way of writing each subset: ``0-2,5`` for ``[0, 1, 2, 5]`` and for ``5, 0-2``.

    Raises:
        ValueError: it is none of the forms above.
    """
    invalid = ValueError(
        f"{value!r} names no layers; write all, ranges of numbers from 0 (0-3, 8-11), upper:4 or "
        "lower:4"
    )
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    words = [str(part).strip() for part in parts]
    if isinstance(value, bool) or not words:
        raise invalid
    if len(words) == 1 and (words[0] == ALL or _END.fullmatch(words[0])):
        return words[0]
    numbers: set[int] = set()
    for word in words:
        match = _RANGE.fullmatch(word)
        first, last = (match[1], match[2] or match[1]) if match else ("1", "0")
        if int(last) < int(first) or int(last) > MAX_LAYERS:
            raise invalid
        numbers.update(range(int(first), int(last) + 1))
    return write_ranges(numbers)


MAX_LAYERS = 10_000
"""More than any model has: a number above it is a mistake."""


def write_ranges(numbers: Iterable[int]) -> str:
    """``0-2,5`` for 0, 1, 2 and 5."""
    ordered = sorted(numbers)
    starts = [n for before, n in pairwise([-2, *ordered]) if n != before + 1]
    ends = [n for n, after in pairwise([*ordered, ordered[-1] + 2]) if after != n + 1]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def list_layers(subset: str, count: int) -> tuple[int, ...]:
    """The numbers of a checked subset in a model of ``count`` layers, lowest first.

    Raises:
        MethodError: the model has fewer layers than it names.
    """
    if subset == ALL:
        return tuple(range(count))
    if end := _END.fullmatch(subset):
        size = int(end[2])
        chosen = [*(range(count - size, count) if end[1] == "upper" else range(size))]
        highest = size - 1
    else:
        chosen = [
            number
            for match in _RANGE.finditer(subset)
            for number in range(int(match[1]), int(match[2] or match[1]) + 1)
        ]
        highest = max(chosen)
    if highest >= count:
        raise MethodError(
            f"layers: {subset} is not in this model, which has {count} layers (0 to {count - 1})."
        )
    return tuple(chosen)


class LayerOptions(MethodOptions):
    """Base of the options of every method that stands beside layers.

    ``layers``: in which of them. ``all``; ranges of numbers from 0, both ends included (``0-3``,
    ``0-1,10-11``, ``5``); or the last or first of them (``upper:4``, ``lower:4``). Layers are
    counted through the whole model, a translation model's encoder first. What is trained in the
    upper layers alone needs no backward pass below them, so that subset is cheaper than an equal
    number of layers spread over the model.
    """

    layers: Annotated[str, BeforeValidator(parse_subset)] = ALL


Rates = tuple[float, float, float]
"""A low, a middle and a high learning rate: the range that makes sense for a method."""


class Trains(Enum):
    """What training changes. Cost estimates, exports and stacks follow from it."""

    EVERYTHING = "every parameter of the model"
    ADAPTER = "parameters of its own beside the frozen model, and the head"
    HEAD = "the head alone"
    NOTHING = "nothing"


class Head(Enum):
    """Which head a method needs."""

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
            tensors of the only run; ``common`` goes to PEFT's config (``task_type``,
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
        inject: puts the method into a model, (model, anatomy, options, fleet, seeds) -> injection.
            Every trained tensor has the shape (runs, ...). Slice ``r`` is drawn from ``seeds[r]``
            alone, by private generators. The base's own parameters are not changed, and
            ``Injection.undo`` restores the model bit for bit. MethodError where the model or the
            options cannot be served; the model is then as before.
        count_parameters: the formula for the trained parameters of one run without the head
            (EVERYTHING: with the head), of a model that may be on the meta device.
        code_epoch: raised whenever the method's results change; it is part of a run's identity.
        head: which head it needs; tasks with another are refused.
        readouts: how a model with this method may answer (:mod:`paretune.objectives.readouts`), as
            far as task, model and ``head`` allow it.
        body_training: what its steps minimise, where it is not the objective's loss.
        reads_base_weights: trains, measures or rewrites the base's matrices; where no method does,
            they may be held in bf16.
        cannot_train_quantised: with these options, why its adapters do not train beside quantised
            matrices; or "".
        trains_alone: its runs cannot share a forward pass, even with their own kind.
        mixes: its runs may share batches with runs of other methods that mix: it stands beside
            layers and draws nothing during a step.
        learning_rates: of encoders and translation models; None: it learns nothing.
        decoder_learning_rates: of decoder-only models, where they are others.
        merge: folds the only run into the weights and takes the method out: a plain model with the
            same logits; None: it cannot be merged.
        peft_export: the same as PEFT has it; None: PEFT has nothing that runs here.
        to_sentence_transformers: writes the trained model as a folder of sentence-transformers
            whose vectors are the logits, (loaded model, most tokens, folder).
        first_in_stack: why it must be the first member of a stack; or "".
        virtual_tokens: what it puts them before: the ``text``, which one member of a stack may do,
            or keys and values of ``attention``. No token of a text goes through its parameters.
        wraps_layers: takes the place of layers, as PEFT's tuners do. ``count_parameters`` puts it
            into the model, and so needs the model's weights.
        members_of: with these options, the methods that it is made of. Rates are those of the
            first; epoch, precision, fleets and costs follow from all of them.
        saved_widths: vectors of a layer's width that it keeps for each token and layer until the
            backward pass, beside the layer's own; measured (``bench/method_costs.py``).
    """

    name: str
    title: str
    options: type[MethodOptions]
    inject: Callable[[Any, Anatomy, Any, Fleet, list[int]], Injection]
    count_parameters: Callable[[Any, Anatomy, Any], int]
    learning_rates: Rates | None
    decoder_learning_rates: Rates | None = None
    code_epoch: int = 1
    trains: Trains = Trains.ADAPTER
    head: Head = Head.ANY
    readouts: tuple[Readout, ...] = ("head", "label_words", "text", "reward", "likelihood")
    body_training: BodyTraining | None = None
    reads_base_weights: Callable[[Any], bool] = lambda options: False
    cannot_train_quantised: Callable[[Any], str] = lambda options: ""
    trains_alone: Callable[[Any], bool] = lambda options: False
    mixes: Callable[[Any], bool] = lambda options: False
    merge: Callable[[nn.Module, Injection], None] | None = None
    peft_export: PeftExport | None = None
    to_sentence_transformers: Callable[[LoadedModel, int, Path], None] | None = None
    first_in_stack: str = ""
    virtual_tokens: Literal["", "text", "attention"] = ""
    wraps_layers: bool = False
    members_of: Callable[[Any], Sequence[ConfiguredMethod]] | None = None
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
    """What answers without a model.

    Attributes:
        name: in study files.
        fit: from training examples, number of labels, options and seed to a function from examples
            to scores (examples, labels), or to texts.
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
