"""Where a machine has what a run reads; no part of a run's identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paretune.study.run import Run


@dataclass(frozen=True)
class Places:
    """What the runs of a study read, in other places than where the study was planned.

    Attributes:
        datasets: by the task's key, a file of :mod:`paretune.data.packed_dataset`.
        models: by name, another name or folder.
        texts: by path, the file of the text on which forgetting is measured.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    def relocate(self, run: Run) -> Run:
        """The run with these places; the same run."""
        update: dict[str, Any] = {}
        if run.task.key in self.datasets:
            source = self.datasets[run.task.key]
            update["task"] = run.task.model_copy(update={"source": source})
        if run.model.name in self.models:
            # The label that it has by its name stays.
            name = {"name": self.models[run.model.name], "label": run.model.key}
            update["model"] = run.model.model_copy(update=name)
        if run.forgetting is not None and run.forgetting.text in self.texts:
            text = {"text": self.texts[run.forgetting.text]}
            update["forgetting"] = run.forgetting.model_copy(update=text)
        return run.model_copy(update=update) if update else run
