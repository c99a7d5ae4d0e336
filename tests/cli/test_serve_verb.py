"""``serve`` and ``work``: what a user types, and what two processes make of a study together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import as_file, command, digests, finish, small

from paretune.store import Store

PARETUNE = (sys.executable, "-c", "from paretune.cli import main; main()")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --server and --bundle"),
        (["--server", "http://127.0.0.1:1", "--bundle", "x.zip"], "give one of"),
        (["--server", "http://127.0.0.1:1"], "needs --token-file"),
        (["--bundle", "none.zip"], "none.zip: no such bundle"),
        (["--bundle", "none.zip", "--model", "tiny"], "--model tiny: is not NAME=FOLDER"),
        (["--server", "10.0.0.5", "--token-file", "t"], "is no address of a server"),
        (["--server", "http://127.0.0.1:1", "--token-file", "none"], "the token cannot be read"),
    ],
)
def test_what_is_missing_is_said(
    arguments: list[str], message: str, capsys: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command(capsys, "work", *arguments)
    assert code in (2, 6) and message in err
    assert "Traceback" not in err


def test_a_bad_address_is_refused_before_anything_is_served(
    capsys: Any, tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    file = as_file(small(tmp_path, tiny_model("bert")), tmp_path / "small.yaml")
    every = "0.0.0.0"  # noqa: S104 (which is what is refused)
    code, _, err = command(capsys, "serve", file, "--store", tmp_path / "store", "--host", every)
    assert code == 2 and "is every interface of this machine" in err


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*PARETUNE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        **options,
    )


def read_url(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    for line in server.stdout:
        if match := re.search(r"served at (http://127.0.0.1:\d+)", line):
            return match[1]
    raise AssertionError("the server ended")


@pytest.mark.slow
def test_two_workers_and_a_server_make_the_study_of_one_process(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    """One worker is stopped in the middle by the signal that SLURM sends."""
    protocol = {"trials": 2, "folds": 1, "seeds": [1, 2, 3], "cost_seconds": 1}
    study = small(tmp_path, tiny_model("bert"), protocol=protocol)
    expected = finish(study, tmp_path / "alone", costs=0)
    file, store, token = as_file(study, tmp_path / "small.yaml"), tmp_path / "s", tmp_path / "t"
    server = start("serve", file, "--store", store, "--port", 0, "--token-file", token)
    url = read_url(server)
    shared = ["work", "--server", url, "--token-file", token, "--workers", 1, "--fleet", 1]
    homes = [{"PARETUNE_HOME": str(tmp_path / name)} for name in ("a", "b")]
    first, second = (start(*shared, "--folder", home["PARETUNE_HOME"]) for home in homes)
    with Store.open(store) as opened:
        while not any(s.ended for s in opened.load_statuses(study.study_hash)):
            assert server.poll() is None
            time.sleep(0.1)
        first.send_signal(signal.SIGUSR1)
        output, _ = first.communicate()
        assert first.returncode == 130 and "Traceback" not in output, output
        output, _ = second.communicate()
        assert second.returncode == 0 and "none left" in output, output
        output, _ = server.communicate()
        assert server.returncode == 0, output
        ours = digests(opened, study.study_hash)
        theirs = digests(expected, study.study_hash)
        assert {run_id: ours[run_id] for run_id in theirs} == theirs
        assert {s.state for s in opened.load_statuses(study.study_hash)} == {"done"}
        assert opened.verify() == []
    expected.close()
