"""``examples/paper_reread.py`` on a tiny model: both protocols run, and the page is written."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support import made_up_paper as made_up
from support.slobench import make_paper_quick
from support.tiny_study import finish, superglue

from paretune.study import Study

EXAMPLES = Path(__file__).parents[3] / "examples"
SCRIPT = run_path(str(EXAMPLES / "paper_reread.py"))


def shorter(name: str, path: Path, **changes: Any) -> Path:
    """One of the two study files with one task and one method."""
    raw: dict[str, Any] = YAML(typ="safe", pure=True).load(
        (EXAMPLES / name).read_text(encoding="utf-8")
    )
    raw |= {"tasks": [{"name": "cb", "language": "sl"}], "methods": ["lora"], **changes}
    with path.open("w", encoding="utf-8") as handle:
        YAML(typ="safe", pure=True).dump(raw, handle)
    return path


def ended(code: int, capsys: Any) -> tuple[int, str, str]:
    return code, *capsys.readouterr()


@pytest.mark.slow
def test_both_protocols_end_in_one_page(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    make_paper_quick(monkeypatch, max_length=48)
    source = superglue(tmp_path / "data", "folders", 30)
    by_paper = shorter("paper.yaml", tmp_path / "paper.yaml")
    fair = shorter(
        "paper-fair.yaml",
        tmp_path / "fair.yaml",
        protocol={"trials": 1, "folds": 1, "seeds": [1, 2]},
        training={"max_steps": 2, "eval_every": 2, "max_length": 48, "precision": "fp32"},
    )
    store, page = tmp_path / "store", tmp_path / "out" / "page.html"
    arguments = ["--model", str(tiny_model("bert")), "--source", str(source), "--store", str(store)]
    arguments += ["--page", str(page)]
    main = SCRIPT["main"]
    # The paper's protocol in worker processes, as a user runs it; the other's runs in this one.
    ran = ended(main([str(by_paper), *arguments, "--workers", "1", "--device", "cpu"]), capsys)
    arguments += [str(by_paper), str(fair)]
    assert ran[0] == 0 and "6/6" in ran[1] and f"Page: {page}" in ran[1], ran
    finish(
        SCRIPT["adapted"](fair, [str(tiny_model("bert"))], str(source)),
        store / "paper-fair",
        costs=0,
    )
    code, out, _ = ended(main([*arguments, "--no-run"]), capsys)
    assert code == 0 and "own numbers" not in out
    assert "--published FILE" in page.read_text(encoding="utf-8")
    # Of the made-up validation rows 15 are scored, a third of each label: 0.6 is 9 of them.
    row = "CB,croslo,{},,8,400,,7,{},{},2.5\n"
    rows = row.format("LoRA", "0.6", "0.6") + row.format("FT", "0.8", "0.79")
    table = made_up.table(tmp_path / "runs.csv", rows)
    code, out, _ = ended(main([*arguments, "--no-run", "--published", str(table)]), capsys)
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()[:3]] == [
        "The paper’s own numbers",
        f"The paper’s protocol on {tiny_model('bert').name}",
        f"The fair protocol on {tiny_model('bert').name}",
    ]
    text = page.read_text(encoding="utf-8")
    for name in ("paper", "paper-fair"):
        assert f'href="page-{name}.html"' in text
        assert "<h1>" in page.with_name(f"page-{name}.html").read_text(encoding="utf-8")


def test_without_model_and_source_the_studies_are_as_their_files_have_them() -> None:
    for name in ("paper.yaml", "paper-fair.yaml"):
        assert SCRIPT["adapted"](EXAMPLES / name, None, None) == Study.load(EXAMPLES / name)
    grids = [Study.load(EXAMPLES / name) for name in ("paper.yaml", "paper-fair.yaml")]
    assert grids[0].tasks == grids[1].tasks and grids[0].models == grids[1].models
    names = [{m.name for m in grid.methods} - {"head_only"} for grid in grids]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere.yaml"], 2, "nowhere.yaml: no such study file."),
        (["--no-run", "--store", "nowhere"], 6, "nowhere"),
        (["--no-run", "--published", "nowhere.csv"], 3, "nowhere.csv"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(
    arguments: list[str], code: int, message: str, capsys: Any
) -> None:
    exit_code, _, error = ended(SCRIPT["main"](arguments), capsys)
    assert exit_code == code and message in error and error.startswith("error: ")
