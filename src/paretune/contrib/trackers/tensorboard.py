"""TensorBoard: a folder of event files for each entry, ``task/model/method/kind_identity``.

A folder is written under a temporary name and renamed, so one with its final name is complete.
Needs neither torch nor TensorFlow. ``tensorboard --logdir FOLDER`` shows curves under Time Series
and settings under HParams.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from paretune.contrib.trackers.entry import Entry, Setting, Tracker
from paretune.errors import TrackerError
from paretune.files import make_file_name

_PART = ".part-"


class TensorBoard(Tracker):
    """Event files in a folder, whose first level is the study's name."""

    def __init__(self, into: str, study: str) -> None:
        self._folder = Path(into) / make_file_name(study)
        names = [path.name for path in self._folder.glob("*/*/*/*")]
        self._complete = {n.rpartition("_")[2] for n in names if not n.startswith(_PART)}

    def has(self, identity: str) -> bool:
        """See :class:`Tracker`."""
        return identity in self._complete

    def write(self, entry: Entry) -> None:
        """See :class:`Tracker`."""
        cell = Path(*(make_file_name(str(entry.settings[k])) for k in ("task", "model", "method")))
        part = self._folder / cell / f"{_PART}{entry.identity}"
        try:
            if part.exists():
                shutil.rmtree(part)
            _events(entry, part)
            part.rename(part.with_name(f"{entry.kind}_{entry.identity}"))
        except OSError as error:
            raise TrackerError(
                f"TensorBoard's files cannot be written ({error.strerror or error}).",
                where=str(part.parent),
                remedy="The same command continues from there.",
            ) from error
        self._complete.add(entry.identity)


def _events(entry: Entry, folder: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    def add(values: list[Any], step: int = 0) -> None:
        summary = Summary(value=values)
        writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def scalar(name: str, value: float) -> Any:
        return Summary.Value(tag=name, simple_value=value)

    writer = EventFileWriter(str(folder))
    try:
        add([_hyperparameters(entry)])
        for name, text in {"name": entry.name, "outcome": entry.outcome, **entry.texts}.items():
            add([_text(name, text)])
        for step, values in entry.curve:
            add([scalar(name, value) for name, value in values.items()], step)
        add([scalar(name, value) for name, value in entry.numbers.items()])
        writer.flush()
    finally:
        writer.close()


def _hyperparameters(entry: Entry) -> Any:
    """What the HParams tab reads: the settings of one session."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    start = plugin_data_pb2.SessionStartInfo(group_name=entry.identity)
    for name, value in entry.settings.items():
        _set(start.hparams[name], value)
    data = plugin_data_pb2.HParamsPluginData(session_start_info=start)
    return Summary.Value(
        tag=metadata.SESSION_START_INFO_TAG,
        metadata=metadata.create_summary_metadata(data),
        tensor=metadata.NULL_TENSOR,
    )


def _set(place: Any, value: Setting) -> None:
    if isinstance(value, bool):
        place.bool_value = value
    elif isinstance(value, int | float):
        place.number_value = value
    else:
        place.string_value = value


def _text(name: str, text: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text import metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    return Summary.Value(
        tag=name,
        metadata=metadata.create_summary_metadata(name, ""),
        tensor=make_tensor_proto([text.encode()]),
    )
