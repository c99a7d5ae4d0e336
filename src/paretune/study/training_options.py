"""How every run of a study trains, and how translations are generated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from paretune.study.specs import FrozenModel


class Training(FrozenModel):
    """How every run of the study trains. Lengths in tokens, schedule in optimiser steps.

    ``label_smoothing`` None is the objective's default. ``backend`` ``plain`` runs padded batches
    through ``transformers`` as it comes: slower, easy to read, the same results but for rounding
    and the random numbers of dropout.
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

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from paretune.metrics import segment_metrics  # here: numpy comes with it

        available = segment_metrics()
        if unknown := [name for name in names if name not in available]:
            raise ValueError(f'"{unknown[0]}" is not one of {", ".join(available)}')
        return names

    @model_validator(mode="after")
    def _check_bertscore(self) -> Generation:
        if ("bertscore" in self.metrics) != (self.bertscore_model is not None):
            raise ValueError("metrics: [bertscore] and bertscore_model: MODEL go together")
        return self
