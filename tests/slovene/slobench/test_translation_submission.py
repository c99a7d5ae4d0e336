"""SloBench's source translated by a study's best run: a line for each line, none empty."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.slobench import release, six
from support.tiny_study import as_file, command, finish

from paretune.errors import DataError, StudyError
from paretune.exporting import restore
from paretune.store import Store
from paretune.study import Study
from paretune.testing.translator_folders import sentences, tiny_marian, tiny_pairs
from paretune_slovene.commands.slobench import check
from paretune_slovene.slobench.export_submission import export_slobench


@pytest.fixture(scope="module")
def done(tmp_path_factory: Any) -> Any:
    """A study of one translation, run once, its store, and the test sentences as a source."""
    folder = tmp_path_factory.mktemp("translation")
    task = tiny_pairs(folder / "data")
    study = Study.parse(
        {
            "study": "mt",
            "tasks": [task.model_dump(exclude_none=True)],
            "models": [{"name": str(tiny_marian(folder / "model")), "label": "tiny"}],
            "methods": [{"name": "full", "learning_rates": [5e-3]}],
            "protocol": {"trials": 1, "folds": 1, "seeds": [1, 2]},
            "training": {"max_steps": 40, "eval_every": 40, "precision": "fp32"},
            "generation": {"max_new_tokens": 12},
        }
    )
    finish(study, folder / "store", costs=0).close()
    with Path(str(task.test)).open(encoding="utf-8", newline="") as file:
        sources = [row["sl"] for row in csv.DictReader(file, delimiter="\t")]
    source = folder / "source.txt"
    source.write_text("".join(f"{line}\n" for line in sources), encoding="utf-8")
    return study, folder / "store", source


def lines_of(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        return archive.read(name).decode("utf-8").splitlines()


def test_the_source_is_translated_as_the_chosen_run_translated_when_it_was_scored(
    done: Any, tmp_path: Path
) -> None:
    study, store, source = done
    submission = export_slobench(study, store=store, source=source, output=tmp_path / "out")
    (part,) = submission.parts
    assert (part.name, part.file, part.rows) == ("words-sl-en", "words-sl-en.zip", 10)
    with Store.open(store) as stored:
        records = stored.load_records(study.study_hash, predictions=True)
    (run,) = [r for r in records if r.run_id == part.by.record.run_id]
    written = lines_of(tmp_path / "out" / "words-sl-en.zip")
    assert written == list(run.predictions["test"].prediction)
    final = [r for r in records if r.run.stage == "final" and r.run.cell == run.run.cell]
    scores = {r.run.seed: r.result["scores"]["selection"]["primary"] for r in final}
    assert scores[run.run.seed] == max(scores.values())
    seen = check(tmp_path / "out" / "words-sl-en.zip", release=source)
    assert (seen.kind, seen.answers, seen.findings) == ("translation", {"lines": 10}, ())
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "(BLEU on 12 examples)" in readme and "- `source.txt`, sha256 " in readme
    assert "paretune export slobench STUDY_FILE --source FILE" in readme
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "words-sl-en.zip"]


def test_an_empty_translation_becomes_its_source_and_that_is_told(
    done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    study, store, source = done
    sources = source.read_text(encoding="utf-8").splitlines()

    def translated(run: Any, dataset: Any, inputs: list[Any], *rest: Any) -> Any:
        assert [example.segments[0][0] for example in inputs] == sources
        return ("", " \n", *(f" a\u2028b  {i}\n" for i in range(8))), 0

    monkeypatch.setattr(restore, "predict", translated)
    file = as_file(study, tmp_path / "mt.yaml")
    code, out, err = command(
        capsys, "export", "slobench", file, "--store", store, "--source", source, "--output",
        tmp_path / "out",
    )  # fmt: skip
    assert (code, err) == (0, "")
    message = "2 translations empty, where the source stands instead (line 1, 2)."
    assert message in out and message in (tmp_path / "out" / "README.md").read_text(
        encoding="utf-8"
    )
    written = lines_of(tmp_path / "out" / "words-sl-en.zip")
    assert written == [*sources[:2], *(f"a b {i}" for i in range(8))]


def test_what_cannot_be_is_refused_before_anything_is_written(
    done: Any, tmp_path: Path, tiny_model: Any
) -> None:
    study, store, source = done
    out = tmp_path / "out"
    with pytest.raises(StudyError, match=r"is not public\. Name what .*source=.FILE"):
        export_slobench(study, store=store, output=out)
    with pytest.raises(StudyError, match=r'no translation or tags "other"\. It has words-sl-en'):
        export_slobench(study, store=store, output=out, source=source, task="other")
    with pytest.raises(StudyError, match="no task of SuperGLUE, to which release= belongs"):
        export_slobench(study, store=store, output=out, source=source, release=source)
    gaps = tmp_path / "gaps.txt"
    gaps.write_text("pes\n\nhiša\n \n", encoding="utf-8")
    with pytest.raises(DataError, match=r"2 lines empty \(the first is line 2\)"):
        export_slobench(study, store=store, output=out, source=gaps)
    with pytest.raises(DataError, match="no such file"):
        export_slobench(study, store=store, output=out, source=tmp_path / "none.txt")
    second = study.tasks[0].model_copy(update={"name": "more"})
    two = study.model_copy(update={"tasks": (study.tasks[0], second)})
    others = six(tmp_path / "six", tiny_model("bert"), release(tmp_path / "six"))
    for refused_study, message in (
        (two, r"several such tasks\. Say task=: words-sl-en, more-sl-en"),
        (
            others,
            r"has no translation and no task that tags words\. source= and task= belong to one",
        ),
    ):
        with pytest.raises(StudyError, match=message):
            export_slobench(refused_study, store=store, output=out, source=source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gaps.txt", "six"]


def test_lines_that_stop_slobench_are_mended_and_each_is_told(
    done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    study, store, source = done
    texts = tuple(english for _, english in sentences(7, 3))
    translations = ("! or NOT x", *texts, ".) x", "... x")
    monkeypatch.setattr(restore, "predict", lambda *_: (translations, 3))
    code, out, err = command(
        capsys, "export", "slobench", as_file(study, tmp_path / "mt.yaml"), "--store", store,
        "--source", source, "--output", tmp_path / "out",
    )  # fmt: skip
    assert (code, err) == (0, "")
    path = tmp_path / "out" / "words-sl-en.zip"
    assert lines_of(path) == ["!or NOT x", *texts, ") x", "... x"]
    assert check(path, release=source).findings == ()
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for message in (
        'Line 1 began with the end of a sentence, where SloBench\'s NLTK stops: "! or NOT x" was '
        'written as "!or NOT x".',
        'stops: ".) x" was written as ") x".',
        "3 of 10 rows were cut to 256 tokens at most.",
    ):
        assert message in out and message in readme
    assert out.count("began with the end of a sentence") == 2
