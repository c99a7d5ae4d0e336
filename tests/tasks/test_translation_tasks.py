"""Translations: the user's own in every form, and RSDO4 from files and from the hub."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from paretune.data import hub
from paretune.errors import DataError, StudyError
from paretune.preparation import ProcessCache
from paretune.study import Study, TaskSpec
from paretune.tasks import load_dataset, pin_dataset
from paretune_slovene.tasks import rsdo4

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "mt-sl-en"
ROWS = [{"sl": f"Žival številka {i}.", "en": f"Animal number {i}."} for i in range(30)]


def own(train: Path | str, **changes: Any) -> TaskSpec:
    defaults = {"name": "t", "kind": "translation", "source_lang": "sl", "target_lang": "en"}
    return TaskSpec(**{**defaults, "train": str(train), **changes})


def table(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def written(folder: Path, form: str) -> Path:
    path = folder / f"train.{form.split()[0]}"
    if form in ("tsv", "csv"):
        between = "\t" if form == "tsv" else ","
        lines = [f"{row['sl']}{between}{row['en']}" for row in ROWS]
        return table(path, f"sl{between}en", lines)
    rows = [{"translation": row} for row in ROWS] if "nested" in form else ROWS
    if form.startswith("jsonl"):
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(
    "form", ["tsv", "csv", "jsonl", "parquet", "jsonl nested", "parquet nested"]
)
def test_every_form_gives_the_same_dataset(tmp_path: Path, form: str) -> None:
    path = written(tmp_path, form)
    data = load_dataset(own(path, test=str(path)))
    assert (data.kind, data.labels, data.languages) == ("translation", (), ("sl", "en"))
    assert (data.metric, data.language, data.task) == ("bleu", "en", "t-sl-en")
    assert [e.segments for e in data.train] == [((row["sl"], None),) for row in ROWS]
    assert [e.target for e in data.test] == [row["en"] for row in ROWS]
    assert {e.label for e in data.train} == {None}
    assert (data.train[3].uid, data.test[3].uid) == ("train:3", "test:3")
    reference = load_dataset(
        own(table(tmp_path / "r.tsv", "sl\ten", [f"{r['sl']}\t{r['en']}" for r in ROWS]))
    )
    assert {e.uid for e in (*reference.train, *reference.test)} == {e.uid for e in data.train}


def test_the_other_direction_other_columns_id_metric_and_limit(tmp_path: Path) -> None:
    lines = [f"n{i}\t{row['sl']}\t{row['en']}" for i, row in enumerate(ROWS)]
    path = table(tmp_path / "a.tsv", "id\tsl_seq\ten_seq", lines)
    data = load_dataset(
        own(
            path,
            source_lang="en",
            target_lang="sl",
            text="en_seq",
            label="sl_seq",
            id="id",
            metric="chrf",
            test=str(path),
            limit={"train": 7, "test": 2},
            licence="CC0",
        )
    )
    assert data.train[6].segments[0][0] == ROWS[6]["en"] and data.train[6].target == ROWS[6]["sl"]
    assert (data.train[6].uid, data.metric, data.licence) == ("train:n6", "chrf", "CC0")
    assert (len(data.train), len(data.test), data.languages) == (7, 2, ("en", "sl"))
    assert data.content_hash != load_dataset(own(path, text="sl_seq", label="en_seq")).content_hash


def test_two_files_of_plain_text_beside_the_study_file(tmp_path: Path) -> None:
    for language in ("sl", "en"):
        lines = "".join(f"{row[language]}\n" for row in ROWS)
        (tmp_path / f"corpus.{language}").write_text(lines, encoding="utf-8")
    raw = {"kind": "translation", "source_lang": "sl", "target_lang": "en"}
    stem = {**raw, "name": "stem", "train": "corpus", "test": "corpus"}
    named = {**raw, "name": "named", "train": "corpus.sl", "train_target": "corpus.en"}
    rest = {"study": "s", "models": "m", "methods": "full"}
    study = Study.parse({**rest, "tasks": [stem, named]}, base=tmp_path)
    one, other = map(load_dataset, study.tasks)
    assert [e.target for e in one.train] == [e.target for e in one.test] == [r["en"] for r in ROWS]
    assert one.source == "corpus.sl and corpus.en, corpus.sl and corpus.en"
    assert len(other.train) == 24 and [f.code for f in other.findings] == ["test-held-out"]


def test_an_empty_side_is_a_fault_and_all_are_named(tmp_path: Path) -> None:
    path = table(tmp_path / "a.tsv", "sl\ten", ["Da.\tYes.", "Ne.\t ", "\tNo."])
    with pytest.raises(DataError) as error:
        load_dataset(own(path))
    assert 'a.tsv line 3: has no text in "en"' in str(error.value)
    assert 'a.tsv line 4: has no text in "sl"' in str(error.value)


def test_a_missing_column_and_a_template_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.tsv", "sl\thr", ["Da.\tDa."] * 9)
    with pytest.raises(DataError, match=r'has no column "en"\. Its columns are sl, hr'):
        load_dataset(own(path))
    with pytest.raises(StudyError, match='no template "paper"'):
        load_dataset(own(path, template="paper"))


def test_a_held_out_test_is_at_most_two_thousand_pairs(tmp_path: Path) -> None:
    path = table(tmp_path / "a.tsv", "sl\ten", [f"Vir {i}\tSource {i}" for i in range(12_000)])
    data = load_dataset(own(path))
    assert (len(data.train), len(data.test)) == (10_000, 2000)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/mt-sl-en")
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_software_help_is_read_without_loss(part: str) -> None:
    path = SHARED / "software-help" / f"{part}.tsv"
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")[1:]
    assert sum('"' in line for line in lines) > 20
    data = load_dataset(own(path, test=str(path)))
    assert [f"{e.segments[0][0]}\t{e.target}" for e in data.train] == lines


def corpus(folder: Path, n: int = 100) -> Path:
    lines = [f"Animal {i}.\tŽival {i}." for i in range(n)]
    return table(folder / "RSDO4.tsv", "en_seq\tsl_seq", lines)


def rsdo(source: Path | None, **changes: Any) -> TaskSpec:
    defaults = {"name": "rsdo4", "source_lang": "sl", "target_lang": "en"}
    return TaskSpec(**{**defaults, "source": None if source is None else str(source), **changes})


def test_rsdo4_in_both_directions(tmp_path: Path) -> None:
    path = corpus(tmp_path)
    data = load_dataset(rsdo(path))
    back = load_dataset(rsdo(path, source_lang="en", target_lang="sl"))
    animal = str(data.train[0].target).split()[1]
    assert data.train[0].segments == ((f"Žival {animal}", None),)
    assert {(e.segments[0][0], e.target) for e in (*data.train, *data.test)} == {
        (e.target, e.segments[0][0]) for e in (*back.train, *back.test)
    }
    assert (len(data.train), len(data.test), data.task) == (80, 20, "rsdo4-sl-en")
    assert data.licence.startswith("CC BY-SA 4.0") and "11356/1457" in data.source
    assert [f.code for f in data.findings] == ["other-size", "test-held-out"]


def test_rsdo4_leaves_empty_sides_out_and_says_so(tmp_path: Path) -> None:
    path = corpus(tmp_path)
    with path.open("a", encoding="utf-8") as file:
        file.write("Only English.\t\n\tSamo slovensko.\n")
    data = load_dataset(rsdo(path))
    (finding,) = [f for f in data.findings if f.code == "left-out"]
    assert len(data.train) + len(data.test) == 100
    assert "line 102" in finding.where and "2 such pairs of 102" in finding.what


def test_the_papers_split_is_the_first_rows_cut_as_datasets_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rsdo4, "PAPER_ROWS", 50)
    data = load_dataset(rsdo(corpus(tmp_path), split="paper"))
    assert (len(data.train), len(data.test)) == (40, 10)
    assert {e.target for e in (*data.train, *data.test)} == {f"Animal {i}." for i in range(50)}
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    rows = datasets.Dataset.from_list([{"en": f"Animal {i}."} for i in range(50)])
    theirs = rows.train_test_split(test_size=0.2, seed=0)
    assert [e.target for e in data.train] == theirs["train"]["en"][:]
    assert [e.target for e in data.test] == theirs["test"]["en"][:]


def test_what_rsdo4_is_not(tmp_path: Path) -> None:
    path = corpus(tmp_path)
    with pytest.raises(StudyError, match="does not translate from sl to de"):
        load_dataset(rsdo(path, target_lang="de"))
    with pytest.raises(StudyError, match="needs to know from which language into which"):
        load_dataset(TaskSpec(name="rsdo4", source=str(path)))
    with pytest.raises(StudyError, match="boolq-sl-en translates nothing"):
        load_dataset(TaskSpec(name="boolq", source_lang="sl", target_lang="en"))
    with pytest.raises(StudyError, match='routing has no split "paper"'):
        load_dataset(TaskSpec(name="routing", split="paper"))
    with pytest.raises(StudyError, match="metric accuracy does not fit"):
        load_dataset(rsdo(path, metric="accuracy"))
    with pytest.raises(StudyError, match='no template "paper"'):
        load_dataset(rsdo(path, template="paper"))
    with pytest.raises(ValueError, match="split goes with a built-in task"):
        own(path, split="paper")
    blank = table(tmp_path / "blank.tsv", "en\tsl", ["\tx"])
    with pytest.raises(DataError, match="no row has a text"):
        load_dataset(rsdo(blank))


def test_rsdo4_of_the_hub_is_fetched_as_parquet_and_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    commit, requests = "c" * 40, []
    rows = [{"en_seq": f"Animal {i}.", "sl_seq": f"Žival {i}."} for i in range(40)]

    def sha(name: str, revision: str) -> SimpleNamespace:
        requests.append((name, revision))
        return SimpleNamespace(sha=commit)

    def loaded(name: str, config: None, *, split: str, revision: str) -> Any:
        assert (name, split, revision) == ("cjvt/rsdo4_en_sl", "train", commit)
        return datasets.Dataset.from_list(rows)

    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(dataset_info=sha))
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *a, **k: ["train"])
    monkeypatch.setattr(datasets, "load_dataset", loaded)
    spec = rsdo(None)
    with pytest.raises(DataError, match="downloads need online=True"):
        ProcessCache().dataset(pin_dataset(spec))
    data = ProcessCache().dataset(pin_dataset(spec, offline=False))
    assert requests == [("cjvt/rsdo4_en_sl", "refs/convert/parquet")]
    assert (len(data.train), len(data.test)) == (32, 8)
    pinned = pin_dataset(spec)
    assert pinned.revision == commit and pinned.dataset is None
    assert load_dataset(pinned) == load_dataset(pinned.model_copy())
    assert [e.target for e in load_dataset(pinned).train] == [e.target for e in data.train]
    assert pin_dataset(pinned) == pinned and len(requests) == 1


def test_a_folder_of_converted_parquet_stands_for_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    there = tmp_path / "set"
    for config in ("default", "other"):
        for part in ("train", "test"):
            file = there / config / part / "0000.parquet"
            file.parent.mkdir(parents=True)
            rows = [{"sl": f"{config} {part} {i}", "en": str(i)} for i in range(9)]
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    sha = SimpleNamespace(dataset_info=lambda name, revision: SimpleNamespace(sha="d" * 40))
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: sha)
    spec = own("").model_copy(update={"train": None, "dataset": str(there), "config": "other"})
    hub.fetch_splits(spec)
    data = load_dataset(spec)
    assert data.train[2].segments[0][0] == "other train 2" and data.test[2].target == "2"
