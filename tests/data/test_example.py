"""A dataset that travels as one file is the same dataset, whatever it was built from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretune.data.example import PACKED_ENDING, pack_dataset, read_packed_dataset
from paretune.errors import DataError
from paretune.study import TaskSpec
from paretune.tasks import load_dataset

TABLE = {
    "name": "houses",
    "kind": "regression",
    "features": ["rooms", "size", "kind"],
    "template": "{rooms} rooms, {size}, {kind}",
    "label": "price",
}


@pytest.mark.parametrize(
    "values",
    [
        {"name": "follows"},
        {"name": "paraphrase", "language": "sl", "readout": "label_words"},
        {"name": "manual", "source_lang": "sl", "target_lang": "en"},
        TABLE,
    ],
    ids=lambda values: str(values["name"]),
)
def test_a_packed_dataset_is_the_same(values: dict[str, Any], tmp_path: Path) -> None:
    if values is TABLE:
        rows = [
            f"{i},{'' if i % 3 else i / 7},{'a-b' if i % 2 else 'č'},{i * 1.5}" for i in range(9)
        ]
        train = tmp_path / "train.csv"
        train.write_text("\n".join(["rooms,size,kind,price", *rows]), encoding="utf-8")
        values = {**values, "train": str(train), "test": str(train)}
    spec = TaskSpec.model_validate(values)
    dataset = load_dataset(spec)
    file = tmp_path / f"packed{PACKED_ENDING}"
    file.write_bytes(pack_dataset(dataset))
    packed = spec.model_copy(update={"source": str(file)})
    # As a store has it, whose runs are read again.
    arrived = load_dataset(TaskSpec.model_validate_json(packed.model_dump_json()))
    assert arrived == dataset
    assert arrived.content_hash == dataset.content_hash
    assert pack_dataset(arrived) == file.read_bytes()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / f"packed{PACKED_ENDING}"
    whole = pack_dataset(load_dataset(TaskSpec(name="follows")))
    for content in (b"", whole[: len(whole) // 2], b"no gzip"):
        file.write_bytes(content)
        with pytest.raises(DataError, match="the packed dataset cannot be read"):
            read_packed_dataset(file)
