"""Logs of single samples, as lm-evaluation-harness, Inspect and EuroEval write them.

None of them is imported.

**lm-evaluation-harness** (``--log_samples``): ``samples_TASK_DATE.jsonl``, one line for each sample
and filter, with ``doc_id``, ``doc_hash``, ``filter`` and each metric under its own name.

**Inspect**: one ``.json``, or an ``.eval``, which is a zip with a JSON for each sample. A score is
a number, or a letter: C (correct), I (incorrect), P (partially correct) or N (no answer).

**EuroEval** (``--debug``): ``MODEL-DATASET-model-outputs.json``, outputs by the hash of their
prompt, each with ``index``, ``label`` and ``predicted_label`` where the data set has labels. A row
that was answered in several iterations, with other shots, counts once. Its results file holds means
alone.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretune.errors import DataError

MAX_MEMBER_BYTES = 2**30
"""A member of a zip that promises more is refused."""
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""Values of Inspect's ``value_to_float``."""
_REMEDY = (
    "Give a samples_*.jsonl of lm-evaluation-harness (--log_samples), a log of Inspect (.json or "
    ".eval), or *-model-outputs.json of EuroEval (--debug)."
)


@dataclass(frozen=True)
class SampleLog:
    """The scores of one evaluation, sample by sample.

    Attributes:
        name: of the log among those that are compared.
        scores: by metric, the score of each sample, higher is better; the mean where a sample was
            answered several times.
        texts: hash of each sample's text, where the log has it.
        filters: ways of reading an answer that the log has scores of; of one, ``scores`` are.
        chosen_filter: which one; empty where there is none.
    """

    name: str
    scores: Mapping[str, Mapping[str, float]]
    texts: Mapping[str, str]
    filters: tuple[str, ...] = ()
    chosen_filter: str = ""


@dataclass(frozen=True)
class _Sample:
    id: str
    scores: Mapping[str, float]
    text: str = ""
    filter: str = ""


def read_logs(paths: Iterable[Path], filter_name: str | None = None) -> list[SampleLog]:
    """Read logs, each under a name that tells it from the others.

    Args:
        paths: of the logs.
        filter_name: of lm-evaluation-harness, which way of reading an answer is meant; None: the
            first of each log.

    Raises:
        DataError: a file that cannot be read, is no such log, or has no such filter.
    """
    paths = list(paths)
    names = _distinct_names(paths)
    return [_read_log(path, names[path], filter_name) for path in paths]


def _read_log(path: Path, name: str, filter_name: str | None) -> SampleLog:
    where = str(path)
    try:
        samples = list(_read_samples(path))
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror or error}).", where=where, remedy=_REMEDY
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile) as error:
        raise DataError(f"is no sample log: {error}.", where=where, remedy=_REMEDY) from None
    filters = tuple(dict.fromkeys(sample.filter for sample in samples))
    chosen = (filters or ("",))[0] if filter_name is None else filter_name
    if samples and chosen not in filters:
        known = ", ".join(filter(None, filters)) or "none"
        raise DataError(f'has no filter "{chosen}".', where=where, remedy=f"Its filters: {known}.")
    chosen_samples = [sample for sample in samples if sample.filter == chosen]
    metrics = dict.fromkeys(metric for sample in chosen_samples for metric in sample.scores)
    scores = {metric: _mean_scores(chosen_samples, metric) for metric in metrics}
    # A metric that only some samples have is none of the whole log.
    whole = max(map(len, scores.values()), default=0)
    scores = {metric: values for metric, values in scores.items() if len(values) == whole}
    if not scores:
        raise DataError("has no scores of samples.", where=where, remedy=_REMEDY)
    texts = {sample.id: sample.text for sample in chosen_samples if sample.text}
    return SampleLog(name, scores, texts, filters, chosen)


def _mean_scores(samples: Iterable[_Sample], metric: str) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for sample in samples:
        if metric in sample.scores:
            values.setdefault(sample.id, []).append(sample.scores[metric])
    return {sample_id: math.fsum(own) / len(own) for sample_id, own in values.items()}


