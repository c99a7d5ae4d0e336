"""Tests on a device: a GPU, or with ``--gpu-device cpu`` the processor, to try them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.method_contract import METHODS, REFUSED, serves

from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training import TrainerOptions
from paretune.training.trainer import train_run

TIME_IS_UP = "the time was up"
STARTED = time.monotonic()
PLACES = (("bert", "pair"), ("modernbert", "multiple_choice"), ("marian", "translation"))
SOME = ("lora", "full", "dora", "ia3", "bitfit", "prefix", "prompt", "houlsby")
FAMILIES = ("bert", "modernbert", "deberta-v2")
TINY_METHODS = ("lora", "prefix")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Places of the contract; ``method`` and ``family`` of tests that do not name theirs."""
    # Where all are skipped, a few stand for them.
    missing = metafunc.config.getoption("--gpu-device") != "cpu" and not torch.cuda.is_available()
    tiny = metafunc.config.getoption("--gpu-tiny") or missing
    named = {n for m in metafunc.definition.iter_markers("parametrize") for n in m.args[0]}
    named |= {str(m.args[0]) for m in metafunc.definition.iter_markers("parametrize")}
    if "method" in metafunc.fixturenames and "method" not in named:
        metafunc.parametrize("method", TINY_METHODS if tiny else SOME)
    if "family" in metafunc.fixturenames and "family" not in named:
        metafunc.parametrize("family", FAMILIES[:1] if tiny else FAMILIES)
    if "place" not in metafunc.fixturenames:
        return
    places = [
        (method, family, kind)
        for family, kind in PLACES[: 1 if tiny else None]
        for method in (TINY_METHODS if tiny else METHODS)
        if serves(method, kind) and (method, family) not in REFUSED
    ]
    metafunc.parametrize("place", places, ids="-".join, scope="module", indirect=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Where the time is up, the rest is skipped, and what has run is told."""
    limit = item.config.getoption("--gpu-seconds")
    if limit is not None and time.monotonic() - STARTED > limit:
        pytest.skip(TIME_IS_UP)


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """Method, family and kind of task."""
    method, family, kind = request.param
    return method, family, kind


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Where it is computed."""
    return str(request.config.getoption("--gpu-device"))


@pytest.fixture
def trained(tmp_path: Path, checkpoint: Callable[[str], Path]) -> Callable[..., Any]:
    """``trained("bert", "lora", device, **training)``: the outcome of a run of a few steps."""

    def train(family: str, method: str, where: str, **training: Any) -> Any:
        settings = {"dropout": 0.0, "precision": "fp32", **training}
        run = tiny_run(tiny_task(tmp_path / "data"), checkpoint(family), method, training=settings)
        return train_run(
            run, checkpoint=tmp_path / "none", report=silent, options=TrainerOptions(where)
        )

    return train
