"""Notebooks: without outputs, calling what there is; and one executed, with tiny settings."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from support.pages import ROOT
from support.tiny_study import two_files

import paretune

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
TINY = """
DATA, MODEL, ONLINE, MAX_MEMORY = {data!r}, {model!r}, False, "4GiB"
OVERRIDES = [
    "training.max_steps=4", "training.eval_every=2", "training.max_length=32",
    "training.precision=fp32", "protocol.trials=1", "protocol.seeds=[1]", "protocol.outer=split",
    "protocol.cost_seconds=1", "methods=[lora]",
]
"""


def cells(path: Path) -> list[dict[str, Any]]:
    notebook_cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return notebook_cells


def program(cell: dict[str, Any]) -> str:
    """The source of a cell; a line of magic is a comment."""
    return "".join(
        line.replace("%", "pass  # %", 1) if line.lstrip().startswith("%") else line
        for line in cell["source"]
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_clean_and_name_what_there_is(path: Path) -> None:
    assert len({cell["id"] for cell in cells(path)}) == len(cells(path))
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]] == []
    names = {
        node.attr
        for cell in code
        for node in ast.walk(ast.parse(program(cell)))
        if isinstance(node, ast.Attribute)
        if isinstance(node.value, ast.Name) and node.value.id == "paretune"
    }
    assert names and [name for name in names if not hasattr(paretune, name)] == []
    assert [cell["id"] for cell in code if "parameters" in cell["metadata"].get("tags", ())]


@pytest.mark.slow
def test_a_notebook_ends_in_an_export(tmp_path: Path, tiny_model: Any) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs the extra notebook")
    nbclient = pytest.importorskip("nbclient", reason="needs the extra notebook")
    (path,) = NOTEBOOKS
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    tiny = TINY.format(data=str(two_files(tmp_path / "data")), model=str(tiny_model("bert")))
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source = tiny
    nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    html = {
        cell.id: "".join(
            output["data"]["text/html"]
            for output in cell.outputs
            if output.output_type == "execute_result" and "text/html" in output["data"]
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    bar, ended = outputs["run"]  # and no output for each run
    assert bar.output_type == "display_data" and "<progress" in bar.data["text/html"]
    assert ended.output_type == "execute_result"
    assert "the study can run" in html["check"] and "LoRA" in html["plan"]
    assert "<table>" in html["report"] and "constant answer" in html["report"]
    assert html["recommend"] and "Exported: export (peft)" in html["export"]
    assert (tmp_path / "export" / "adapter_config.json").is_file()
