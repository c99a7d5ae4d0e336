"""The settings of a study: what makes the comparison fair, how runs train, what is tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from paretune.study.quantities import DURATION, SIZE
from paretune.study.specs import FrozenModel

MAX_COUNTS = {"tasks": 100, "models": 100, "methods": 300, "seeds": 100, "runs": 20_000}
"""Limits of one study: more is a mistake, or several studies."""
DEFAULT_COST_SECONDS = 20.0
"""For timing the steps of one cost."""
NUM_FOLDS = 5
"""Train is always split into this many stratified parts; part 0 is the selection part."""
ClassRatios = Mapping[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
"""How much each class weighs, by its label; 1 where none is given."""
Folds = Annotated[int, Field(strict=True, ge=2, le=10)]
"""A number of outer folds."""
AUTO_OUTER_FOLDS = (5, 4, 3)
"""Numbers of outer folds that ``outer: auto`` takes, the first that divides the seeds evenly."""


class Checks(FrozenModel):
    """Limits of the data audit: below them a warning, above them the study does not run.

    ``max_leaked``: share of test rows that are in train too. ``max_unlearnable``: share of test
    rows whose label no train row has.
    """

    max_leaked: float = Field(default=0.1, ge=0, le=1)
    max_unlearnable: float = Field(default=0.1, ge=0, le=1)


MAX_PASSES = 3
"""Times that all test rows are answered at most, where a protocol does not say it."""
SEEDS = {
    "passes": tuple(range(1, 5 * MAX_PASSES + 1)),
    "trials": (1, 2, 3, 4, 5),
    "paper": (1, 2, 3, 4, 5),
    "judged": (0,),
}
"""Seeds of a protocol that names none, by its preset."""
TRIALS = {"passes": 1, "trials": 3, "paper": 3, "judged": 1}
"""Learning rates that every method tries where a protocol does not say it, by its preset."""
KEYS_OF_TRIALS = ("folds", "tuning_seed")
"""Keys that are read by ``preset: trials`` alone; a protocol that has one is of that preset."""


class Protocol(FrozenModel):
    """What makes the comparison fair; see docs/how-it-works/protocol.md.

    ``preset``: ``passes`` trains every method at its middle rate on all rows once, then again where
    the answer is open, and tries further rates on evidence. ``trials``: every method tries its
    rates in every fold, and all seeds are trained; ``fair`` is its name in 0.2. ``judged``: runs
    were trained elsewhere, and nothing is known but their answers.
    ``outer``: which rows are the test. ``split``: the published split (or the user's test file).
    A number: outer cross-validation over all labelled rows with so many folds. ``auto``: the
    user's test file where there is one, otherwise decided for each task by its size and the seeds
    (:mod:`paretune.data.split`).
    ``seeds``: of the final runs, in their order; with ``passes`` the most that are trained.
    ``until``: when ``passes`` ends. ``settled``: when further passes are not expected to change
    what is recommended, and pairs with ``reference`` are decided. ``complete``: when all methods
    have all seeds.
    ``trials``: number of learning rates that every method may try; 1: only what evidence asks for.
    ``folds``: of ``trials``, how many of the five parts of train take a turn as selection part
    when learning rates are chosen (5 for a claim, 1 for a quick look); in cross-validation each
    outer fold has one. ``cost_seconds``: for timing the steps of
    one cost, and half of it for its inference; a cost that is known well enough takes less; 0: none
    is measured.
    ``keep_weights`` (``4GiB``; a bare number is bytes): limit for the trained weights in the store;
    it changes no result, so it is no part of the study's hash.
    ``budget`` (``30min``; a bare number is seconds): when to stop; the next call continues.
    ``rows`` (``[0.25, 0.5]``): shares of the labelled rows on which the recommended method is
    trained too, each inside the next, to say what more rows would bring. With ``until: complete``
    all methods and baselines are.
    ``reference`` (``lora``): which method the report compares with all others over all tasks, said
    before the scores are seen; by default that with the most trained parameters.
    ``race``: of 0.2; it is read so that its stores open, and changes nothing.
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
        """Learning rates that a method has, those that evidence may ask for included."""
        on_evidence = self.preset == "passes" and self.trials == 1
        return TRIALS["trials"] if on_evidence else self.trials

    @model_validator(mode="before")
    @classmethod
    def _choose_preset(cls, values: Any) -> Any:
        """A protocol of 0.2 is ``trials``, whether or not it says so."""
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
        # What is not said follows from the preset.
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
"""A cost of a configuration."""


class Limits(FrozenModel):
    """Limits that ``recommend`` keeps where its options do not say otherwise.

    With ``preset: passes`` what is known to exceed one gets no further runs; in a search, what is
    predicted to is never proposed.
    ``max_memory`` (``4GiB``): peak memory in training; ``max_time`` (``10min``): to train one run
    alone; ``max_bytes`` (``20MB``): of what is saved; ``max_parameters``: trained ones;
    ``max_latency`` (``20ms``): inference of one example. Bare numbers are bytes and seconds.
    """

    max_memory: Annotated[int | None, SIZE.to_setting(), Field(gt=0)] = None
    max_time: Annotated[int | None, DURATION.to_setting(), Field(gt=0)] = None
    max_bytes: Annotated[int | None, SIZE.to_setting(), Field(gt=0)] = None
    max_parameters: Annotated[int | None, Field(gt=0)] = None
    max_latency: Annotated[float | None, DURATION.to_setting(rounds=False), Field(gt=0)] = None

    @property
    def by_axis(self) -> dict[Axis, float]:
        """The limits that are given, by their cost."""
        named: dict[Axis, float | None] = {
            "memory": self.max_memory,
            "time": self.max_time,
            "saved": self.max_bytes,
            "parameters": self.max_parameters,
            "inference": self.max_latency,
        }
        return {axis: float(limit) for axis, limit in named.items() if limit is not None}


class Training(FrozenModel):
    """How every run of the study trains. Lengths in tokens, schedule in optimiser steps.

    ``label_smoothing`` None is the objective's default. ``class_weights``: ``balanced``, or a
    weight by label (:mod:`paretune.objectives.class_weights`). ``preference_beta``: how strongly
    preferences hold an answer's likelihood to that of the model before training
    (:mod:`paretune.objectives.readouts.rewards`); TRL has the same. ``backend`` ``plain`` runs
    padded batches through ``transformers`` as it comes: slower, easy to read, the same results but
    for rounding and the random numbers of dropout.
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
    """How texts are generated, and metrics of them that need more than paretune installs.

    ``num_beams`` and ``length_penalty`` None are the checkpoint's own. ``max_new_tokens`` counts
    what follows a prompt. ``stop``: texts at which an answer ends; it has what stands before them.
    ``metrics`` that need optional packages are computed only where they are named;
    ``bertscore_model`` goes with ``bertscore``.
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
            from paretune.metrics import segment_metrics  # here: numpy comes with it

            available = segment_metrics()
            if unknown := [name for name in self.metrics if name not in available]:
                raise ValueError(f'metrics: "{unknown[0]}" is not one of {", ".join(available)}')
        if ("bertscore" in self.metrics) != (self.bertscore_model is not None):
            raise ValueError("metrics: [bertscore] and bertscore_model: MODEL go together")
        return self
