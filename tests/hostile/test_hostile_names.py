"""Names that want to leave their folder, in everything that writes.

A study refuses such labels and languages; a store of an older version may hold them all the same,
so what writes is walked with names that no check has seen.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_records import study, whole
from support.hostile_names import HOSTILE_NAMES
from support.tiny_study import command, finished

from paretune.reporting.build import build_report
from paretune.store import Record
from paretune.study import Study
from paretune.verbs import report as report_verb
from paretune.verbs.export import export


def named(original: Study, records: list[Record], name: str) -> tuple[Study, list[Record]]:
    """The study and its records with this name as language, and as label of model and method."""

    def rename(value: Any, **update: Any) -> Any:
        return value.model_copy(update=update)

    task, model = original.tasks[0], original.models[0]
    method = original.methods[0]
    renamed = rename(
        original,
        tasks=(rename(task, language=name),),
        models=(rename(model, label=f"m{name}"),),
        methods=(rename(method, label=name or "-"), *original.methods[1:]),
    )
    renamed_records = []
    for record in records:
        run = record.run
        if run.task.key != task.key:
            continue
        changes: dict[str, Any] = {"task": renamed.tasks[0]}
        if run.model.key == model.key:
            changes["model"] = renamed.models[0]
        if run.method.key == method.key:
            changes["method"] = renamed.methods[0]
        renamed_records.append(replace(record, run=rename(run, **changes)))
    return renamed, renamed_records


def walk(tmp_path: Path, name: str, *, everything: bool) -> None:
    """Every output of a report: all files lie in the folders that were named."""
    original = study()
    renamed, records = named(original, whole(original), name)
    inside = tmp_path / "inside" / "deeper"
    written = build_report(renamed, records).write(
        inside / "page.html" if everything else None,
        figures=inside / "figures" if everything else None,
        tables=inside / "tables",
        json=inside / "study.json",
    )
    for _, path in written:
        assert path.resolve().is_relative_to(inside.resolve()), name
    assert {p.name for p in inside.iterdir()} <= {
        "page.html", "figures", "tables", "study.json"
    }  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["inside"]
    if everything:
        page = (inside / "page.html").read_text(encoding="utf-8")
        assert "<img src=x" not in page and "\x1b" not in page and "\u202e" not in page
    for file in (inside / "tables").glob("*.csv"):
        with file.open(encoding="utf-8", newline="") as lines:
            cells = [cell for row in csv.reader(lines) for cell in row]
        assert not any(cell.startswith(("=", "@", "\t", "\r")) for cell in cells), name


@pytest.mark.parametrize("name", [HOSTILE_NAMES[0], HOSTILE_NAMES[-3]])
def test_names_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    walk(tmp_path, name, everything=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in HOSTILE_NAMES if n != "\ud800"], ids=range(49))
def test_fifty_names_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    """The lone surrogate is in no store: its JSON and SQLite are UTF-8."""
    walk(tmp_path, name, everything=True)


@pytest.mark.slow
def test_fifty_names_export_into_their_folder(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, store = finished(tmp_path / "study", tiny_model("bert"))
    results = report_verb.load_results(original, store)
    (tmp_path / "here" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "deeper")
    before = {p for p in tmp_path.rglob("*") if "here" not in p.parts}
    folders = set()
    for name in HOSTILE_NAMES:
        if name == "\ud800":
            continue
        renamed, records = named(original, list(results.records), name)
        fake = replace(results, study=renamed, records=records)
        monkeypatch.setattr(report_verb, "load_results", lambda *_, fake=fake: fake)
        done = export(renamed, store=store, method=name or "-", allow_collapsed=True)
        assert done.folder.resolve().parent == (Path.cwd() / "exports" / "small").resolve()
        folders.add(done.folder)
    assert len(folders) == 49
    assert {p for p in tmp_path.rglob("*") if "here" not in p.parts} == before
    assert [p.name for p in Path.cwd().iterdir()] == ["exports"]


def test_new_writes_one_file_whatever_the_data_are_called(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "\n".join(f"text {i},{'yes' if i % 2 else 'no'}" for i in range(20))
    for number, name in enumerate(HOSTILE_NAMES[::4]):
        if "/" in name or "\0" in name or name == "\ud800" or len(name.encode()) > 200:
            continue
        folder = tmp_path / f"d{number}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        source = Path(f"./{name}.csv")
        source.write_text(f"text,label\n{rows}", encoding="utf-8")
        code, out, err = command(capsys, "new", source if name[:1] != "-" else f"./{source}")
        assert code in (0, 2, 3), (name, err)
        assert "Traceback" not in out + err
        assert all(c.isprintable() or c == "\n" for c in out + err)
        new_files = {p.name for p in folder.iterdir()} - {source.name}
        assert len(new_files) == (code == 0) and all(one.endswith(".yaml") for one in new_files)
    assert all(p.name.startswith("d") for p in tmp_path.iterdir())
