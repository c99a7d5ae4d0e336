"""Mistakes that new users make, run again: ``python dev/first_hour.py [NAME ...]``.

Each is a folder with a small data set and a study file, one thing in them that is wrong, and a
command. What is answered is printed as a table (Markdown); where the exit code is another than the
listed one, or the answer lacks the listed words, the line says so, and the script ends with 1.
Needs no network; nothing is trained.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shlex
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

STUDY = """\
study: s
tasks:
  - name: t
    kind: classification
    train: train.csv
    test: test.csv
    text: text
    label: label
    labels: [sport, food, money]
models: [./m]
methods: [lora]
protocol: {seeds: [1, 2], trials: 1, folds: 1, outer: split}
training: {epochs: 1, max_length: 32}
"""
LABELS = ("sport", "food", "money")
Edit = Callable[[Path], None]


@dataclass(frozen=True)
class Mistake:
    """``edits`` make it; ``exit_code`` and ``words`` are what the command must answer."""

    name: str
    command: str
    exit_code: int
    words: str
    edits: tuple[Edit, ...] = ()


def make_rows(count: int, part: str) -> list[list[str]]:
    """Rows of text and label; no text occurs twice."""
    return [
        [f"{part} row {i} is about {LABELS[i % 3]} and thing {i * 7}", LABELS[i % 3]]
        for i in range(count)
    ]


def write_rows(file: Path, rows: list[list[str]], header: str = "text,label") -> None:
    """A CSV file."""
    lines = [header, *(",".join(row) for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def study(before: str, after: str) -> Edit:
    """Replace a part of the study file."""

    def edit(folder: Path) -> None:
        text = (folder / "s.yaml").read_text(encoding="utf-8")
        if before not in text:
            raise ValueError(f"{before!r} is not in the study file")
        (folder / "s.yaml").write_text(text.replace(before, after, 1), encoding="utf-8")

    return edit


def write(name: str, content: str | bytes) -> Edit:
    """Write a file."""

    def edit(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)

    return edit


def line(file: str, number: int, text: str) -> Edit:
    """Replace one line of a file, counted from 1."""

    def edit(folder: Path) -> None:
        lines = (folder / file).read_text(encoding="utf-8").splitlines()
        lines[number - 1] = text
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")

    return edit


def recode(file: str, encoding: str, *, end: str = "\n") -> Edit:
    """Write a file in another encoding, or with other ends of lines."""

    def edit(folder: Path) -> None:
        text = (folder / file).read_text(encoding="utf-8")
        (folder / file).write_bytes(text.replace("\n", end).encode(encoding))

    return edit


def rows(file: str, table: list[list[str]], header: str = "text,label") -> Edit:
    """Write a CSV file of other rows."""
    return lambda folder: write_rows(folder / file, table, header)


def link_model(folder: Path, *, without: str = "") -> None:
    """A tiny model as ``m``; ``without``: names of files that contain this are left out."""
    source = _tiny_model()
    target = folder / "m"
    target.mkdir(exist_ok=True)
    for file in source.iterdir():
        if not without or without not in file.name:
            (target / file.name).write_bytes(file.read_bytes())


_MADE: list[Path] = []


def _tiny_model() -> Path:
    if not _MADE:
        from paretune.testing.tiny_models import tiny_model

        _MADE.append(tiny_model("bert", Path(tempfile.mkdtemp(prefix="first-hour-"))))
    return _MADE[0]


def replace_weights(content: bytes | None) -> Edit:
    """Other bytes in the place of the model's weights; None: the first half of them."""

    def edit(folder: Path) -> None:
        file = folder / "m" / "model.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if content is None else content)

    return edit


def name_remote_code(model_type: str | None) -> Edit:
    """A config that asks for code of its own; with another ``model_type`` where one is given."""

    def edit(folder: Path) -> None:
        file = folder / "m" / "config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        config["auto_map"] = {"AutoModel": "evil.Evil"}
        file.write_text(json.dumps(config | ({"model_type": model_type} if model_type else {})))

    return edit


