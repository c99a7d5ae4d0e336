"""``--json`` on every verb: one object whose fields are documented; options by one spelling."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.pages import docs_script
from support.tiny_study import command

from paretune.cli import VERBS
from paretune.reporting import read_json

PAGE = docs_script("json_page")
FIELDS = {verb: [*PAGE.describe_fields(result)] for verb, result in PAGE.result_types().items()}


def test_every_verb_has_a_documented_object() -> None:
    assert {*VERBS} - {"report", "judge"} <= {*FIELDS}
    texts = [text for result in PAGE.result_types().values()
             for text in PAGE.describe_fields(result).values()]  # fmt: skip
    assert len(texts) > 50 and all(texts)


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Path:
    """A copy of the finished study with its store and a data file, to write into."""
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("json") / "study"))


@pytest.fixture
def in_study(study_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The study's folder is the present one."""
    monkeypatch.chdir(study_folder)


ASKED: dict[str, tuple[str, ...]] = {
    "new": ("new", "train.csv", "-o", "new.yaml"),
    "check": ("check", "s.yaml"),
    "plan": ("plan", "s.yaml", "--store", "store"),
    "watch": ("watch", "s.yaml", "--store", "store"),
    "recommend": ("recommend", "s.yaml", "--store", "store"),
    "next": ("next", "s.yaml", "--store", "store"),
    "compare": ("compare", "s.yaml", "head_only", "majority", "--store", "store"),
    "export": (
        "export", "s.yaml", "--method", "head_only", "--store", "store", "-o", "exported",
        "--allow-collapsed",
    ),
    "verify": ("verify", "s.yaml", "--store", "store"),
    "merge": ("merge", "store", "-o", "merged"),
    "ls": ("ls",),
}  # fmt: skip


@pytest.mark.parametrize("verb", ASKED)
def test_a_verb_gives_one_object_with_the_documented_fields(
    verb: str, in_study: None, capsys: Any
) -> None:
    code, out, err = command(capsys, *ASKED[verb], "--json")
    assert code == 0, err
    result = json.loads(out)
    assert list(result)[:3] == [*PAGE.COMMON] and result["verb"] == verb
    if verb == "export":  # the fields of its run stand beside the others
        assert result.pop("seed") in (1, 2)
        result["run"] = [result.pop(n) for n in ("task", "model", "method", "stage", "fold")]
        del result["outer"], result["learning_rate"]
    assert verb == "ls" or set(result) == {*PAGE.COMMON, *FIELDS[verb]}
    if "-o" in ASKED[verb]:
        return
    code, out, _ = command(capsys, *ASKED[verb], "--json", "--output", f"{verb}.json")
    assert (code, out) == (0, "")
    assert set(json.loads(Path(f"{verb}.json").read_text("utf-8"))) == set(result)
    code, _, err = command(capsys, *ASKED[verb], "-o", "x.json")
    assert code == 2 and "--output: needs --json. Add --json." in err


def test_what_is_wrong_is_in_the_object_and_in_the_exit_code(in_study: None, capsys: Any) -> None:
    raw = YAML(typ="safe", pure=True).load(Path("s.yaml"))
    raw["tasks"][0]["labels"] = ["no", "maybe"]
    YAML(typ="safe", pure=True).dump(raw, Path("bad.yaml"))
    code, out, err = command(capsys, "check", "bad.yaml", "--json")
    result = json.loads(out)
    assert (code, err, result["can_run"], result["models_checked"]) == (3, "", False, False)
    (item,) = result["items"]
    assert result["counts"]["error"] == item["errors"] == 1 and result["failed"] == ["task words"]
    assert item["error"]["exit_code"] == 3 and len(item["findings"][0]["places"]) == 30
    code, out, err = command(capsys, "plan", "none.yaml", "--json")
    assert (code, out) == (2, "") and err.startswith("error: none.yaml")


def test_report_gives_the_study_or_writes_it(in_study: None, capsys: Any) -> None:
    arguments = ("report", "s.yaml", "--store", "store")
    code, out, err = command(capsys, *arguments, "--json")
    assert (code, err) == (0, "") and json.loads(out)["study"]["name"] == "small"
    code, written, err = command(capsys, *arguments, "--json", "--output", "a.json")
    assert (code, written) == (0, ""), err
    assert read_json(Path("a.json")).to_json() == json.loads(out)
    code, out, _ = command(capsys, *arguments, "-o", "page.html")
    assert code == 0 and Path("page.html").is_file() and "Page: page.html" in out
    code, _, err = command(capsys, *arguments, "--page", "a.html", "-o", "b.html")
    assert code == 2 and "both name the page" in err


@pytest.mark.wide
def test_run_tells_its_progress_on_stderr_and_gives_the_object_on_stdout(
    in_study: None, capsys: Any
) -> None:
    raw = YAML(typ="safe", pure=True).load(Path("s.yaml"))
    YAML(typ="safe", pure=True).dump({**raw, "methods": ["majority"]}, Path("m.yaml"))
    code, out, err = command(
        capsys, "run", "m.yaml", "--store", "m", "--workers", "1", "--json", "--devices", "cpu"
    )
    result = json.loads(out)
    assert code == 0 and set(result) == {*PAGE.COMMON, *FIELDS["run"]}
    assert result["failed"] == [] and result["ended"] > 0
    assert "1 worker with" in err


def test_a_shell_completes_verbs_options_and_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("samples.yaml", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "studies").mkdir()
    monkeypatch.setenv("_PARETUNE_COMPLETE", "complete_bash")
    for typed, completed in (
        ("paretune rec", ["recommend"]),
        ("paretune run --exe", ["--executor"]),
        ("paretune ls me", ["methods"]),
        ("paretune plan sam", ["sample", "samples.yaml"]),
        ("paretune plan st", ["studies/"]),
    ):
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
        code, out, _ = command(capsys)
        assert (code, out.split()) == (0, completed)
