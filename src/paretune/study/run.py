"""A run: one task x model x method x learning rate x seed, the unit of work; and identities.

Stores on disk have these hashes: a change makes all their runs unknown. No torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from paretune.answers import Readout
from paretune.study.protocol import (
    NUM_FOLDS,
    Folds,
    Generation,
    Training,
)
from paretune.study.specs import NO_MODEL, PATH_KEYS, FrozenModel, MethodSpec, ModelSpec, is_path
from paretune.study.task_spec import PROMPT_KEYS, TaskSpec

Stage = Literal["tune", "final", "cost"]
OMITTED_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "training": {
        "activation_checkpointing": False,
        "label_smoothing": None,
        "class_weights": "none",
        "preference_beta": 0.1,
        "backend": "fast",
    },
    "task": {
        "features": None,
        "train_target": None,
        "test_target": None,
        "test_shifted": None,
        "test_shifted_target": None,
        "unlabelled": None,
        "source_lang": None,
        "target_lang": None,
        "question": None,
        "split": "published",
        "readout": None,
        "prompt": None,
        "label_texts": None,
        "length_normalisation": None,
        "loss_on": None,
        "drop_unlabelled": False,
        "split_by": None,
    },
    "model": {"source_prefix": None, "quantisation": None},
    "generation": {"stop": []},
    "method": {"readout": None},
    "protocol": {"outer": "auto", "race": "off", "rows": [], "until": "settled"},
    "limits": dict.fromkeys(
        ("max_memory", "max_time", "max_bytes", "max_parameters", "max_latency")
    ),
}
"""Settings that canonical forms leave out at these values.

