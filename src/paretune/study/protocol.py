"""The settings of a study: how methods are compared, how runs train, what is tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from paretune.study.quantities import DURATION, SIZE
from paretune.study.specs import FrozenModel

MAX_COUNTS = {"tasks": 100, "models": 100, "methods": 300, "seeds": 100, "runs": 20_000}
"""Limits of one study: a larger number is a mistake, or should be several studies."""
DEFAULT_COST_SECONDS = 20.0
"""Default time for measuring the steps of one cost."""
NUM_FOLDS = 5
"""Train is always split into this many stratified parts; part 0 is the selection part."""
ClassRatios = Mapping[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
"""Weight of each class, by its label; 1 for a class without one."""
Folds = Annotated[int, Field(strict=True, ge=2, le=10)]
"""A number of outer folds."""
AUTO_OUTER_FOLDS = (5, 4, 3)
"""Numbers of outer folds that ``outer: auto`` takes, the first that divides the seeds evenly."""


class Checks(FrozenModel):
    """Limits of the data audit: below them it warns, above them the study does not run.

    ``max_leaked`` is the largest share of test rows that are in train too. ``max_unlearnable`` is
    the largest share of test rows whose label no train row has.
    """

    max_leaked: float = Field(default=0.1, ge=0, le=1)
    max_unlearnable: float = Field(default=0.1, ge=0, le=1)


MAX_PASSES = 3
"""How many times all test rows are answered at most, where a protocol does not say it."""
SEEDS = {
    "passes": tuple(range(1, 5 * MAX_PASSES + 1)),
    "trials": (1, 2, 3, 4, 5),
    "paper": (1, 2, 3, 4, 5),
    "judged": (0,),
}
"""Seeds of a protocol that names none, by its preset."""
TRIALS = {"passes": 1, "trials": 3, "paper": 3, "judged": 1}
"""How many learning rates every method tries where a protocol does not say it, by its preset."""
KEYS_OF_TRIALS = ("folds", "tuning_seed")
"""Keys that only ``preset: trials`` reads; a protocol that has one of them has that preset."""


class Protocol(FrozenModel):
    """Rules by which methods are compared; see docs/how-it-works/protocol.md.

    ``preset``: ``passes`` trains every method at its middle rate on all rows once, trains again
    where the answer is open, and tries further rates on evidence. With ``trials`` every method
    tries its rates in every fold, and all seeds are trained; version 0.2 called it ``fair``. With
    ``judged`` the runs were trained elsewhere, and only their answers are known.
    ``outer`` says which rows are the test. ``split`` is the published split (or the user's test
    file). A number means outer cross-validation over all labelled rows with that many folds.
    ``auto`` is the user's test file where there is one; otherwise the size of the task and the
    seeds decide (:mod:`paretune.data.split`).
    ``seeds`` are those of the final runs, in order; with ``passes`` they are the most that are
    trained. ``until`` says when ``passes`` ends. ``settled``: further passes are not expected to
    change the recommendation, and pairs with ``reference`` are decided. ``complete``: all methods
    have all seeds. ``trials`` is the number of learning rates that every method may try; with 1
    only evidence asks for further rates.
    ``folds`` (of ``trials``) says how many of the five parts of train take a turn as selection part
    when learning rates are chosen (5 for a claim, 1 for a quick look); in cross-validation each
    outer fold has one. ``cost_seconds`` is the time for the steps of one cost, and half of it is
    for its inference; a cost that is known well enough takes less, and with 0 no cost is measured.
    ``keep_weights`` (``4GiB``; a bare number is bytes) limits the trained weights in the store. It
    changes no result, so the study's hash leaves it out.
    ``budget`` (``30min``; a bare number is seconds) says when to stop; the next call continues.
    ``rows`` (``[0.25, 0.5]``) are shares of the labelled rows, each inside the next. The
    recommended method is trained on them too, to say what more rows would bring. With ``until:
    complete`` all methods and baselines are.
    ``reference`` (``lora``) is the method that the report compares with all other methods over all
    tasks, named before the scores are seen; the default is the method with the most trained
    parameters. ``race`` belongs to version 0.2. It is read so that stores of 0.2 open, and changes
    nothing.
    """

    preset: Literal["passes", "trials", "paper", "judged"] = "passes"
    seeds: Annotated[tuple[int, ...], Field(max_length=MAX_COUNTS["seeds"])] = SEEDS["passes"]
    tuning_seed: int = 0
    outer: Literal["auto", "split"] | Folds = "auto"
    folds: int = Field(default=5, ge=1, le=NUM_FOLDS)
    trials: int = Field(default=1, ge=1, le=20)
    until: Literal["settled", "complete"] = "settled"
    split_seed: int = 0
    as_run: bool = False
    cost_seconds: float = Field(default=DEFAULT_COST_SECONDS, ge=0)
    keep_weights: Annotated[int, SIZE.to_setting(), Field(ge=0)] = 4 * 2**30
    race: Literal["off", "recommendation"] = "off"
    budget: Annotated[int, DURATION.to_setting(), Field(gt=0)] | None = None
    rows: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(default=(), max_length=10)
    reference: str | None = None

    @property
    def most_rates(self) -> int:
        """The most learning rates that a method may have, with those that evidence asks for."""
        on_evidence = self.preset == "passes" and self.trials == 1
        return TRIALS["trials"] if on_evidence else self.trials

    @model_validator(mode="before")
    @classmethod
    def _choose_preset(cls, values: Any) -> Any:
        """Give a protocol of version 0.2 the preset ``trials``, whether or not it names it."""
        if not isinstance(values, Mapping):
            return values
        named = dict(values)
        of_trials = any(key in named for key in KEYS_OF_TRIALS) or "race" in named
        preset = named.setdefault("preset", "trials" if of_trials else "passes")
        if preset == "fair":
            named["preset"] = "trials"
        return named

    @model_validator(mode="after")
    def _check_seeds(self) -> Protocol:
        # A key that is not given follows from the preset.
        written = self.model_fields_set
        if "trials" not in written:
            self.__dict__["trials"] = TRIALS[self.preset]
        if "seeds" not in written:
            seeds = SEEDS[self.preset]
            if self.preset == "passes" and isinstance(self.outer, int):
                seeds = tuple(range(1, MAX_PASSES * self.outer + 1))
            self.__dict__["seeds"] = seeds
        if not self.seeds:
            raise ValueError("seeds: at least one is needed (five for a claim)")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} names a seed twice")
        if len(set(self.rows)) != len(self.rows):
            raise ValueError(f"rows: {list(self.rows)} names a share twice")
        if self.preset == "trials" and self.tuning_seed in self.seeds:
            raise ValueError(
                f"tuning_seed {self.tuning_seed} is also among seeds; "
                "final seeds must be fresh, or the chosen rate is flattered"
            )
        if self.preset != "trials" and self.race != "off":
            raise ValueError(
                "race: is of version 0.2; preset: passes, the default, trains what may change the "
                "answer. Remove it"
            )
        if self.preset == "passes":
            for key in KEYS_OF_TRIALS:
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key}: is for preset: trials; remove it")
        elif self.until != "settled":
            raise ValueError("until: is for preset: passes; the others train all seeds")
        if self.rows and self.preset == "paper":
            raise ValueError("rows: is not for preset: paper, which trains on all rows")
        folds, number = self.outer, len(self.seeds)
        if isinstance(folds, int) and number % folds:
            raise ValueError(
                f"outer: {folds} trains one run on the rows outside each of {folds} folds, so the "
                f"number of seeds must be a multiple of {folds}; here are {number}. Write "
                f"{-(-number // folds) * folds} seeds, another number of folds, or outer: split"
            )
        return self


Axis = Literal["memory", "time", "step", "parameters", "saved", "inference", "forgetting"]
"""An axis on which a configuration costs something."""


class Limits(FrozenModel):
    """Limits that ``recommend`` applies where its options do not replace them.

    With ``preset: passes`` a configuration that is known to exceed a limit gets no further runs; a
    search never proposes one that is predicted to.
    ``max_memory`` (``4GiB``) limits peak memory in training, ``max_time`` (``10min``) the training
    of one run alone, ``max_bytes`` (``20MB``) what is saved, ``max_parameters`` the trained
    parameters, ``max_latency`` (``20ms``) the inference of one example. Bare numbers are bytes and
    seconds.
    """

    max_memory: Annotated[int | None, SIZE.to_setting(), Field(gt=0)] = None
    max_time: Annotated[int | None, DURATION.to_setting(), Field(gt=0)] = None
    max_bytes: Annotated[int | None, SIZE.to_setting(), Field(gt=0)] = None
    max_parameters: Annotated[int | None, Field(gt=0)] = None
    max_latency: Annotated[float | None, DURATION.to_setting(rounds=False), Field(gt=0)] = None

    @property
    def by_axis(self) -> dict[Axis, float]:
        """Return the limits that are given, by their axis."""
        named: dict[Axis, float | None] = {
            "memory": self.max_memory,
            "time": self.max_time,
            "saved": self.max_bytes,
            "parameters": self.max_parameters,
            "inference": self.max_latency,
        }
        return {axis: float(limit) for axis, limit in named.items() if limit is not None}


class Training(FrozenModel):
    """How every run of the study trains. Lengths are in tokens, the schedule in optimiser steps.

    ``label_smoothing`` None is the objective's default. ``class_weights`` is ``balanced``, or a
    weight by label (:mod:`paretune.objectives.class_weights`). ``preference_beta`` says how
    strongly preferences hold an answer's likelihood to that of the model before training
    (:mod:`paretune.objectives.readouts.rewards`); TRL has the same. With ``backend`` ``plain``,
    padded batches run through unchanged ``transformers``: this is slower, easy to read, and gives
    the same results but for rounding and the random numbers of dropout.
    """

    batch_size: int = Field(default=16, ge=1, le=2**20)
    micro_batch: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=10, ge=1, le=100_000)
    max_steps: int | None = Field(default=None, ge=1, le=10**9)
    eval_every: int | None = Field(default=None, ge=1)
    patience: int | None = Field(default=3, ge=1)
    max_length: int = Field(default=256, ge=8, le=2**20)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    dropout: float | None = Field(default=None, ge=0, lt=1)
    activation_checkpointing: bool = False
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] | ClassRatios = "none"
    preference_beta: float = Field(default=0.1, gt=0)
    backend: Literal["fast", "plain"] = "fast"

    @model_validator(mode="after")
    def _check_micro_batch(self) -> Training:
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise ValueError(
                f"micro_batch {self.micro_batch} is larger than batch_size {self.batch_size}"
            )
        return self


class Generation(FrozenModel):
    """How texts are generated, and metrics of them that need optional packages.

    ``num_beams`` and ``length_penalty`` None take the checkpoint's values. ``max_new_tokens``
    counts the tokens after a prompt. ``stop`` are texts at which an answer ends; the answer is what
    stands before them. ``metrics`` that need optional packages are computed only where they are
    named; ``bertscore_model`` is read with ``bertscore``.
    """

    num_beams: int | None = Field(default=None, ge=1, le=64)
    length_penalty: float | None = None
    max_new_tokens: int = Field(default=256, ge=1, le=2**20)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    metrics: tuple[str, ...] = ()
    bertscore_model: str | None = None

    @model_validator(mode="after")
    def _check_metrics(self) -> Generation:
        if self.metrics:
            from paretune.metrics import segment_metrics  # deferred, because this imports numpy

            available = segment_metrics()
            if unknown := [name for name in self.metrics if name not in available]:
                raise ValueError(f'metrics: "{unknown[0]}" is not one of {", ".join(available)}')
        if ("bertscore" in self.metrics) != (self.bertscore_model is not None):
            raise ValueError("metrics: [bertscore] and bertscore_model: MODEL go together")
        return self
