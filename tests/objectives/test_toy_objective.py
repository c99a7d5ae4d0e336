"""A kind of task that the package does not know, from the study file to the export.

The objective counts words: targets are counts, the loss is Poisson's, and its metric is the share
of counts that are right within one. This file is the plug-in: its values are registered as entry
points of a distribution that the test lays on the path, so that worker processes find them too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.tiny_study import command

from paretune import plugins
from paretune.data.example import Example
from paretune.metrics import Metric, Value
from paretune.objectives import ModelPredictions, Objective
from paretune.testing import MetricContract, ObjectiveContract

ENTRY_POINTS = """\
[paretune.objectives]
word_count = test_toy_objective:WORD_COUNT
[paretune.metrics]
close_counts = test_toy_objective:CLOSE_COUNTS
"""


def is_close(references: Sequence[Any], predictions: Sequence[Any]) -> np.ndarray[Any, Any]:
    return np.abs(np.array(predictions, dtype=float) - np.array(references, dtype=float)) <= 1


def count_close(references: Any, predictions: Any, questions: Sequence[int] = ()) -> Any:
    close = is_close(references, predictions).astype(float)
    return np.stack([np.ones_like(close), close], axis=-1)


CLOSE_COUNTS = Metric(
    name="close_counts",
    title="counts right within one",
    description="share of counts that are right within one",
    target_type="count",
    statistics=count_close,
    from_sums=lambda sums: sums[..., 1] / sums[..., 0],
    credit=lambda references, predictions, questions: is_close(references, predictions),
)


def poisson_loss(outputs: Any, data: Any, indices: Sequence[int], options: Any) -> torch.Tensor:
    counts = torch.tensor([data.labels[i] for i in indices], device=outputs.device)
    return F.poisson_nll_loss(outputs.float().squeeze(-1), counts, reduction="sum")


def predict_counts(outputs: Any, examples: Sequence[Any], target_scale: Any) -> ModelPredictions:
    log_rate = outputs.astype(np.float64)[:, 0]
    counts = np.array([example.label for example in examples], dtype=float)
    loss = float(np.mean(np.exp(log_rate) - counts * log_rate))
    scores = [[float(value)] for value in log_rate]
    return ModelPredictions([float(np.rint(np.exp(value))) for value in log_rate], scores, loss)


WORD_COUNT = Objective(
    name="word_count",
    title="how many words a text has",
    reader="numbers",
    checks=("numbers", "texts"),
    describe=lambda labels, languages: "a count",
    problem_type="regression",
    num_logits=lambda labels: 1,
    baselines=(),
    tabular_baselines=(),
    target_types=("count",),
    default_metric="close_counts",
    recorded_metrics=("close_counts",),
    loss=poisson_loss,
    predict=predict_counts,
    answer_noun="count",
    answer_code="logits[:, 0].exp().round().tolist()",
)


class TestWordCount(ObjectiveContract):
    """The objective does what every objective does."""

    objective = WORD_COUNT

    @pytest.fixture(autouse=True)
    def registered(self) -> Iterator[None]:
        with plugins.registered(plugins.METRICS, CLOSE_COUNTS):
            yield

    def examples(self) -> list[Example]:
        return [
            Example(str(i), ((" ".join(["cat"] * count), None),), float(count), "here")
            for i, count in enumerate([1, 2, 3, 5, 8, 13, 21, 34] * 2)
        ]


class TestCloseCounts(MetricContract):
    """The metric does what every metric does."""

    metric = CLOSE_COUNTS

    def references(self) -> list[Value]:
        return [float(i % 7) for i in range(24)]


STUDY = """\
study: counts
tasks:
  - {{name: words, kind: word_count, train: train.csv, test: test.csv, text: text, label: words}}
models: [{{name: {model}, label: tiny}}]
methods: [{{name: lora, rank: 2}}]
protocol: {{trials: 1, folds: 1, seeds: [1, 2], cost_seconds: 0.5}}
training: {{max_steps: 30, eval_every: 10, max_length: 32, precision: fp32, weight_decay: 0}}
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a machine on which the plug-in is installed; worker processes get it."""
    about = tmp_path / "site" / "toy_objective-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-objective\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    here = Path(__file__).parent
    path = [about.parent, here, here.parent, *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, path)))
    return dict(os.environ)


def write_texts(folder: Path) -> None:
    words = ("cat", "dog", "ice", "door", "room", "water", "window", "prices")
    for part, rows in (("train", 60), ("test", 24)):
        lines = ["text,words"]
        for i in range(rows):
            count = 3 + i * 7 % 9
            text = " ".join([f"{part}{i}", *(words[(i + k) % 8] for k in range(count - 1))])
            lines.append(f"{text},{count}")
        (folder / f"{part}.csv").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.wide
def test_a_study_of_it_from_check_to_export(
    tmp_path: Path,
    tiny_model: Any,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """Training is done by a worker process, which finds the plug-in by its entry points."""
    monkeypatch.chdir(tmp_path)
    with (
        plugins.registered(plugins.OBJECTIVES, WORD_COUNT),
        plugins.registered(plugins.METRICS, CLOSE_COUNTS),
    ):
        walk_through(tmp_path, tiny_model("bert"), capsys)


def walk_through(tmp_path: Path, model: Path, capsys: Any) -> None:
    write_texts(tmp_path)
    (tmp_path / "counts.yaml").write_text(STUDY.format(model=model), encoding="utf-8")

    def paretune(*arguments: str) -> str:
        """Run the command line on the study and give what it printed."""
        code, out, err = command(capsys, *arguments)
        assert code == 0, out + err
        return " ".join(out.split())

    assert "60 train, 24 test (test.csv), a count" in paretune("check", "counts.yaml")
    assert "linear probe" in paretune("plan", "counts.yaml")
    assert "Score: counts right within one" in paretune("run", "counts.yaml", "--workers", "1")
    assert "lora" in paretune("report", "counts.yaml")
    assert (tmp_path / "studies" / "counts" / "report.html").is_file()
    assert "words" in paretune("recommend", "counts.yaml")
    paretune("export", "counts.yaml", "--method", "lora", "--output", "exported")
    card = (tmp_path / "exported" / "README.md").read_text(encoding="utf-8")
    assert "logits[:, 0].exp().round().tolist()" in card
