"""What a tracker holds, read by its own library (of W&B: its own protocol buffers)."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Entry:
    """One mirrored entry. ``curve``: step and value by name."""

    settings: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    curve: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def read(tracker: str, folder: Path, study: str) -> dict[str, list[Entry]]:
    """All entries by identity; several of one identity would be a fault."""
    entries: dict[str, list[Entry]] = {}
    for identity, one in _READERS[tracker](folder, study):
        entries.setdefault(identity, []).append(one)
    return entries


def _tensorboard(folder: Path, study: str) -> Iterator[tuple[str, Entry]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for at in (folder / study).glob("*/*/*/*"):
        read = EventAccumulator(str(at)).Reload()
        one = Entry()
        for name in read.Tags()["scalars"]:
            points = [(event.step, event.value) for event in read.Scalars(name)]
            if name.startswith("curve/"):
                one.curve[name] = points
            else:
                ((_, one.numbers[name]),) = points
        content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        start = HParamsPluginData.FromString(content).session_start_info
        for name, value in start.hparams.items():
            one.settings[name] = getattr(value, value.WhichOneof("kind"))
        for name in read.PluginTagToContent("text"):
            one.texts[name] = read.Tensors(name)[0].tensor_proto.string_val[0].decode()
        yield at.name.rpartition("_")[2], one


def _wandb(folder: Path, study: str) -> Iterator[tuple[str, Entry]]:
    for file in (folder / "wandb").glob("offline-run-*/run-*.wandb"):
        one, identity = Entry(), ""
        for record in _wandb_records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                assert record.run.project == study
                identity = record.run.run_id
                one.settings = {i.key: json.loads(i.value_json) for i in record.run.config.update}
            elif kind == "history":
                row = {i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
                for name, value in row.items():
                    if name.startswith("curve/"):
                        one.curve.setdefault(name, []).append((row["_step"], value))
            elif kind == "summary":
                for item in record.summary.update:
                    name = item.key or "/".join(item.nested_key)
                    value = json.loads(item.value_json)
                    if isinstance(value, int | float) and not name.startswith(("_", "curve/")):
                        one.numbers[name] = value
                    elif isinstance(value, str):
                        one.texts[name] = value
        yield identity, one


def _wandb_records(file: Path) -> Iterator[Any]:
    """The log's records: blocks of 32 KiB, each piece with checksum, length and kind."""
    from wandb.proto import wandb_internal_pb2

    data, at, piece = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at < len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        piece += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield wandb_internal_pb2.Record.FromString(piece)
            piece = b""


def _mlflow(folder: Path, study: str) -> Iterator[tuple[str, Entry]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    for run in client.search_runs([client.get_experiment_by_name(study).experiment_id]):
        one = Entry(settings=run.data.params, texts=run.data.tags)
        for name, value in run.data.metrics.items():
            if name.startswith("curve/"):
                history = client.get_metric_history(run.info.run_id, name)
                one.curve[name] = sorted((m.step, m.value) for m in history)
            else:
                one.numbers[name] = value
        yield run.data.tags["paretune.identity"], one


def _trackio(folder: Path, study: str) -> Iterator[tuple[str, Entry]]:
    from trackio import SQLiteStorage

    assert SQLiteStorage.get_project_db_path(study).parent == folder
    for name in SQLiteStorage.get_runs(study):
        one = Entry(settings=SQLiteStorage.get_run_config(study, name))
        for row in SQLiteStorage.get_logs(study, name):
            for key, value in row.items():
                if key.startswith("curve/"):
                    one.curve.setdefault(key, []).append((row["step"], value))
                elif key in ("step", "timestamp"):
                    continue
                elif isinstance(value, str):
                    one.texts[key] = value
                else:
                    one.numbers[key] = value
        yield one.settings["identity"], one


_READERS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}
