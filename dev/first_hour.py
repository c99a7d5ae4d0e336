"""Mistakes that new users make, run again: ``python dev/first_hour.py [NAME ...]``.

``dev/first_hour.yaml`` lists them. What is answered is printed as a table (Markdown); where the
exit code is another than the listed one, or the answer lacks the listed words, the line says so,
and the script ends with 1. Needs no network; nothing is trained.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import shlex
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

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
TRAIN, TEST = (
    [(f"{part} row {i} is about {LABELS[i % 3]} and thing {i * 7}", LABELS[i % 3]) for i in count]
    for part, count in (("train", range(90)), ("test", range(30)))
)
TABLES: dict[str, list[tuple[str, str]]] = {
    "leak": TRAIN[:30],
    "one class": [(text, "sport") for text, _ in TRAIN],
    "two classes": [row for row in TRAIN if row[1] != "money"],
    "numbers": [(text, str(i / 10)) for i, (text, _) in enumerate(TRAIN)],
    "test numbers": [(f"t{i}", str(i)) for i in range(20)],
    "decimal commas": [(text, f'"{i},5"') for i, (text, _) in enumerate(TRAIN)],
    "test decimal commas": [(f"t{i}", f'"{i},5"') for i in range(20)],
    "long labels": [
        (f"row {i} with words {i * 3}", f'"a label of many words, number {i % 3}, {"x" * 60}"')
        for i in range(60)
    ],
    "one row": TRAIN[:1],
    "one test row": [("t", "food")],
    "1,000 classes": [(f"row {i}", f"class {i % 1000}") for i in range(2000)],
}
WEIGHTS = {
    "garbage": b"\xff" * 900,
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n",
}
NOT_EDITS = ("mistake", "command", "exit", "answer")


@cache
def make_model() -> Path:
    """A tiny model, for all mistakes."""
    from paretune.testing.tiny_models import tiny_model

    return tiny_model("bert", Path(tempfile.mkdtemp(prefix="first-hour-")))


def link_model(without: bool | str) -> None:
    """A tiny model as ``m``; a text: files that have it in their names are left out."""
    for file in make_model().iterdir():
        if without is True or str(without) not in file.name:
            write(f"m/{file.name}", file.read_bytes())


def write(name: str, content: str | bytes) -> None:
    """Write a file."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


def write_rows(name: str, table: list[tuple[str, str]]) -> None:
    """Write a CSV file."""
    write(name, "".join(f"{text},{label}\n" for text, label in [("text", "label"), *table]))


def edit_study(before: str, after: str) -> None:
    """Replace a part of the study file."""
    text = Path("s.yaml").read_text(encoding="utf-8")
    if before not in text:
        raise ValueError(f"{before!r} is not in the study file")
    write("s.yaml", text.replace(before, after, 1))


def replace_line(name: str, number: int, text: str) -> None:
    """Replace one line of a file, counted from 1; ``HUGE`` is a cell of 200 kB."""
    lines = Path(name).read_text(encoding="utf-8").splitlines()
    lines[number - 1] = text.replace("HUGE", "word " * 40_000)
    write(name, "\n".join(lines) + "\n")


def recode(name: str, encoding: str, end: str = "\n") -> None:
    """Write a file in another encoding, or with other ends of lines."""
    write(name, Path(name).read_text(encoding="utf-8").replace("\n", end).encode(encoding))


def replace_weights(kind: str) -> None:
    """Other bytes in the place of the model's weights, or the first half of them."""
    whole = Path("m/model.safetensors").read_bytes()
    write("m/model.safetensors", WEIGHTS.get(kind, whole[: len(whole) // 2]))


def name_remote_code(model_type: str) -> None:
    """A config of this type that asks for code of its own."""
    config = json.loads(Path("m/config.json").read_text(encoding="utf-8"))
    config |= {"auto_map": {"AutoModel": "evil.Evil"}, "model_type": model_type}
    write("m/config.json", json.dumps(config))


def pack_bomb(name: str, mebibytes: int) -> None:
    """Write a zip file with one table that unpacks to so much."""
    with (
        zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("train.csv", "w", force_zip64=True) as member,
    ):
        member.write(b"text,label\n")
        for _ in range(mebibytes):
            member.write(b"a" * 2**20)


EDITS: dict[str, Callable[..., None]] = {
    "model": link_model,
    "folder": lambda name: Path(name).mkdir(),
    "write": write,
    "rows": lambda name, table: write_rows(name, TABLES[table]),
    "study": edit_study,
    "line": replace_line,
    "recode": recode,
    "weights": replace_weights,
    "remote_code": name_remote_code,
    "bomb": pack_bomb,
    # A file of the kind that must be refused unopened: this only writes it.
    "pickle": lambda name: write(name, pickle.dumps({"a": print})),
}
"""In this order: what is edited must be there."""


def answer(mistake: Mapping[str, Any]) -> tuple[int, str, list[str]]:
    """The exit code, the whole answer, and the lines of it that matter: errors, else the last."""
    from paretune.cli import main

    unknown = mistake.keys() - EDITS.keys() - set(NOT_EDITS)
    if unknown:
        raise ValueError(f"{mistake['mistake']}: {', '.join(unknown)} is no edit")
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_rows("train.csv", TRAIN)
        write_rows("test.csv", TEST)
        write("s.yaml", STUDY)
        for name, edit in EDITS.items():
            value = mistake.get(name)
            if value is not None and not isinstance(value, list):
                edit(value)
            for arguments in value if isinstance(value, list) else ():
                edit(*arguments)
        code = 0
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                main(shlex.split(mistake["command"]))
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
    text = printed.getvalue().replace(folder, "FOLDER").strip()
    lines = text.splitlines() or [""]
    return code, text, [x for x in lines if "error:" in x or "ERROR" in x] or lines[-1:]


def find_fault(mistake: Mapping[str, Any], code: int, text: str) -> str:
    """What is wrong with an answer; empty where it is right."""
    if code != mistake["exit"]:
        return f"exit {mistake['exit']} is expected"
    if "Traceback" in text:
        return "a traceback"
    if any(not (c.isprintable() or c == "\n") for c in text):
        return "characters that a terminal obeys"
    return "" if mistake["answer"] in text else f"does not say {mistake['answer']!r}"


def main() -> int:
    """Print the table; the number of faults, at most 1."""
    faults = 0
    print("| mistake | command | exit | answer |\n|---|---|---|---|")
    listed = YAML(typ="safe").load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    for mistake in listed:
        name = mistake["mistake"]
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        code, text, lines = answer(mistake)
        fault = find_fault(mistake, code, text)
        faults += bool(fault)
        brief = " / ".join(line.strip() for line in lines[:3]).replace("|", "/")[:300]
        mark = f" **{fault}**" if fault else ""
        print(f"| {name} | `{mistake['command']}` | {code} | {brief}{mark} |", flush=True)
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
