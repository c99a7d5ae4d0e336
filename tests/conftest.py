"""What all tests share: where development data lies, and tiny models with random weights."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest_plugins = ["support.guarantees", "support.packages"]

# Tiny tensors: a second thread only waits. Read once, when torch is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell lets what it starts in the background ignore these, and so would every process of a test.
for number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(
            number,
            signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL,
        )


MOST_PROCESSES = 8
"""Each holds torch and its models, about a gigabyte, and imports them before its first test."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: the cores that affinity and quota leave (xdist would count physical ones)."""
    from paretune.measuring.processor import count_usable_cores

    return min(count_usable_cores(), MOST_PROCESSES)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where tests marked gpu run, and how many of them."""
    group = parser.getgroup("paretune")
    group.addoption(
        "--gpu-device", default="cuda", help="device of tests marked gpu; cpu tries them"
    )
    group.addoption("--gpu-seconds", type=float, help="then the rest of them is skipped")
    group.addoption("--gpu-tiny", action="store_true", help="two methods on one family, not all")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked gpu need one, unless a CPU is to try them."""
    if (
        item.get_closest_marker("gpu") is not None
        and item.config.getoption("--gpu-device") != "cpu"
    ):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device here")


@pytest.hookimpl(tryfirst=True)  # before those with the marks `wide` and `slow` are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of large grids some cases run by default."""
    from support.chosen import mark_grids

    mark_grids(items)


def pytest_collection_finish() -> None:
    """What is imported by now stays: to look through it for garbage again and again takes long.

    A full collection then takes milliseconds, not half a second, and what measures memory asks for
    one before each phase.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing that a test keeps lies where a user's does."""
    before = os.environ.get("PARETUNE_HOME")
    folder = tmp_path_factory.mktemp("home")
    os.environ["PARETUNE_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["PARETUNE_HOME"]
    else:
        os.environ["PARETUNE_HOME"] = before


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development data beside the repository; a user has none of it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(
            "needs the development data folder ../shared, which is not beside this checkout"
        )
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tiny_model("bert")`` is the folder of a tiny checkpoint, written once a session.

    ``tiny_model("bert", folder)`` copies it there, for tests that change or damage it. Families:
    bert, roberta, xlm-roberta, camembert, distilbert, deberta-v2, electra, modernbert, and those of
    ``DECODERS``. Width 32 (electra's embeddings 16), 4 heads, 2 layers (modernbert 3), 128 tokens
    at most.
    """
    from paretune.testing.tiny_models import tiny_model as write

    folders: dict[str, Path] = {}

    def give(family: str, folder: Path | None = None) -> Path:
        if family not in folders:
            folders[family] = write(family, tmp_path_factory.mktemp("tiny") / family)
        if folder is None:
            return folders[family]
        return Path(shutil.copytree(folders[family], folder, dirs_exist_ok=True))

    return give


@pytest.fixture(scope="session")
def checkpoint(
    request: pytest.FixtureRequest,
    tiny_model: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """``checkpoint("marian")`` is the folder of a tiny model of any family, or of a real model."""
    from paretune.testing.tiny_models import DECODERS, FAMILIES
    from paretune.testing.translator_folders import TRANSLATORS, translator_folder

    folders: dict[str, Path] = {}

    def give(family: str) -> Path:
        if family in (*FAMILIES, *DECODERS):
            return tiny_model(family)
        if family in TRANSLATORS:
            if family not in folders:
                folder = tmp_path_factory.mktemp("tiny") / family
                folders[family] = translator_folder(family, folder)
            return folders[family]
        model: Path = request.getfixturevalue("shared") / "models" / family
        if not model.is_dir():
            pytest.skip(f"needs the model {family} in the development data folder ../shared")
        return model

    return give
