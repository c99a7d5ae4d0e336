"""Rows of answers, from files, tables in memory, lm-evaluation-harness and ``Trainer.predict``.

A row is one answer: ``method``, ``id``, and ``label`` with ``prediction``, or a ``score`` that was
computed elsewhere. :data:`OPTIONAL` may stand beside them; what else a row has is not read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paretune.data.finding import Finding
from paretune.data.rows import EXTENSIONS, Row, read_rows
from paretune.errors import DataError
from paretune.files import expand_home
from paretune.study.data_frame import as_arrow_table, is_data_frame

OPTIONAL = ("seed", "fold", "model", "task", "cluster", "split", "seconds", "peak_bytes")
COLUMNS = ("method", "id", "label", "prediction", "score", *OPTIONAL)
_SAMPLES = re.compile(r"samples_(?P<task>.+?)(?:_\d{4}-\d\d-\d\dT[\d.:-]+)?\.jsonl")
"""The name of a file of lm-evaluation-harness with the answers to a task."""
_ANSWER = ("doc_id", "target", "filter")
"""Fields of an answer that may be numbers and are no scores."""
_SEED = re.compile(r"[-_.]?seed[-_=]?(\d+)$")


def read_sources(source: Any, metric: str | None = None) -> tuple[list[Row], list[Finding]]:
    """All rows of files, folders, tables and outputs, and what was supposed while reading.

    Args:
        source: a path, a table, outputs of ``Trainer.predict`` by method, or several paths or
            tables.
        metric: of lm-evaluation-harness, which of its scores counts.

    Raises:
        DataError: one is missing, empty, unreadable, or of no known kind.
    """
    findings: list[Finding] = []
    rows: list[Row] = []
    if isinstance(source, Mapping):  # outputs by method: one, or one for each seed
        for method, of_method in source.items():
            several = isinstance(of_method, list | tuple) and not hasattr(of_method, "label_ids")
            for seed, output in enumerate(of_method if several else [of_method]):
                for number, (label, answer) in enumerate(read_output(output, str(method)), 1):
                    values = {"method": method, "seed": seed, "id": number}
                    values |= {"label": label, "prediction": answer}
                    rows.append(Row(values, f"{method} {number}"))
        return rows, findings
    several = isinstance(source, Sequence) and not isinstance(source, str)
    for part in source if several else [source]:
        if is_data_frame(part):
            values = as_arrow_table(part).to_pylist()
            rows += [Row(row, f"table row {number}") for number, row in enumerate(values, 1)]
        elif isinstance(part, str | Path):
            for path in _list_files(Path(part)):
                if _SAMPLES.fullmatch(path.name):
                    samples, finding = _read_samples(path, metric)
                    rows += samples
                    if finding.what not in [earlier.what for earlier in findings]:
                        findings.append(finding)
                else:
                    rows += read_rows(path)
        else:
            raise DataError(
                f"a {type(part).__name__} holds no answers that are known.",
                remedy="Give files, folders or tables, or {METHOD: Trainer.predict(...)}.",
            )
    if not rows:
        raise DataError("there is no row to judge.", remedy="Give files with one answer a row.")
    return rows, findings


def _list_files(path: Path) -> list[Path]:
    """The file, or those of a folder that are read, hidden ones left out."""
    path = expand_home(path)
    if path.is_dir():
        inside = [file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file()]
        seen = [file for file in inside if not any(part.startswith(".") for part in file.parts)]
        files = [path / file for file in seen if file.suffix.lower() in EXTENSIONS]
        if not files:
            _refuse_scores_of_runs(sorted(path.rglob("*.json")))
            ends = ", ".join(EXTENSIONS)
            raise DataError(f"holds no file that ends with {ends}.", where=str(path))
        return files
    if not path.exists():
        raise DataError("no such file or folder.", where=str(path))
    _refuse_scores_of_runs([path] if path.suffix.lower() == ".json" else [])
    return [path]


def _refuse_scores_of_runs(paths: Iterable[Path]) -> None:
    """Refuse files of peft's ``method_comparison``, with why nothing can be decided by them."""
    for path in paths:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # whatever it is, it is none of these
        if isinstance(content, dict) and {"run_info", "train_info"} <= content.keys():
            raise DataError(
                "is a result of peft's method_comparison: one accuracy of one run, without the "
                "answers to single examples, so how far two of them differ by chance is not known.",
                where=str(path),
                remedy="Train each with several seeds, and write a row for each answer: method, "
                "seed, id, label, prediction.",
            )


def _read_samples(path: Path, metric: str | None) -> tuple[list[Row], Finding]:
    """The scores of ``samples_TASK_TIME.jsonl`` in the folder of a model, and which they are.

    A number behind ``seed`` at the end of the folder's name is the seed. Answers that are filtered
    in several ways are a task for each filter.
    """
    samples = read_rows(path)
    task = str(_SAMPLES.fullmatch(path.name)["task"])  # type: ignore[index]
    model = path.resolve().parent.name.split("__")[-1]
    method = _SEED.sub("", model) or model
    seed = _SEED.search(model)
    first = samples[0].values
    listed = first.get("metrics")  # versions up to 0.4.3 list none
    named = listed if isinstance(listed, list) else [name for name in first if name not in _ANSWER]
    names = [str(name) for name in named if isinstance(first.get(str(name)), int | float)]
    if not names or (metric is not None and metric not in names):
        raise DataError(
            f'has no score "{metric}" of each row.' if metric else "has no score of each row.",
            where=str(path),
            remedy=f"It has {', '.join(names)}."
            if names
            else "Run `lm_eval --log_samples` with a metric of single answers, such as acc.",
        )
    name = metric or names[0]
    filters = Counter(sample.values.get("filter") for sample in samples)
    rows = []
    for sample in samples:
        values: dict[str, object] = {
            "method": method,
            "id": sample.values.get("doc_id"),
            "score": sample.values.get(name),
            "task": f"{task} {sample.values['filter']}" if len(filters) > 1 else task,
        }
        if seed is not None:
            values["seed"] = seed[1]
        rows.append(Row(values, sample.where))
    left = f" It also has {', '.join(names)}: name one as metric." if len(names) > 1 else ""
    what = f"of each row {name} is the score, as lm-evaluation-harness computed it."
    return rows, Finding("note", "score-read", str(path), what, left.strip())


def read_output(output: Any, where: str = "") -> list[tuple[Any, Any]]:
    """The labels and answers of a ``PredictionOutput``: the largest logit, or the number.

    Raises:
        DataError: it has no labels, or answers of another shape.
    """
    scores = getattr(output, "predictions", None)
    scores = np.asarray(scores[0] if isinstance(scores, tuple) else scores)
    labels = np.asarray(getattr(output, "label_ids", None))
    if scores.ndim not in (1, 2) or labels.ndim != 1 or len(labels) != len(scores):
        raise DataError(
            f"has answers of shape {scores.shape} and labels of shape {labels.shape}.",
            where=where,
            remedy="Give the output of Trainer.predict on rows with one label each.",
        )
    if scores.ndim == 2:
        scores = scores[:, 0] if scores.shape[1] == 1 else scores.argmax(axis=1)
    return list(zip(labels.tolist(), scores.tolist(), strict=True))
