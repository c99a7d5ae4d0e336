"""A dataset that travels is the same dataset, whatever it was built from."""

from __future__ import annotations

from pathlib import Path

import pytest

from paretune.data.packed_dataset import ENDING, pack_dataset, read_packed_dataset
from paretune.errors import DataError
from paretune.study import TaskSpec
from paretune.tasks import load_dataset

SHIPPED = [
    {"name": "routing", "language": "sl"},
    {"name": "follows"},
    {"name": "paraphrase", "readout": "label_words"},
]


@pytest.mark.parametrize("values", SHIPPED, ids=lambda values: str(values["name"]))
def test_a_task_of_paretune(values: dict[str, str], tmp_path: Path) -> None:
    spec = TaskSpec.model_validate(values)
    assert_travels(spec, tmp_path)


def test_a_table_with_numbers_and_gaps(tmp_path: Path) -> None:
    rows = [f"{i},{'' if i % 3 else i / 7},{'a,b' if i % 2 else 'č'!r},{i * 1.5}" for i in range(9)]
    for name in ("train", "test"):
        text = "\n".join(["rooms,size,kind,price", *(r.replace("'", '"') for r in rows)])
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    values = {
        "name": "houses",
        "kind": "regression",
        "train": str(tmp_path / "train.csv"),
        "test": str(tmp_path / "test.csv"),
        "features": ["rooms", "size", "kind"],
        "template": "{rooms} rooms, {size}, {kind}",
        "label": "price",
    }
    assert_travels(TaskSpec.model_validate(values), tmp_path)


def test_pairs_of_languages(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for language in ("sl", "en"):
            lines = "\n".join(f"{part} {language} {i}" for i in range(6))
            (tmp_path / f"{part}.{language}").write_text(lines, encoding="utf-8")
    values = {
        "name": "words",
        "kind": "translation",
        "train": str(tmp_path / "train"),
        "test": str(tmp_path / "test"),
        "source_lang": "sl",
        "target_lang": "en",
    }
    assert_travels(TaskSpec.model_validate(values), tmp_path)


def assert_travels(spec: TaskSpec, folder: Path) -> None:
    dataset = load_dataset(spec)
    file = folder / f"packed{ENDING}"
    file.write_bytes(pack_dataset(dataset))
    packed = spec.model_copy(update={"source": str(file)})
    # As a store has it, whose runs are read again.
    arrived = load_dataset(TaskSpec.model_validate_json(packed.model_dump_json()))
    assert arrived == dataset
    assert arrived.content_hash == dataset.content_hash
    assert pack_dataset(arrived) == file.read_bytes()


def test_one_that_is_damaged_is_refused(tmp_path: Path) -> None:
    file = tmp_path / f"packed{ENDING}"
    whole = pack_dataset(load_dataset(TaskSpec(name="follows")))
    for content in (b"", whole[: len(whole) // 2], b"no gzip"):
        file.write_bytes(content)
        with pytest.raises(DataError, match="the packed dataset cannot be read"):
            read_packed_dataset(file)
