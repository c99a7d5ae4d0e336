"""Names and parts of speech for SloBench: read back here by the rules of its evaluators."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.tiny_study import as_file, command, small, train

from paretune.errors import StudyError
from paretune.store import Store
from paretune_slovene.commands.slobench import check, score
from paretune_slovene.slobench.export_submission import export_slobench

SENTENCES = [f"{name} ima hišo v {town} » ." for name in ("Ana", "Jan") for town in ("Tar", "Ig")]
NAMES = "B-PER O O O B-LOC O O"
PARTS = "PROPN VERB NOUN ADP PROPN SYM PUNCT"


def conll(sentences: list[str], tags: str | None) -> str:
    """CoNLL-2002; without tags as a release."""
    column = [f" {tag}" for tag in tags.split()] if tags else [""] * 9
    blocks = [zip(text.split(), column, strict=False) for text in sentences]
    return "\n".join("".join(f"{word}{tag}\n" for word, tag in block) for block in blocks)


def conllu(sentences: list[str], tags: str | None) -> str:
    """CoNLL-U with comments, a range of words and an empty node in each sentence."""
    lines = []
    for text in sentences:
        lines += [f"# text = {text}", "1-2\tAnaima" + "\t_" * 8]
        for number, word in enumerate(text.split()):
            tag = tags.split()[number] if tags else "_"
            lines.append(f"{number + 1}\t{word}\t_\t{tag}\tX{number}\t_\t_\t_\t_\t_")
        lines += ["7.1\tje" + "\t_" * 8, ""]
    return "\n".join(lines) + "\n"


def zipped(path: Path, texts: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return path


def read_names_as_slobench(path: Path) -> list[list[str]]:
    """The tags of each file in order: the second field of every line that has one."""
    with zipfile.ZipFile(path) as archive:
        assert "/" not in "".join(archive.namelist()), "a folder is no file"
        texts = [archive.read(name).decode("unicode_escape") for name in sorted(archive.namelist())]
    lines = [[line.strip().split(" ") for line in text.split("\n")] for text in texts]
    tags = [[fields[1] for fields in of_file if len(fields) > 1] for of_file in lines]
    assert all(tag == "O" or "-" in tag for of_file in tags for tag in of_file), "no prefix"
    return tags


def read_parts_as_slobench(path: Path) -> tuple[str, list[str]]:
    """All characters, and UPOS of the words."""
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        text = archive.read(name).decode("utf-8")
    assert text.endswith("\n\n"), "the last sentence ends with an empty line, too"
    characters, tags = "", []
    for sentence in text.removesuffix("\n\n").split("\n\n"):
        lines = sentence.split("\n")
        begin = next(i for i, line in enumerate(lines) if not line.startswith("#"))
        number = covered = 0
        for fields in (line.split("\t") for line in lines[begin:]):
            assert len(fields) == 10 and fields[1], "ten fields, of which a form"
            if "." in fields[0]:
                continue
            if number >= covered:
                characters += fields[1]
            if "-" in fields[0]:
                covered = int(fields[0].split("-")[1])
            else:
                number += 1
                assert int(fields[0]) == number, "words count from 1"
                tags.append(fields[3])
    return characters, tags


def is_accepted(path: Path, reference: Path) -> bool:
    """Whether SloBench's evaluator gives numbers."""
    try:
        if "a.conllu" in zipfile.ZipFile(reference).namelist():
            return read_parts_as_slobench(path)[0] == read_parts_as_slobench(reference)[0]
        submitted, right = read_names_as_slobench(path), read_names_as_slobench(reference)
    except (AssertionError, ValueError):
        return False
    return len(submitted) == len(right) and sum(map(len, submitted)) == sum(map(len, right))


@pytest.fixture(scope="module")
def done(tmp_path_factory: Any, tiny_model: Any) -> Any:
    """A study that tags names and parts of speech, run once, and its store."""
    folder = tmp_path_factory.mktemp("tags")
    names = {"name": "names", "text": "tokens", "label": "tags"}
    parts = {"name": "parts", "text": "form", "label": "upos", "metric": "token_accuracy"}
    for task, ending, write, tags in (
        (names, "conll", conll, NAMES),
        (parts, "conllu", conllu, PARTS),
    ):
        for part, sentences in (("train", SENTENCES * 4), ("test", SENTENCES)):
            task[part] = str(folder / f"{task['name']}-{part}.{ending}")
            Path(task[part]).write_text(write(sentences, tags), "utf-8")
    tasks = [{"kind": "token_classification", **task} for task in (names, parts)]
    methods = [{"name": "lora", "rank": 2, "learning_rates": [5e-2]}]
    protocol = {"trials": 1, "folds": 1, "seeds": [1]}
    study = small(folder, tiny_model("bert"), tasks=tasks, methods=methods, protocol=protocol)
    return train(study, folder / "store")


def test_names_are_answered_file_by_file(done: Any, tmp_path: Path) -> None:
    study, store = done
    halves = {"2.conll2002": SENTENCES[:1], "10.conll2002": SENTENCES[1:]}
    source = zipped(tmp_path / "source.zip", {n: conll(s, None) for n, s in halves.items()})
    right = zipped(tmp_path / "right.zip", {n: conll(s, NAMES) for n, s in halves.items()})
    out = tmp_path / "out"
    (part,) = export_slobench(study, store=store, source=source, task="names", output=out).parts
    path = out / part.file
    assert is_accepted(path, right) and (part.file, part.rows) == ("names.zip", 4)
    seen = check(path, release=source)
    assert (seen.kind, seen.answers, seen.findings) == ("ner", {"NER": 28}, ())
    with Store.open(store) as stored:
        records = stored.load_records(study.study_hash, predictions=True)
    (run,) = [r for r in records if r.run_id == part.by.record.run_id]
    first, *rest = run.predictions["test"].prediction
    written = [" ".join(tags).replace("I-", "B-") for tags in read_names_as_slobench(path)]
    assert written == [text.replace("I-", "B-") for text in (" ".join(rest), first)]
    assert {"Precision", "F1 (PER)"} <= set(score(path, reference=right).scores)