A new setting is added here with the value that keeps the earlier behaviour, so that a new version
of paretune finds the runs of an older one.
"""


def omit_defaults(form: dict[str, Any]) -> dict[str, Any]:
    """Remove the :data:`OMITTED_DEFAULTS` from the canonical form of a study or a run."""

    def reduce(section: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in section.items() if k not in defaults or v != defaults[k]}

    reduced: dict[str, Any] = {
        key: reduce(form[key], defaults)
        for key, defaults in OMITTED_DEFAULTS.items()
        if form.get(key) is not None
    }
    if "tasks" in form:  # a study's form
        reduced["tasks"] = [reduce(task, OMITTED_DEFAULTS["task"]) for task in form["tasks"]]
        reduced["models"] = [reduce(model, OMITTED_DEFAULTS["model"]) for model in form["models"]]
        reduced["methods"] = [
            reduce(method, OMITTED_DEFAULTS["method"]) for method in form["methods"]
        ]
    whole = {**form, **reduced}
    for absent in ("forgetting", "limits"):
        if not whole.get(absent):
            whole.pop(absent, None)
    usual = reduce(Generation().model_dump(mode="json"), OMITTED_DEFAULTS["generation"])
    if whole.get("generation") in (None, usual):
        whole.pop("generation", None)
    return whole


def digest(value: Any) -> str:
    """Compute the sha256 of plain values in canonical JSON (sorted keys, no spaces, UTF-8)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive a seed of 63 bits for one purpose (``init``, ``order``, ``dropout``) of a run.

    Each purpose has a private generator, so that its draws never change those of another purpose.
    """
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


class OuterFold(FrozenModel):
    """One fold of outer cross-validation: a run that has not seen its rows answers them.

    ``folds`` is the number of folds and ``index`` the number of this one. ``repeat`` says in which
    division of all rows into folds it is; each repeat divides them anew.
    """

    folds: Folds
    index: int = Field(ge=0)
    repeat: int = Field(default=0, ge=0)

    @classmethod
    def at(cls, position: int, folds: int) -> OuterFold:
        """Return the fold of the seed at this position of ``protocol.seeds``."""
        return cls(folds=folds, index=position % folds, repeat=position // folds)

    @property
    def position(self) -> int:
        """The position of its seed in ``protocol.seeds``."""
        return self.repeat * self.folds + self.index


class Run(FrozenModel):
    """One task x model x method x learning rate x seed.

    ``stage`` is ``tune`` (a learning rate on trial, scored on the selection part, test labels
    unseen), ``final`` (a fresh seed at the chosen rate) or ``cost`` (measured alone in a fresh
    process). ``fold`` is the part of train that selects; it is 0 in the final stage. A run with an
    ``outer`` fold trains on all labelled rows outside it and is tested on those inside; with None
    it uses the task's train and test rows. ``learning_rate`` is None for methods that do not train
    by gradient. ``readout`` is how the model answers, as planning has decided it. ``generation`` is
    None except for translations. ``begun_at`` is the rate at which the method began, where evidence
    against it, or the study, asked for the present rate (``preset: passes``); it is None for the
    middle rate and for trials. Final runs of language models measure ``forgetting`` where the study
    asks for it. ``rows`` is the share of the labelled rows that the run has, some of which select
    (``protocol.rows``). ``selection: test`` is the paper's way, and the report says so.
    """

    stage: Stage
    task: TaskSpec
    model: ModelSpec
    method: MethodSpec
    learning_rate: float | None
    begun_at: float | None = None
    readout: Readout = "head"
    seed: int
    fold: int = Field(default=0, ge=0, lt=NUM_FOLDS)
    split_seed: int = 0
    outer: OuterFold | None = None
    selection: Literal["fold", "test"] = "fold"
    training: Training = Training()
    generation: Generation | None = None
    forgetting: ForgettingText | None = None
    rows: float = Field(default=1.0, gt=0, le=1)

    def canonical_form(self) -> dict[str, Any]:
        """Return plain values that identify the run, without names for display and paths."""
        form = self.model_dump(mode="json")
        form["method"] = {"name": self.method.name, "options": self.method.identifying_options}
        name = self.model.name
        form["model"] = {"name": Path(name).name if is_path(name) else name}
        # The hash of the data covers the prompt (compute_run_id), where a readout reads it.
        for key in ("licence", "readout", *PROMPT_KEYS, *PATH_KEYS):
            form["task"].pop(key, None)
        if self.model.source_prefix is not None:
            form["source_prefix"] = self.model.source_prefix
        if self.model.quantisation is not None:
            form["quantisation"] = self.model.quantisation
        if self.outer is None:  # runs in stores of paretune 0.1.0 have no such key
            form.pop("outer")
        if self.readout == "head":  # runs had no other readout before, and no such key
            form.pop("readout")
        rows = form.pop("rows")
        if rows != 1:
            form["labelled"] = rows  # stores of 0.2 have "rows", a share of what trains alone
        if self.begun_at is None:
            form.pop("begun_at")
        if self.readout == "reward" and self.training.label_smoothing:
            form["loss"] = "cdpo"  # stores of 0.2 have such runs that passed it over
        form.pop("forgetting")
        if self.forgetting is not None:
            form["forgetting"] = {"sha256": self.forgetting.sha256}  # the content, not the place
        return omit_defaults(form)

    def on_rows(self, share: float) -> Run:
        """Return this run on a share of its labelled rows."""
        return self.model_copy(update={"rows": share, "forgetting": None})

    @property
    def uses_model(self) -> bool:
        """Whether paretune trains or asks its model: false for commands and baselines."""
        return self.model != NO_MODEL and not self.method.is_command

    @property
    def cell(self) -> tuple[str, str, str]:
        """The keys of task, model and method: runs of one cell are analysed together."""
        return self.task.key, self.model.key, self.method.key


def is_trial(run: Run) -> bool:
    """Return whether a :class:`~paretune.study.specs.Proposer` proposed a run as a trial."""
    return run.stage == "tune" and run.method.proposer is not None


def compute_run_id(run: Run, *, data_hash: str, weights_hash: str, code_epoch: int) -> str:
    """Compute a run's identity: 20 hexadecimal digits over everything that can change its result.

    Args:
        data_hash: hash of its data, and of the prompt where the run's readout uses one.
        weights_hash: hash of its model's weights; "" without a model.
    """
    return digest(
        {
            "run": {**run.canonical_form(), "model": None},
            "data": data_hash,
            "weights": weights_hash,
            "code_epoch": code_epoch,
        }
    )[:20]


class ForgettingText(FrozenModel):
    """A text on which a run's model is scored before and after training.

    ``text`` is one of :data:`~paretune.study.specs.SHIPPED_LANGUAGES`, or a file. ``sha256`` is the
    hash of its content, which identifies it.
    """

    text: str
    sha256: str
