"""The Python API: the same verbs, values instead of text."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import as_file, command, finish, small

import paretune
from paretune.errors import ParetuneError, StudyError
from paretune.study import MethodSpec


def test_the_verbs_are_functions_whatever_is_imported_later() -> None:
    import paretune.reporting.page
    from paretune.terminal.sanitise import sanitise_line

    assert callable(paretune.report) and sanitise_line("a\n") == "a\N{REPLACEMENT CHARACTER}"
    assert {name for name in paretune.__all__ if not hasattr(paretune, name)} == set()
    code = "import sys, paretune; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_check_plan_run_and_report_return_values(
    tmp_path: Path, tiny_model: Any, capsys: Any
) -> None:
    study = small(
        tmp_path,
        tiny_model("bert"),
        methods=["head_only"],
        protocol={"preset": "trials", "trials": 1, "seeds": [1]},
    )
    checked = paretune.check(study)
    assert checked.errors == () and checked.counts["note"] == 2
    assert [seen.kind for seen in checked.items] == ["task", "model", "method", "step"]

    store = tmp_path / "store"
    planned = paretune.plan(study, store=store, workers=1)
    assert (len(planned.runs), planned.done, planned.workers) == (4, 0, 1)
    assert planned.seconds_left > 0 and not store.exists()

    finish(study, store).close()  # what `run` does in processes of its own: test_end_to_end.py
    ran = paretune.run(study, store=store, workers=1)
    assert (ran.folder, ran.summary.total, ran.summary.ended) == (store, 4, 0)
    assert sum(ran.summary.outcomes.values()) == 4 and ran.summary.failed == ()
    assert paretune.plan(study, store=store).done == 4
    # A method more makes it another study, which takes over what has ended.
    methods = [*study.methods, MethodSpec.model_validate({"name": "bitfit"})]
    larger = paretune.plan(study.model_copy(update={"methods": methods}), store=store)
    assert larger.done == 4 < len(larger.runs)
    assert all(run.done == (run.run.method.name != "bitfit") for run in larger.runs)

    report = paretune.report(study, store=store, page=tmp_path / "p.html", figures=tmp_path / "f")
    assert [task.key for task in report.tasks] == ["words"]
    assert [finding.code for finding in report.findings] == ["test-design", "small-test"]
    assert (tmp_path / "p.html").is_file() and list((tmp_path / "f").iterdir())
    assert capsys.readouterr().out == ""


def test_errors_are_values_or_exceptions_with_a_remedy(tmp_path: Path) -> None:
    study = small(tmp_path, tmp_path / "nowhere")
    (error,) = paretune.check(study).errors
    assert isinstance(error, ParetuneError) and error.exit_code == 4
    with pytest.raises(StudyError, match="shipped with paretune: complaints, demo, sample"):
        paretune.plan("sampel")


def test_errors_name_what_the_user_writes(tmp_path: Path, tiny_model: Any, capsys: Any) -> None:
    """Python's arguments in Python, options on the command line."""
    study = small(tmp_path, tiny_model("bert"))
    with pytest.raises(StudyError, match=r'^max_memory=: invalid size "lots"'):
        paretune.recommend(study, max_memory="lots")
    with pytest.raises(StudyError, match=r'^address=: .* Add executor="ray"\.$'):
        paretune.run(study, address="head:6379")
    file = as_file(study, tmp_path / "words.yaml")
    for words, message in (
        (("recommend", file, "--max-memory", "lots"), '--max-memory: invalid size "lots"'),
        (("run", file, "--address", "head:6379"), "--address: only a cluster has an address. Add "),
    ):
        code, _, err = command(capsys, *words)
        assert code == 2 and f"error: {message}" in err
    with pytest.raises(StudyError, match="max_memory="):  # a command does not change what follows
        paretune.recommend(study, max_memory="lots")


def test_no_error_has_an_option_by_another_way() -> None:
    """Options are spelled by ``spell_option``; whole commands stand between backticks."""
    root, literals = Path(paretune.__file__).parents[1], []
    for path in sorted(root.rglob("*.py")):
        if path.parent.name == "cli" or path.name == "new.py":  # only commands reach these
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            named = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
            if called.endswith(RAISING) or named in ("what", "where", "remedy"):
                text = re.sub(r"`[^`]*`", "", ast.unparse(node))
                if option := re.search(r"(?<![\w-])--[a-z][a-z-]+", text):
                    literals.append(f"{path.relative_to(root)}:{node.lineno}: {option[0]}")
    assert literals == []


RAISING = ("Error", "require_name", "explain_missing", ".parse")
"""Functions that are given texts of errors."""


def test_an_executor_that_does_not_exist_is_refused() -> None:
    with pytest.raises(StudyError, match='has no executor "slurm"'):
        paretune.run("demo", executor="slurm")  # type: ignore[arg-type]


def test_completion_shows_the_api_alone() -> None:
    names = {name for name in dir(paretune) if not name.startswith("__")}
    assert names == set(paretune.__all__)
    assert paretune.__version__ == version("paretune")
