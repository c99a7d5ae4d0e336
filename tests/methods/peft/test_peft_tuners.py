"""``peft:<name>``: every tuner that the installed ``peft`` has is walked through, or refused.

A tuner that is new to ``peft`` has no line in the table and fails here until somebody decides.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load as from_bytes
from support.chosen import chosen
from support.peft_tuners import NOT_AS_BASE, SMALL
from transformers import AutoModelForMultipleChoice, AutoModelForSequenceClassification

from paretune import methods
from paretune.errors import MethodError
from paretune.exporting import formats
from paretune.exporting.restore import restore_run
from paretune.methods.core.options import parse_options
from paretune.methods.peft.supported import REFUSED, SUPPORTED
from paretune.preparation import ProcessCache
from paretune.testing import method_walk as contract_walk
from paretune.testing.method_walk import Walk, walk_of
from paretune.testing.tiny_tasks import silent
from paretune.training.prepare import prepare
from paretune.training.trainer import train_run

INSTALLED = sorted(kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING)
TRAINED = [name for name in INSTALLED if name in SUPPORTED]
WITHOUT_BIAS = ("modernbert", "llama", "qwen3", "gemma3_text", "phi3")
UNMERGED = {("peft:beft", kind): "Base layer has no bias" for kind in WITHOUT_BIAS}
"""Pairs that train, but have no place in the weights."""


def peft_run(folder: Path, model: Path, tuner: str, kind: str = "pair", **changes: Any) -> Any:
    options = {**SMALL.get(tuner, {}), **changes.pop("options", {})}
    return walk_of(f"peft:{tuner}", kind, model, folder, options, **changes)


@pytest.fixture(scope="module")
def bench() -> ProcessCache:
    """The model is kept from one walk to the next, so a tuner that leaves a trace is found."""
    return ProcessCache()


def walked(run: Any, bench: ProcessCache, folder: Path) -> Walk:
    """The contract's walk; beside it, nothing global is drawn from and no module is exchanged."""
    loaded = bench.model(run.model, bench.dataset(run.task))
    children = dict(loaded.model.named_modules())
    drawn = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    prepare(run, loaded).undo()
    after = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    assert torch.equal(drawn[0], after[0]) and drawn[1:] == after[1:]
    seen = contract_walk.walked(run, bench, folder)
    now = dict(seen.loaded().model.named_modules())
    assert list(now) == list(children) and all(now[n] is m for n, m in children.items())
    return seen


def merged(seen: Walk) -> torch.Tensor | None:
    """Logits with the tuner in the weights; None where it has no place in them, and says so."""
    ours = seen.restored()
    model = ours.loaded.model
    if reason := UNMERGED.get((seen.method, model.config.model_type)):
        with pytest.raises(MethodError, match=reason):
            seen.value.merge(model, ours.injection)
        return None
    seen.value.merge(model, ours.injection)
    assert list(dict(model.named_modules())) == list(dict(seen.loaded().model.named_modules()))
    return seen.answers(ours.loaded)


def check(seen: Walk) -> None:
    """What the contract asks of every method."""
    if seen.method.removeprefix("peft:") not in NOT_AS_BASE:
        torch.testing.assert_close(seen.start, seen.base, rtol=0, atol=1e-5)
    else:
        assert not torch.allclose(seen.start, seen.base, atol=1e-5)
    assert seen.count == sum(seen.trained.values()) > 0
    kept = from_bytes(seen.outcome.blobs["weights"])
    assert set(kept) == {*seen.trained, *seen.head}
    assert seen.outcome.result["method_parameters"] == seen.count
    assert seen.moved_frozen == []
    assert seen.unmoved == []
    torch.testing.assert_close(seen.single, seen.batched, rtol=0, atol=1e-5)
    torch.testing.assert_close(seen.padded, seen.batched, rtol=0, atol=1e-5)
    assert seen.same_names and seen.pristine[0] == seen.pristine[1]
    assert torch.equal(seen.undone, seen.base)
    predictions = json.loads(seen.outcome.blobs["predictions"])["test"]
    scores = torch.tensor(predictions["scores"]).reshape(seen.again.shape)
    # They are stored with 8 digits.
    torch.testing.assert_close(seen.packed, scores, rtol=0, atol=1e-6)
    assert not torch.allclose(seen.again, seen.base, atol=1e-3)
    if (logits := merged(seen)) is not None:
        torch.testing.assert_close(logits, seen.again, rtol=0, atol=1e-4)


def exported(seen: Walk, bench: ProcessCache, folder: Path) -> None:
    """As PEFT's adapter it is opened by who knows nothing of us, with the same logits."""
    run, about = seen.run, seen.task
    dataset, source = bench.dataset(run.task), bench.source(run.model)
    ours = seen.restored()
    reason = formats.explain_forms(run, about)["peft"]
    assert reason == SUPPORTED[run.method.name.removeprefix("peft:")].not_in_peft
    batch = {"input_ids": torch.arange(5, 17).reshape(1, 2, 6)}
    if dataset.kind != "multiple_choice":
        batch = {"input_ids": torch.arange(5, 25).reshape(2, 10)}
    expected = formats.compute_logits(ours.loaded.model, batch)
    if not reason:
        formats.write_peft_adapter(run, about, source, ours, folder)
        several = dataset.kind == "multiple_choice"
        kind = AutoModelForMultipleChoice if several else AutoModelForSequenceClassification
        plain = kind.from_pretrained(
            run.model.name, **({} if several else {"num_labels": len(dataset.labels)})
        )
        plain.config.pad_token_id = ours.loaded.anatomy.pad_id  # some decoders name none
        theirs = peft.PeftModel.from_pretrained(plain, str(folder))
        torch.testing.assert_close(
            formats.compute_logits(theirs, batch), expected, rtol=0, atol=1e-5
        )
    ours.undo()