def test_parts_of_speech_stand_in_the_column_that_the_task_has(
    done: Any, tmp_path: Path, capsys: Any
) -> None:
    study, store = done
    source = tmp_path / "a.conllu"
    source.write_text(conllu(SENTENCES, None).removesuffix("\n"), "utf-8")
    right = zipped(tmp_path / "right.zip", {"a.conllu": conllu(SENTENCES, PARTS)})
    words = ("export", "slobench", as_file(study, tmp_path / "s.yaml"), "--store", store)
    options = ("--source", source, "--task", "parts", "--output", tmp_path / "out")
    code, out, err = command(capsys, *words, *options)
    path = tmp_path / "out" / "parts.zip"
    assert (code, err) == (0, "") and f"Ready to be handed in: {path} (4 rows, read back)" in out
    assert is_accepted(path, right)
    with zipfile.ZipFile(path) as archive:
        text = archive.read("a.conllu").decode()
    assert f"# text = {SENTENCES[0]}\n1-2\tAnaima" in text and "\tX3\t" in text
    assert check(path, release=source).answers == {"UPOS": 28, "XPOS": 28}
    (_, answers), (_, labels) = map(read_parts_as_slobench, (path, right))
    share = sum(a == b for a, b in zip(answers, labels, strict=True)) / 28
    assert score(path, reference=right).scores == pytest.approx(
        {"UPOS F1 Score": share, "XPOS F1 Score": 1}
    )


@pytest.mark.parametrize(
    ("name", "task"), [("a.conll2002", "parts"), ("a.conllu", "names"), ("a.txt", "names")]
)
def test_a_source_that_a_task_cannot_answer_is_refused(
    done: Any, tmp_path: Path, name: str, task: str
) -> None:
    (tmp_path / name).write_text(
        (conllu if name == "a.conllu" else conll)(SENTENCES, None), "utf-8"
    )
    with pytest.raises(StudyError, match=rf"task {task}: does not answer {name}\."):
        export_slobench(done[0], store=done[1], source=tmp_path / name, task=task)


WHOLE = {"a.conll2002": conll(SENTENCES[:2], NAMES), "a.conllu": conllu(SENTENCES[:2], PARTS)}


@pytest.mark.parametrize(
    ("name", "old", "new", "says", "accepted"),
    [
        ("a.conll2002", "B-LOC", "S-LOC", "", True),
        ("a.conll2002", "B-LOC", "LOC", 'line 5: "LOC" is no tag', False),
        ("a.conll2002", "B-PER", "I-PER", 'line 1: "I-PER" is no tag', True),
        ("a.conll2002", " O", "\tO", "line 2: is not a word, one blank", False),
        ("a.conll2002", "Ana", "Eva", "line 1: has Eva where the release has Ana.", True),
        ("a.conll2002", "\n\n", "\n! O\n", "line 8: has ! where the release has Ana.", False),
        ("a.conllu", "# text", "# said", "", True),
        ("a.conllu", "\tX1\t", "\t", "line 4: has 9 fields; CoNLL-U has 10.", False),
        ("a.conllu", "\n3\t", "\n4\t", "line 5: has 4 hišo where the release", False),
        ("a.conllu", "\thišo", "\thiša", "has 3 hiša where the release has 3 hišo.", False),
        ("a.conllu", "\n\n# text", "\n# text", "has 1 field", False),
        ("a.conllu", "", "", "nothing more where the release has the end of a sentence", False),
        ("mine/a.conll2002", "", "", "SloBench takes exactly one, at the root.", False),
        ("b.txt", "", "", "SloBench takes exactly one, at the root.", False),
    ],
)
def test_what_slobench_refuses_is_told(
    tmp_path: Path, name: str, old: str, new: str, says: str, accepted: bool
) -> None:
    whole = "a.conllu" if name in ("a.conllu", "b.txt") else "a.conll2002"
    reference = zipped(tmp_path / "right.zip", {whole: WHOLE[whole]})
    changed = WHOLE[whole].replace(old, new, 1) if old else WHOLE[whole][:-1]
    files = {name: changed, **({whole: WHOLE[whole]} if name == "b.txt" else {})}
    path = zipped(tmp_path / "s.zip", files)
    findings = check(path, release=reference).findings
    assert [says in str(finding) for finding in findings] == ([True] if says else [])
    assert all(finding.severity == "error" and finding.remedy for finding in findings)
    assert is_accepted(path, reference) is accepted


def test_names_are_scored_as_slobench_scores_them(tmp_path: Path) -> None:
    sentences = ["a b c d e f g"]
    paths = [
        zipped(tmp_path / f"{i}.zip", {"a.conll2002": conll(sentences, tags)})
        for i, tags in enumerate(("B-X I-X O B-Y O B-X O", "B-X E-X I-Y S-Y O S-Y O"))
    ]
    # Of X one of one is right and one of two found, of Y one of three and one of one.
    assert score(paths[1], reference=paths[0]).scores == pytest.approx({
        "Precision": 2 / 4, "Recall": 2 / 3, "F1 score": 4 / 7, "P (X)": 1, "R (X)": 1 / 2,
        "F1 (X)": 2 / 3, "P (Y)": 1 / 3, "R (Y)": 1, "F1 (Y)": 1 / 2,
    })  # fmt: skip
