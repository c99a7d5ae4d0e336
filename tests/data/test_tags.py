"""Words and tags of files: lines and lists, schemes, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paretune.data.audit import audit
from paretune.data.example import Dataset
from paretune.data.finding import InvalidValueError
from paretune.data.tags import find_scheme, parse_conll, to_iob2
from paretune.errors import ParetuneError
from paretune.study import TaskSpec
from paretune.tasks import load_dataset

CONLLU = """# newdoc id = d1
# sent_id = s1
# text = Ana bere.
1\tAna\tana\tPROPN\tNpfsn\t_\t2\tnsubj\t_\tNER=B-per
2-3\tbereno\t_\t_\t_\t_\t_\t_\t_\t_
2\tbere\tbrati\tVERB\tVm\t_\t0\troot\t_\tSpaceAfter=No
3\t.\t.\tPUNCT\tZ\t_\t2\tpunct\t_\t_

# newdoc id = d2
1\t20 000\t20\tNUM\tM\t_\t0\troot\t_\t_

"""


def test_conllu_has_words_fields_names_and_documents() -> None:
    first, second = parse_conll(CONLLU, "x.conllu")
    assert first.where == "x.conllu line 4" and second.where == "x.conllu line 10"
    assert first.values["form"] == ["Ana", "bere", "."]
    assert first.values["upos"] == ["PROPN", "VERB", "PUNCT"]
    assert first.values["ner"] == ["B-per", "O", "O"]
    assert (first.values["document"], first.values["sent_id"]) == ("d1", "s1")
    assert second.values["document"] == "d2" and "feats" not in second.values


def test_conll_has_columns_and_documents() -> None:
    text = "-DOCSTART- -X- O O\r\n\r\nEU NNP B-NP B-ORG\r\n# IN O O\r\n\r\n# remark\nHe PRP B-NP O"
    first, second = parse_conll(text, "x.txt")
    values = {"tokens": ["EU", "#"], "column_2": ["NNP", "IN"], "column_3": ["B-NP", "O"]}
    assert first.values == {**values, "tags": ["B-ORG", "O"], "document": "1"}
    assert (second.where, second.values["tokens"]) == ("x.txt line 7", ["He"])
    for wrong, line in (("a b\nc", 2), ("1" + "\ta" * 9 + "\n3" + "\ta" * 9, 2)):
        with pytest.raises(ParetuneError, match=f"x line {line}"):
            parse_conll(wrong, "x")


@pytest.mark.parametrize(
    ("tags", "scheme", "iob2"),
    [
        ("B-X I-X O B-X", "IOB2", "B-X I-X O B-X"),
        ("I-X I-X B-X O I-Y", "IOB1", "B-X I-X B-X O B-Y"),
        ("B-X I-X E-X S-Y O", "BIOES", "B-X I-X I-X B-Y O"),
        ("B-X L-X U-Y O", "BILOU", "B-X I-X B-Y O"),
        ("B-X O I-X", "IOB2", 'tag "I-X" of word 3, "I-X", contradicts IOB2 between "O" and "O"'),
        ("B-X I-Y", "IOB2", 'between "B-X" and "O", where "B-Y"'),
        ("B-X I-X X", "IOB2", '"X" of word 3, "X", contradicts IOB2'),
        ("I-X I-X O I-Y O B-Y", "IOB1", 'between "O" and "O", where "I-Y"'),
        ("B-X O S-X", "BIOES", 'between "O" and "O", where "S-X"'),
        ("B-X I-X O U-X", "BILOU", 'between "B-X" and "O", where "L-X"'),
    ],
)
def test_a_scheme_is_told_and_converted_or_contradicted(tags: str, scheme: Any, iob2: str) -> None:
    assert find_scheme([tags.split()]) == scheme
    try:
        converted = to_iob2(tags.split(), tags.split(), scheme)
    except InvalidValueError as error:
        assert iob2 in str(error) and error.remedy
    else:
        assert converted == iob2.split()


ROW = {"tokens": ["Ana", "lives", "in", "Celje"], "tags": ["B-PER", "O", "O", "B-LOC"]}


def load(folder: Path, *rows: dict[str, Any], **changes: Any) -> Dataset:
    lines = (json.dumps(row, ensure_ascii=False) for row in (*[ROW] * 3, *rows))
    (folder / "x.jsonl").write_text("\n".join(lines), encoding="utf-8")
    keys = {"name": "x", "kind": "token_classification", "text": "tokens", "label": "tags"}
    return load_dataset(TaskSpec(**{**keys, "train": str(folder / "x.jsonl"), **changes}))


@pytest.mark.parametrize(
    ("row", "changes", "what"),
    [
        ({"tags": ["O"]}, {}, '4 words in "tokens" and 1 tags in "tags"'),
        ({"tags": ["I-PER", "O", "O", "O"]}, {}, '"I-PER" of word 1, "Ana", contradicts IOB2'),
        ({"tokens": ["a", " ", "b", "c"]}, {}, "has an empty word"),
        ({"tags": ["B PER", "O", "O", "O"]}, {}, "holds a blank"),
        ({"tags": None}, {}, "1 of 4 rows has no label"),
        ({"tags": ["B-X", "O", "O", "O"]}, {"labels": ("O", "B-PER", "B-LOC")}, "is not one of O"),
    ],
)
def test_a_bad_row_is_named_with_its_line(
    row: Any, changes: Any, what: str, tmp_path: Path
) -> None:
    with pytest.raises(ParetuneError) as refused:
        load(tmp_path, {**ROW, **row}, **changes)
    assert what in str(refused.value) and "line 4" in str(refused.value)


def test_a_tag_of_test_alone_and_other_tags_of_equal_words_are_found(tmp_path: Path) -> None:
    test = tmp_path / "test.conll"
    test.write_text("Ana\tB-PER\nlives\tO\nin\tO\nCelje\tB-ORG\n\n")
    kinds = {finding.code: finding for finding in audit(load(tmp_path, test=str(test)))}
    assert kinds["missing-class"].severity == "error"
    assert 'label "B-ORG" has no row in train and 1 of 1 in test' in kinds["missing-class"].what
    assert kinds["contradiction"].where == "test.conll line 1"