def pack_bomb(name: str, mebibytes: int) -> Edit:
    """Write a zip file with one table that unpacks to so much."""

    def edit(folder: Path) -> None:
        with (
            zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as packed,
            packed.open("train.csv", "w", force_zip64=True) as member,
        ):
            member.write(b"text,label\n")
            for _ in range(mebibytes):
                member.write(b"a" * 2**20)

    return edit


def regression(*edits: Edit) -> tuple[Edit, ...]:
    """The edits, in a study of numbers."""
    return (
        study("kind: classification", "kind: regression"),
        study("    labels: [sport, food, money]\n", ""),
        *edits,
    )


def labelled(labels: str) -> Edit:
    """Other labels in the study file."""
    return study("labels: [sport, food, money]", f"labels: [{labels}]")


def with_model(*edits: Edit, without: str = "") -> tuple[Edit, ...]:
    """The edits, behind a model in the folder."""
    return (lambda folder: link_model(folder, without=without), *edits)


TRAIN = make_rows(90, "train")
COMMAS = [[text, f'"{i},5"'] for i, (text, _) in enumerate(TRAIN)]
COMMAS_TEST = [[f"t{i}", f'"{i},5"'] for i in range(20)]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n"
ESCAPE = "\x1b]0;owned\x07\x1b[2J"
LONG_QUOTED = [
    [f"row {i} with words {i * 3}", f'"a label of many words, number {i % 3}, {"x" * 60}"']
    for i in range(60)
]
METHODS = "methods: [lora]"
TRAINING = "training: {epochs: 1, max_length: 32}"
SEEDS = "seeds: [1, 2]"


def method(text: str) -> tuple[Edit, ...]:
    """Another method, on a model in the folder."""
    return with_model(study(METHODS, f"methods: [{text}]"))


def training(text: str) -> Edit:
    """Other training options."""
    return study(TRAINING, f"training: {{{text}}}")


