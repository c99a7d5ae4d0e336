"""Every fast path computes what the plain path computes: losses of each step, and predictions.

Without dropout, in fp32, the same seed: only rounding differs. The plain path itself is compared
with a loop of transformers and peft in ``test_plain_loop.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_study import say_numbers
from torch import Tensor

from paretune import methods, objectives
from paretune.study import Generation, Run
from paretune.testing.tiny_models import DECODERS, FAMILIES
from paretune.testing.tiny_tasks import KINDS, tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_pairs, translator_folder
from paretune.training import Outcome
from paretune.training.forward.passes import PlainForward, PlainSplitter
from paretune.training.trainer import train_run

LOSSES_WITHIN = 1e-5
SCORES_WITHIN = 2e-4
"""Rounding of one step, which six steps of AdamW carry on."""
TRANSLATORS = ("marian", "mbart", "t5", "m2m100")
TRAINED = [
    name
    for name, m in methods.available().items()
    if isinstance(m, methods.Method) and m.learning_rates is not None
]


def is_packed(method: str, kind: str) -> bool:
    """Whether batches of the method can be packed, and it serves the kind."""
    value = methods.get(method)
    refusal = methods.refusal(value, objectives.get(kind), tabular=False)
    return not refusal and value.body_training is None and method != "unipelt"


KEPT = {"num_virtual_tokens": 4, "text_positions": "kept"}
PLACES: list[tuple[str, str, str, dict[str, Any] | None]] = [
    *((family, "lora", kind, None) for family in FAMILIES for kind in KINDS),
    *((family, "lora", "translation", None) for family in TRANSLATORS),
    *(("bert", m, "pair", None) for m in TRAINED if m != "lora" and is_packed(m, "pair")),
    *(
        ("marian", m, "translation", None)
        for m in TRAINED
        if m != "lora" and is_packed(m, "translation")
    ),
    *((f, m, "translation", None) for f in TRANSLATORS[1:] for m in ("full", "prefix", "prompt")),
    *((f, "prefix", "classification", None) for f in ("modernbert", "distilbert", "roberta")),
    *((f, "prompt", "multiple_choice", None) for f in ("bert", "roberta", "modernbert")),
    *((f, "prompt", "classification", KEPT) for f in ("bert", "roberta")),
    ("electra", "full", "multiple_choice", None),
    ("llama", "lora", "multiple_choice", None),
    *((family, "lora", kind, None) for family in DECODERS for kind in ("pair", "instruction")),
    *(("gemma3", m, "instruction", None) for m in ("prefix", "ia3", "prompt", "full")),
    *(("opt", m, "pair", None) for m in ("prefix", "ia3", "prompt", "full")),
    *((f, "prefix", "instruction", None) for f in ("gemma2", "mistral", "phi3", "gpt_neox")),
]
"""Family, method, kind of task, and options of the method (None: small ones)."""


def a_run(
    family: str, kind: str, folder: Path, tiny_model: Any, method: str = "lora", **changes: Any
) -> Run:
    training: dict[str, Any] = {"max_steps": 6, "eval_every": 3, "dropout": 0.0, "micro_batch": 4}
    training["max_grad_norm"] = None
    if family == "m2m100":  # leaves out layers at random for a whole pass: one pass in a step
        training["micro_batch"] = 8
    training |= changes.pop("training", {})
    if kind == "translation":
        task, model = tiny_pairs(folder / "data"), translator_folder(family, folder / family)
        changes["generation"] = Generation(max_new_tokens=8, num_beams=2)
    elif kind == "instruction":
        task, model = say_numbers(folder), tiny_model(family)
        changes |= {"generation": Generation(max_new_tokens=4), "readout": "text"}
    else:
        task, model = tiny_task(folder / "data", kind), tiny_model(family)
    return tiny_run(task, model, method, training=training, learning_rate=1e-3, **changes)


def plainly(run: Run) -> Run:
    training = run.training.model_copy(update={"backend": "plain"})
    return run.model_copy(update={"training": training})


@pytest.fixture
def first_gradients(monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """Of each run, the gradients of its first step: AdamW would not see a wrong scale of them."""
    gradients: list[list[Tensor]] = []
    optimizers: list[torch.optim.AdamW] = []
    step = torch.optim.AdamW.step

    def noting(self: torch.optim.AdamW, *arguments: Any) -> Any:
        if self not in optimizers:
            optimizers.append(self)
            parameters = (p for group in self.param_groups for p in group["params"])
            gradients.append([torch.zeros(1) if p.grad is None else p.grad + 0 for p in parameters])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    return gradients


def trained(run: Run, folder: Path) -> tuple[list[float], Outcome]:
    """Loss of each step, and what the run leaves."""
    losses: list[float] = []
    outcome = train_run(
        run, checkpoint=folder / "state", report=lambda progress: losses.append(progress["loss"])
    )
    return losses, outcome


def same_predictions(fast: Outcome, plain: Outcome, kind: str) -> None:
    ours, theirs = (json.loads(one.blobs["predictions"]) for one in (fast, plain))
    assert set(ours) == set(theirs) == {"selection", "test"}
    for part in theirs:
        assert ours[part]["uid"] == theirs[part]["uid"]
        assert fast.result["scores"][part]["loss"] == pytest.approx(
            plain.result["scores"][part]["loss"], abs=SCORES_WITHIN
        )
        if kind in ("translation", "instruction"):
            assert ours[part]["prediction"] == theirs[part]["prediction"]
            continue
        scores = [one[part]["scores"] for one in (ours, theirs)]
        if kind == "token_classification":  # ragged
            scores = [[value for row in rows for value in row] for rows in scores]
        scores = [*map(np.array, scores)]
        if kind == "multiple_choice":  # what is added to all scores of an example has no effect
            scores = [own - own.mean(1, keepdims=True) for own in scores]
        np.testing.assert_allclose(*scores, rtol=0, atol=SCORES_WITHIN)


@pytest.mark.parametrize(("family", "method", "kind", "options"), PLACES)
def test_a_run_by_the_fast_path_is_that_by_the_plain_path(
    family: str,
    method: str,
    kind: str,
    options: dict[str, Any] | None,
    tmp_path: Path,
    tiny_model: Any,
    first_gradients: list[list[Tensor]],
) -> None:
    """Packed, or in tight padded batches, or of an encoder and a decoder."""
    changes = {} if options is None else {"options": options}
    run = a_run(family, kind, tmp_path, tiny_model, method, **changes)
    fast, plain = trained(run, tmp_path / "fast"), trained(plainly(run), tmp_path / "plain")
    for actual, expected in zip(*first_gradients, strict=True):
        if actual.shape != expected.shape:  # of a table of words, the rows that occur
            actual, expected = actual[actual.any(1)], expected[expected.any(1)]
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert len(set(plain[0])) == 6 and fast[0] == pytest.approx(plain[0], abs=LOSSES_WITHIN)
    same_predictions(fast[1], plain[1], kind)


def test_all_objectives_are_compared() -> None:
    """The two kinds without own data are those of classification to a model.

    Preferences are compared in ``test_preference.py``.
    """
    classification = objectives.get("classification")
    for kind in ("span_pair", "answer_set"):
        other = objectives.get(kind)
        for name in ("encode", "loss", "collector", "weight", "head"):
            assert getattr(other, name) == getattr(classification, name), name
    compared = {*KINDS, "translation", "instruction", "preference", "unpaired_preference"}
    untrained = {"scores", "external", "external_regression"}
    assert {*compared, *untrained, "span_pair", "answer_set"} == set(objectives.names())


def test_the_plain_path_leaves_the_model_as_it_comes(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No hook, no replaced function, transformers' own attention."""
    seen: list[bool] = []
    call = PlainForward.__call__

    def looked_at(self: PlainForward, micro_batches: Any) -> Any:
        assert isinstance(self.splitter, PlainSplitter)
        assert self.context.packing is None and self.context.dropout_rng is None
        assert self.model.config._attn_implementation == "sdpa"
        assert not [m for m in self.model.modules() if "forward" in vars(m)]
        seen.append(self.model.training)
        return call(self, micro_batches)

    monkeypatch.setattr(PlainForward, "__call__", looked_at)
    for precision in ("fp32", "bf16"):
        training = {"precision": precision, "dropout": 0.1}
        run = plainly(a_run("bert", "pair", tmp_path, tiny_model, training=training))
        train_run(run, checkpoint=tmp_path / precision)
    assert set(seen) == {True, False}
