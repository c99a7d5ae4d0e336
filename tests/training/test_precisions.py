"""Every method trains in fp32 and in bf16, packed and padded."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.chosen import chosen

from paretune import methods, objectives
from paretune.planning import checks
from paretune.preparation import ProcessCache
from paretune.study import Generation, Run
from paretune.testing.tiny_models import DECODERS, FAMILIES
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.testing.translator_folders import tiny_marian, tiny_pairs, translator_folder
from paretune.training import Outcome
from paretune.training.loop import accumulate_gradients
from paretune.training.trainer import train_run

TRAINED = [name for name, m in methods.available().items() if isinstance(m, methods.Method)]
TRANSLATORS = ("marian", "t5")


def trains(method: str, kind: str) -> bool:
    """Whether the method has learning rates and serves this kind of task."""
    value = methods.get(method)
    serves = not methods.refusal(value, objectives.get(kind), tabular=False)
    return isinstance(value, methods.Method) and value.learning_rates is not None and serves


def is_supported(family: str, method: str) -> bool:
    return (family, method) != ("modernbert", "bitfit")  # it has no biases


OF_FAMILIES = [name for name in TRAINED if trains(name, "classification")]
OF_TRANSLATORS = [name for name in TRAINED if trains(name, "translation")]
PLACES = [
    *((family, name) for family in FAMILIES for name in OF_FAMILIES),
    *((family, name) for family in TRANSLATORS for name in OF_TRANSLATORS),
]


def list_marks(family: str, method: str) -> list[pytest.MarkDecorator]:
    """By default every third method trains on BERT; the others, and some elsewhere, are wide."""
    if family == "bert" and OF_FAMILIES.index(method) % 3 == 0:
        return []
    in_ci = family in ("bert", "marian") or (family in FAMILIES and method in ("dora", "bitfit"))
    return [pytest.mark.wide if in_ci else pytest.mark.slow]


def run_on(family: str, method: str, folder: Path, tiny_model: Any, **training: Any) -> Run:
    training = {"dropout": 0.0, "max_steps": 4, **training}
    changes: dict[str, Any] = {"training": training}
    if family in TRANSLATORS:
        task = tiny_pairs(folder / "data")
        changes["generation"] = Generation(max_new_tokens=4)
        model = (
            tiny_marian(folder / family)
            if family == "marian"
            else translator_folder(family, folder / family)
        )
    else:
        task, model = tiny_task(folder / "data", "pair"), tiny_model(family)
    return tiny_run(task, model, method, **changes)


def executed(run: Run, folder: Path) -> tuple[Outcome, list[float]]:
    losses: list[float] = []
    outcome = train_run(run, checkpoint=folder / "x", report=lambda p: losses.append(p["loss"]))
    return outcome, losses


@pytest.mark.parametrize(
    ("family", "method", "backend"),
    [
        *(pytest.param(*place, "fast", marks=list_marks(*place)) for place in PLACES),
        *chosen([*product(DECODERS, ("lora", "full", "prefix"), ("fast", "plain"))], 10),
    ],
)
def test_a_run_in_bf16_is_near_one_in_fp32(
    family: str, method: str, backend: str, tmp_path: Path, tiny_model: Any
) -> None:
    """Losses of 4 steps within 3 % (decoders 5 %), and with dropout they are finite."""
    if not is_supported(family, method):
        pytest.skip("ModernBERT has no biases")
    losses = {}
    for precision in ("fp32", "bf16"):
        settings = {"precision": precision, "backend": backend}
        run = run_on(family, method, tmp_path, tiny_model, **settings)
        outcome, losses[precision] = executed(run, tmp_path)
        assert outcome.result["outcome"] in ("ok", "collapsed")
    assert len(losses["fp32"]) == 4
    rtol = 0.05 if family in DECODERS else 0.03
    np.testing.assert_allclose(losses["bf16"], losses["fp32"], rtol=rtol)
    run = run_on(family, method, tmp_path, tiny_model, **settings, dropout=0.1)
    assert all(math.isfinite(loss) for loss in executed(run, tmp_path)[1])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_dry_step_of_check_computes_as_the_run_would(
    precision: str, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `check` passes what `run` cannot."""
    run = run_on("bert", "ia3", tmp_path, tiny_model, precision=precision)
    autocast: list[bool] = []

    def step(*arguments: Any) -> list[torch.Tensor]:
        arguments[1].model.register_forward_hook(
            lambda *_: autocast.append(torch.is_autocast_enabled("cpu"))
        )
        return accumulate_gradients(*arguments)

    monkeypatch.setattr(checks, "accumulate_gradients", step)
    bench = ProcessCache()
    assert "parameters" in checks.take_dry_step(run, bench).summary
    assert autocast and set(autocast) == {precision == "bf16"}