MISTAKES = (
    Mistake(
        "label not listed",
        "check s.yaml",
        3,
        'train.csv line 62: label "sprot" is not one of sport, food, money. Fix the row',
        (line("train.csv", 62, "a text,sprot"),),
    ),
    Mistake("missing column", "check s.yaml", 3, "ERROR", (study("text: text", "text: sentence"),)),
    Mistake(
        "column with a typo",
        "check s.yaml",
        3,
        "Did you mean label",
        (study("label: label", "label: lable"),),
    ),
    Mistake("empty file", "new train.csv", 3, "train.csv: is empty.", (write("train.csv", ""),)),
    Mistake(
        "header only", "new train.csv", 3, "holds no rows", (write("train.csv", "text,label\n"),)
    ),
    Mistake(
        "byte order mark",
        "new train.csv -o n.yaml",
        0,
        "Written: n.yaml",
        (recode("train.csv", "utf-8-sig"),),
    ),
    Mistake("UTF-16", "new train.csv", 3, "Save it as UTF-8", (recode("train.csv", "utf-16"),)),
    Mistake(
        "CP1250",
        "new train.csv",
        3,
        "iconv -f CP1250 -t UTF-8",
        (line("train.csv", 62, "žaba in šoja,sport"), recode("train.csv", "cp1250")),
    ),
    Mistake(
        "CRLF",
        "new train.csv -o n.yaml",
        0,
        "Written: n.yaml",
        (recode("train.csv", "utf-8", end="\r\n"),),
    ),
    Mistake(
        "ragged row",
        "new train.csv",
        3,
        "train.csv line 62: has 4 fields, the header has 2.",
        (line("train.csv", 62, "a, b, c,sport"),),
    ),
    Mistake(
        "a column twice",
        "new train.csv",
        3,
        "Rename one of them.",
        (line("train.csv", 1, "label,label"),),
    ),
    Mistake(
        "open quote",
        "new train.csv",
        3,
        "train.csv line 7: is not well-formed CSV",
        (line("train.csv", 7, '"never closed,sport'),),
    ),
    Mistake(
        "huge cell",
        "check s.yaml",
        0,
        "the study can run",
        with_model(line("train.csv", 7, f"{'word ' * 40_000},sport")),
    ),
    Mistake(
        "leak",
        "check s.yaml",
        3,
        "30 of 30 test rows are in train",
        (rows("test.csv", TRAIN[:30]),),
    ),
    Mistake(
        "one class",
        "new train.csv -o n.yaml",
        0,
        "one value only: training needs a second",
        (rows("train.csv", [[text, "sport"] for text, _ in TRAIN]),),
    ),
    Mistake(
        "label only in test",
        "check s.yaml",
        3,
        "10 of 30 in test, which no model can answer correctly",
        (rows("train.csv", [row for row in TRAIN if row[1] != "money"]),),
    ),
    Mistake(
        "NaN as number",
        "check s.yaml",
        3,
        'train.csv line 6: "NaN" is not a finite number.',
        regression(
            rows("train.csv", [[t, str(i / 10)] for i, (t, _) in enumerate(TRAIN)]),
            rows("test.csv", [[f"t{i}", str(i)] for i in range(20)]),
            line("train.csv", 6, "a text,NaN"),
        ),
    ),
    Mistake(
        "empty label",
        "check s.yaml",
        3,
        "train.csv line 6: has no label.",
        (line("train.csv", 6, "a text,"),),
    ),
    Mistake(
        "decimal comma",
        "check s.yaml",
        0,
        "the study can run",
        with_model(*regression(rows("train.csv", COMMAS), rows("test.csv", COMMAS_TEST))),
    ),
    Mistake(
        "decimal comma guessed",
        "new train.csv -o n.yaml",
        0,
        "Written: n.yaml",
        (rows("train.csv", COMMAS),),
    ),
    Mistake(
        "YAML without colon",
        "plan s.yaml",
        2,
        "line 8 is no key with a colon and a space",
        (study("label: label", "label label"),),
    ),
    Mistake(
        "YAML indented wrongly",
        "plan s.yaml",
        2,
        "begins in another column",
        (study("    kind:", "  kind:"),),
    ),
    Mistake(
        "YAML bracket not closed",
        "plan s.yaml",
        2,
        "s.yaml line 10: is not valid YAML: the bracket that opens here",
        (study("models: [./m]", "models: [./m"),),
    ),
    Mistake(
        "YAML key twice",
        "plan s.yaml",
        2,
        'the key "models" is given twice',
        (study("models: [./m]", "models: [./m]\nmodels: [n]"),),
    ),
    Mistake("empty study file", "plan s.yaml", 2, "holds no settings", (write("s.yaml", ""),)),
    Mistake(
        "study file is a list",
        "plan s.yaml",
        2,
        "holds no settings",
        (write("s.yaml", "- a\n- b\n"),),
    ),
    Mistake(
        "tabs in YAML", "plan s.yaml", 2, "Indent with spaces.", (study("    kind:", "\tkind:"),)
    ),
    Mistake(
        "wrong option", "plan s.yaml", 5, "Did you mean rank?", method("{name: lora, rnak: 8}")
    ),
    Mistake(
        "wrong training key", "plan s.yaml", 2, "Did you mean epochs?", (training("epoch: 3"),)
    ),
    Mistake(
        "wrong top key", "plan s.yaml", 2, "Did you mean methods?", (study("methods:", "method:"),)
    ),
    Mistake("peft's r", "plan s.yaml", 5, "Did you mean rank?", method("{name: lora, r: 4}")),
    Mistake(
        "peft's lora_alpha",
        "plan s.yaml",
        5,
        "Did you mean alpha?",
        method("{name: lora, r: 4, lora_alpha: 8, lora_dropout: 0.1}"),
    ),
    Mistake("lorra", "plan s.yaml", 5, "Did you mean lora?", method("lorra")),
    Mistake("qlora", "plan s.yaml", 5, "take lora, and write quantisation: nf4", method("qlora")),
    Mistake("LoRA", "plan s.yaml", 5, "Did you mean lora?", method("LoRA")),
    Mistake(
        "rank as a word",
        "plan s.yaml",
        5,
        'option rank: "eight" is not a whole number.',
        method("{name: lora, rank: eight}"),
    ),
    Mistake(
        "rank as a fraction",
        "plan s.yaml",
        5,
        "option rank: 8.5 is not a whole number.",
        method("{name: lora, rank: 8.5}"),
    ),
    Mistake(
        "epochs as a word",
        "plan s.yaml",
        2,
        'training.epochs: "three" is not a whole number.',
        (training("epochs: three"),),
    ),
    Mistake(
        "negative rank",
        "plan s.yaml",
        5,
        "-4 is less than 1.",
        method("{name: lora, rank: -4}"),
    ),
    Mistake("rank 0", "plan s.yaml", 5, "0 is less than 1.", method("{name: lora, rank: 0}")),
    Mistake(
        "huge rank",
        "plan s.yaml",
        5,
        "100000 is more than 1024.",
        method("{name: lora, rank: 100000}"),
    ),
    Mistake(
        "max_length 1",
        "plan s.yaml",
        2,
        "training.max_length: 1 is less than 8.",
        (training("max_length: 1"),),
    ),
    Mistake(
        "max_length 0",
        "plan s.yaml",
        2,
        "training.max_length: 0 is less than 8.",
        (training("max_length: 0"),),
    ),
    Mistake(
        "a seed twice", "plan s.yaml", 2, "names a seed twice", (study(SEEDS, "seeds: [1, 1]"),)
    ),
    Mistake("no seeds", "plan s.yaml", 2, "at least one is needed", (study(SEEDS, "seeds: []"),)),
    Mistake(
        "seeds as a number",
        "plan s.yaml",
        2,
        "3 is not a list; write it in [brackets].",
        (study(SEEDS, "seeds: 3"),),
    ),
    Mistake(
        "unknown task", "plan s.yaml", 2, "add train: FILE", (study("    train: train.csv\n", ""),)
    ),
    Mistake(
        "unknown kind",
        "plan s.yaml",
        2,
        '"ner" is not one of classification',
        (study("kind: classification", "kind: ner"),),
    ),
    Mistake(
        "unknown metric",
        "plan s.yaml",
        2,
        "Did you mean accuracy?",
        (study("    label: label", "    label: label\n    metric: acuracy"),),
    ),
    Mistake(
        "folder missing",
        "check s.yaml",
        4,
        "no such folder",
        (study("[./m]", "[./no-such-model]"),),
    ),
    Mistake(
        "not in the hub's cache",
        "check s.yaml",
        4,
        "Fetch it with --online",
        (study("[./m]", "[EMBEDDIA/sloberta]"),),
    ),
    Mistake(
        "package missing",
        "check s.yaml",
        4,
        "pip install no-such-pkg",
        (study("[./m]", '["package:no_such_pkg"]'),),
    ),
    Mistake("no weights", "check s.yaml", 4, "has no weights", with_model(without="safetensors")),
    Mistake(
        "empty model folder",
        "check s.yaml",
        4,
        "there is no config.json",
        (lambda folder: (folder / "m").mkdir(),),
    ),
    Mistake(
        "truncated weights",
        "check s.yaml",
        4,
        "is truncated or damaged (",
        with_model(replace_weights(None)),
    ),
    Mistake(
        "garbage as weights",
        "check s.yaml",
        4,
        "does not begin as a safetensors file does",
        with_model(replace_weights(b"\xff" * 900)),
    ),
    Mistake("git lfs pointer", "check s.yaml", 4, "git lfs pull", with_model(replace_weights(LFS))),
    Mistake(
        "no tokenizer",
        "check s.yaml",
        4,
        "tokenizer.save_pretrained(FOLDER)",
        with_model(without="token"),
    ),
    # A file of the kind that must be refused unopened: this only writes it.
    Mistake(
        "pickle",
        "check s.yaml",
        4,
        "pytorch_model.bin: is truncated or damaged, or holds no weights",
        with_model(write("m/pytorch_model.bin", pickle.dumps({"a": print})), without="safetensors"),
    ),
    Mistake(
        "remote code",
        "check s.yaml",
        4,
        "paretune never runs such code",
        with_model(name_remote_code("evil")),
    ),
    Mistake(
        "remote code beside a known type",
        "check s.yaml",
        0,
        "the study can run",
        with_model(name_remote_code(None)),
    ),
    Mistake(
        "zip bomb",
        "check s.yaml",
        3,
        "unpacks to more than 1024 MiB",
        (pack_bomb("data.zip", 1100), study("train: train.csv", 'train: "data.zip::train.csv"')),
    ),
    Mistake(
        "task name with slashes",
        "plan s.yaml",
        2,
        "is no name",
        (study("name: t", "name: ../../t"),),
    ),
    Mistake(
        "label of a method with slashes",
        "plan s.yaml",
        2,
        "give it another label",
        method('{name: lora, label: "../../x"}'),
    ),
    Mistake(
        "escape sequence in a label",
        "check s.yaml",
        0,
        "\ufffd]0;owned",
        with_model(labelled('sport, food, money, "\\e]0;owned\\a"')),
    ),
    Mistake(
        "escape sequence in a cell",
        "check s.yaml",
        3,
        "\ufffd]0;owned",
        (line("train.csv", 9, f"x,{ESCAPE}"),),
    ),
    Mistake("export to /", "export s.yaml --output /", 6, "no store of studies is here"),
    Mistake(
        "long labels",
        "new train.csv -o n.yaml",
        0,
        "Written: n.yaml",
        (rows("train.csv", LONG_QUOTED),),
    ),
    Mistake(
        "long labels, named",
        "new train.csv -o n.yaml --label label --text text",
        0,
        "Written: n.yaml",
        (rows("train.csv", LONG_QUOTED),),
    ),
    Mistake(
        "one row",
        "new train.csv -o n.yaml --label label --text text",
        0,
        "Written: n.yaml",
        (rows("train.csv", TRAIN[:1]),),
    ),
    Mistake(
        "one test row",
        "check s.yaml",
        3,
        "at least 5 are needed",
        (rows("test.csv", [["t", "food"]]),),
    ),
    Mistake(
        "1,000 classes",
        "new train.csv -o n.yaml --label label --text text",
        0,
        "Written: n.yaml",
        (rows("train.csv", [[f"row {i}", f"class {i % 1000}"] for i in range(2000)]),),
    ),
    Mistake(
        "batch larger than train",
        "check s.yaml",
        0,
        "the study can run",
        with_model(training("epochs: 1, batch_size: 4096, max_length: 32")),
    ),
    Mistake(
        "batch of 0",
        "plan s.yaml",
        2,
        "training.batch_size: 0 is less than 1.",
        (training("batch_size: 0"),),
    ),
    Mistake("no study", "run", 2, "Missing argument 'STUDY'"),
    Mistake("run of a data file", "run train.csv", 2, "paretune new train.csv"),
    Mistake(
        "HTML in texts",
        "new train.csv -o n.yaml",
        0,
        "Written: n.yaml",
        (line("train.csv", 7, "<script>alert(1)</script> here,sport"),),
    ),
    Mistake("report before a run", "report s.yaml", 6, "paretune run STUDY.yaml creates one"),
    Mistake(
        "damaged database",
        "report s.yaml",
        6,
        "Restore study.db from a copy",
        (write("studies/s/study.db", b"garbage" * 99),),
    ),
    Mistake("device that is not there", "plan s.yaml --devices gpu", 2, "invalid device"),
    Mistake(
        "budget 4 GB", "recommend s.yaml --max-memory '4 GB'", 6, "no store of studies is here"
    ),
    Mistake(
        "budget 4,5GB", "recommend s.yaml --max-memory 4,5GB", 6, "no store of studies is here"
    ),
    Mistake(
        "budget 1 TB", "recommend s.yaml --max-memory '1 TB'", 6, "no store of studies is here"
    ),
    Mistake("budget abc", "recommend s.yaml --max-memory abc", 2, "expected e.g. 4GiB"),
    Mistake("budget -1GB", "recommend s.yaml --max-memory -1GB", 2, "expected e.g. 4GiB"),
    Mistake("budget 0", "recommend s.yaml --max-memory 0", 2, "has no unit"),
    Mistake("budget 4", "recommend s.yaml --max-memory 4", 2, "has no unit"),
    Mistake(
        "budget 4 gigabytes",
        "recommend s.yaml --max-memory '4 gigabytes'",
        6,
        "no store of studies is here",
    ),
    Mistake(
        "budget 1 hour", "recommend s.yaml --max-time '1 hour'", 6, "no store of studies is here"
    ),
    Mistake("budget 10", "recommend s.yaml --max-time 10", 2, "has no unit"),
    Mistake("verb with a typo", "reprot s.yaml", 2, "Did you mean 'report'"),
    Mistake("option with a typo", "run s.yaml --wokers 2", 2, "--workers"),
    Mistake("setting with a typo", "plan s.yaml training.epoch=3", 2, "Did you mean epochs?"),
    Mistake(
        "Excel workbook",
        "new train.xlsx",
        3,
        "save as CSV UTF-8",
        (write("train.xlsx", b"PK\x03\x04rest"),),
    ),
)


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """Work in a folder for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def answer(mistake: Mistake) -> tuple[int, str, list[str]]:
    """The exit code, the whole answer, and the lines of it that matter: errors, else the last."""
    from paretune.cli import main

    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as name, in_folder(Path(name)):
        folder = Path(name)
        write_rows(folder / "train.csv", TRAIN)
        write_rows(folder / "test.csv", make_rows(30, "test"))
        (folder / "s.yaml").write_text(STUDY, encoding="utf-8")
        for edit in mistake.edits:
            edit(folder)
        code = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(shlex.split(mistake.command))
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
    text = f"{out.getvalue()}{err.getvalue()}".replace(name, "FOLDER").strip()
    lines = text.splitlines() or [""]
    telling = [one for one in lines if "error:" in one or "ERROR" in one]
    return code, text, telling or lines[-1:]


def find_fault(mistake: Mistake, code: int, text: str) -> str:
    """What is wrong with an answer; empty where it is right."""
    if code != mistake.exit_code:
        return f"exit {mistake.exit_code} is expected"
    if "Traceback" in text:
        return "a traceback"
    if any(not (c.isprintable() or c == "\n") for c in text):
        return "characters that a terminal obeys"
    return "" if mistake.words in text else f"does not say {mistake.words!r}"


def main() -> int:
    """Print the table; the number of faults, at most 1."""
    faults = 0
    print("| mistake | command | exit | answer |\n|---|---|---|---|")
    for mistake in MISTAKES:
        if sys.argv[1:] and mistake.name not in sys.argv[1:]:
            continue
        code, text, lines = answer(mistake)
        fault = find_fault(mistake, code, text)
        faults += bool(fault)
        brief = " / ".join(one.strip() for one in lines[:3]).replace("|", "/")[:300]
        mark = f" **{fault}**" if fault else ""
        print(f"| {mistake.name} | `{mistake.command}` | {code} | {brief}{mark} |", flush=True)
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