@pytest.mark.parametrize("tuner", INSTALLED)
def test_every_tuner_trains_here_or_is_refused(
    tuner: str, bench: ProcessCache, tiny_model: Any, tmp_path: Path
) -> None:
    assert tuner in {*SUPPORTED, *REFUSED}, (
        "new in peft: give it a line in methods/peft/supported.py"
    )
    if tuner in REFUSED:
        with pytest.raises(MethodError, match="cannot train here") as refusal:
            methods.get(f"peft:{tuner}")
        assert REFUSED[tuner] in str(refusal.value)
        return
    run = peft_run(tmp_path, tiny_model("bert"), tuner)
    seen = walked(run, bench, tmp_path)
    check(seen)
    exported(seen, bench, tmp_path / "peft")


VARIANTS = [
    ("vera", "bert", "multiple_choice", {}),
    ("oft", "bert", "multiple_choice", {"target_modules": ["all_linear"]}),
    ("ln_tuning", "modernbert", "classification", {}),
    ("hira", "modernbert", "classification", {"layers_to_transform": [0, 2]}),
    ("vblora", "distilbert", "classification", {"target_modules": ["q_lin", "ffn.lin2"]}),
    ("lora", "bert", "classification", {"init_lora_weights": "pissa", "r": 4}),
    ("lora", "bert", "classification", {"target_modules": r".*\.(query|key)", "r": 4}),
    ("lora", "bert", "classification", {"init_lora_weights": "olora", "r": 4}),
    ("lora", "bert", "classification", {"init_lora_weights": "mica", "r": 4}),
    ("lora", "bert", "classification", {"use_dora": True, "lora_dropout": 0.1}),
]
FOR_DECODERS: dict[str, dict[str, Any]] = {
    "trainable_tokens": {"token_indices": [*range(260, 330)]},
    "vblora": {"vector_length": 8},  # some heads of queries together are 24 wide
}
"""Decoders have them beside all linear layers, where a tuner has no layers of its own."""
ENCODERS = ("roberta", "distilbert", "deberta-v2", "electra", "modernbert")


@pytest.mark.parametrize(
    ("tuner", "family", "kind", "options"),
    [
        *chosen(VARIANTS, 6),
        *chosen(
            [
                (tuner, family, "pair", FOR_DECODERS.get(tuner, {}))
                for family in ("llama", "qwen3", "gemma3", "opt", "phi3")
                for tuner in TRAINED
            ],
            36,
        ),
        *(
            pytest.param(tuner, family, "classification", {}, marks=pytest.mark.slow)
            for family in ENCODERS
            for tuner in TRAINED
        ),
    ],
)
def test_other_kinds_families_and_variants(
    tuner: str,
    family: str,
    kind: str,
    options: dict[str, Any],
    bench: ProcessCache,
    tiny_model: Any,
    tmp_path: Path,
) -> None:
    run = peft_run(tmp_path, tiny_model(family), tuner, kind, options=options)
    seen = walked(run, bench, tmp_path)
    check(seen)
    exported(seen, bench, tmp_path / "peft")
    if "layers_to_transform" in options:
        assert {name.split(".")[2] for name in seen.trained} == {"0", "2"}


def test_pissa_by_iterations_is_that_of_its_seed(
    bench: ProcessCache, tiny_model: Any, tmp_path: Path
) -> None:
    """Its start is random, so the same seed restores it; PEFT would draw it anew."""
    options = {"init_lora_weights": "pissa_niter_4", "r": 4}
    run = peft_run(tmp_path, tiny_model("bert"), "lora", "classification", options=options)
    seen = walked(run, bench, tmp_path)
    torch.testing.assert_close(seen.start, seen.base, rtol=0, atol=1e-5)
    assert seen.moved_frozen == [] and seen.unmoved == [] and torch.equal(seen.undone, seen.base)
    source, weights = bench.source(run.model), seen.outcome.blobs["weights"]
    expected = json.loads(seen.outcome.blobs["predictions"])["test"]["scores"]
    for merge in (False, True):
        ours = restore_run(run, seen.task, source, weights)
        if merge:
            seen.value.merge(ours.loaded.model, ours.injection)
        actual = seen.answers(ours.loaded)
        torch.testing.assert_close(actual, torch.tensor(expected), rtol=0, atol=1e-4)
    reasons = formats.explain_forms(run, seen.task, source)
    assert "which PEFT draws anew" in reasons["peft"] and not reasons["merged"]


@pytest.mark.parametrize("word", ["pissa_niter_[number of iters]", "pissa_niter_", "pissa_niter_0"])
def test_pissa_wants_a_number(word: str) -> None:
    module = methods.get("peft:lora")
    with pytest.raises(MethodError, match=f'"{re.escape(word)}" names no number; write pissa_nite'):
        parse_options(module.name, module.options, {"init_lora_weights": word})


@pytest.mark.slow
@pytest.mark.parametrize("tuner", TRAINED)
def test_every_tuner_in_bf16_and_with_activations_computed_again(
    tuner: str, bench: ProcessCache, tiny_model: Any, tmp_path: Path
) -> None:
    losses = []
    for training in ({"precision": "bf16"}, {"activation_checkpointing": True}, {}):
        run = peft_run(tmp_path, tiny_model("bert"), tuner, training=training)
        outcome = train_run(run, checkpoint=tmp_path / "x", report=silent, caches=bench)
        assert outcome.result["outcome"] in ("ok", "collapsed")
        losses.append(outcome.result["curve"][-1]["loss"])
    assert losses[0] == pytest.approx(losses[2], abs=0.1)
    assert losses[1] == pytest.approx(losses[2], abs=1e-5)