def _read_samples(path: Path) -> Iterator[_Sample]:
    if path.suffix == ".eval":
        yield from _read_inspect_zip(path)
        return
    with path.open(encoding="utf-8") as file:
        first = file.readline()
        if first.strip().startswith("{") and _is_json_object(first):
            log = json.loads(first)
            if "doc_id" in log:
                yield _read_harness_sample(log)
                for line in file:
                    if line.strip():
                        yield _read_harness_sample(json.loads(line))
                return
            if file.read().strip():
                raise ValueError("its lines have no doc_id")
        else:
            log = json.loads(first + file.read())
    if _is_euroeval(log):
        yield from (_read_euroeval_output(output) for output in log.values())
        return
    if not isinstance(log, dict) or not isinstance(log.get("samples"), list):
        raise ValueError("it has neither lines with a doc_id nor samples")
    for sample in log["samples"]:
        yield _read_inspect_sample(sample)


def _is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


_NO_METRICS = ("doc_id", "target", "filter", "doc_hash", "prompt_hash", "target_hash")


def _read_harness_sample(line: Mapping[str, Any]) -> _Sample:
    """One line. Newer versions name the metrics; older ones have them among the other keys."""
    named = line.get("metrics")
    names = named if isinstance(named, list) else [n for n in line if n not in _NO_METRICS]
    scores = {str(n): score for n in names if (score := _as_score(line.get(n))) is not None}
    text, chosen = (
        str(line.get("doc_hash") or ""),
        str(line.get("filter") or "").replace("none", ""),
    )
    return _Sample(str(line["doc_id"]), scores, text, chosen)


def _read_inspect_zip(path: Path) -> Iterator[_Sample]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not (info.filename.startswith("samples/") and info.filename.endswith(".json")):
                continue
            if info.file_size > MAX_MEMBER_BYTES:
                raise ValueError(f"{info.filename} would unpack to {info.file_size:,} bytes")
            yield _read_inspect_sample(json.loads(archive.read(info)))


def _read_inspect_sample(sample: Mapping[str, Any]) -> _Sample:
    """A sample of one epoch; scorers that give several numbers have one metric for each."""
    scores: dict[str, float] = {}
    for scorer, score_fields in (sample.get("scores") or {}).items():
        value = score_fields["value"]
        parts = value.items() if isinstance(value, dict) else [(None, value)]
        for part, own in parts:
            score = _LETTERS.get(own) if isinstance(own, str) else _as_score(own)
            if score is not None:
                scores[scorer if part is None else f"{scorer}/{part}"] = score
    return _Sample(str(sample["id"]), scores)


def _is_euroeval(log: Any) -> bool:
    outputs = list(log.values()) if isinstance(log, dict) else []
    return bool(outputs) and all(isinstance(o, dict) and "sequence" in o for o in outputs)


def _read_euroeval_output(output: Mapping[str, Any]) -> _Sample:
    """One answer; right where the label that was read from it is the row's, in any case."""
    label, predicted = output.get("label"), output.get("predicted_label")
    if "index" not in output:
        raise ValueError("EuroEval writes rows and labels only with --debug")
    if not isinstance(label, str) or not isinstance(predicted, str):
        raise ValueError("its rows have no label that is one word, as those of classifications")
    right = label.strip().casefold() == predicted.strip().casefold()
    return _Sample(str(output["index"]), {"accuracy": float(right)})


def _as_score(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def _distinct_names(paths: list[Path]) -> dict[Path, str]:
    """The shortest of file name, folder (the harness names it by the model) and path."""
    namings: tuple[Callable[[Path], str], ...] = (
        lambda path: path.stem,
        lambda path: path.absolute().parent.name,
        lambda path: f"{path.absolute().parent.name}/{path.stem}",
        str,
    )
    for naming in namings:
        names = {path: naming(path) for path in paths}
        if len(set(names.values())) == len(paths):
            return names
    return {path: str(path) for path in paths}
