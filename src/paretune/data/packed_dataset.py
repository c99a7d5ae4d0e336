"""A dataset as one file: its examples as they were built, whatever they were built from.

So a machine that has none of a study's files can train on them: the content hash, which is part of
every run's identity, is the same.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from paretune.data.example import Dataset, Example
from paretune.data.finding import Finding
from paretune.data.prompt import Prompt
from paretune.errors import DataError

ENDING = ".dataset.json.gz"
_EXAMPLES: TypeAdapter[tuple[Example, ...]] = TypeAdapter(tuple[Example, ...])
_FINDINGS: TypeAdapter[tuple[Finding, ...]] = TypeAdapter(tuple[Finding, ...])
_PROMPT: TypeAdapter[Prompt | None] = TypeAdapter(Prompt | None)
_PARTS = ("train", "test", "shifted", "unlabelled")
_TEXTS = ("labels", "features", "languages")


def is_packed(source: str | None) -> bool:
    """Whether a task's ``source`` is such a file."""
    return source is not None and source.endswith(ENDING)


def pack_dataset(dataset: Dataset) -> bytes:
    """The content of the file; the same bytes for the same dataset."""
    text = json.dumps(asdict(dataset), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def read_packed_dataset(file: Path) -> Dataset:
    """The dataset of a file.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return dataset_from_values(json.loads(gzip.decompress(file.read_bytes())))
    except (OSError, EOFError, ValueError, KeyError, TypeError, ValidationError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(
            f"the packed dataset cannot be read ({reason}).",
            where=str(file),
            remedy="The same command sends it anew.",
        ) from error


def dataset_from_values(values: dict[str, Any]) -> Dataset:
    """The dataset of what ``asdict`` made of it, as JSON gives it back.

    Raises:
        ValueError, KeyError, TypeError: these are not a dataset's values.
    """
    values = dict(values)
    values.update({part: _EXAMPLES.validate_python(values[part]) for part in _PARTS})
    values.update({name: tuple(values[name]) for name in _TEXTS})
    values["findings"] = _FINDINGS.validate_python(values["findings"])
    values["prompt"] = _PROMPT.validate_python(values["prompt"])
    return Dataset(**{field.name: values[field.name] for field in fields(Dataset)})
