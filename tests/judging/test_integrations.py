"""The callback of `transformers.Trainer` writes what `paretune judge` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

import paretune
from paretune.integrations import PredictionsCallback


class Words(torch.utils.data.Dataset[Any]):
    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        words = torch.randint(5, 20, (6,), generator=torch.Generator().manual_seed(place))
        return {"input_ids": words, "labels": torch.tensor(place % 2)}


def train(path: Path, model: Path, seed: int) -> PredictionsCallback:
    from transformers import AutoModelForSequenceClassification

    callback = PredictionsCallback(path, method="full", task="words")
    arguments = TrainingArguments(
        output_dir=str(path.parent / "out"),
        seed=seed,
        max_steps=2,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(model),
        args=arguments,
        train_dataset=Words(16),
        callbacks=[callback],
    )
    trainer.train()
    callback.write(trainer.predict(Words(30)))
    return callback


@pytest.mark.thorough
def test_a_trained_model_is_judged(tmp_path: Path, tiny_model: Any) -> None:
    pytest.importorskip("accelerate")
    for seed in (1, 2):
        train(tmp_path / "rows" / f"full-{seed}.jsonl", Path(tiny_model("bert")), seed)
    lines = (tmp_path / "rows" / "full-2.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert len(lines) == 30 and first["seed"] == 2 and first["seconds"] > 0
    (task,) = paretune.judge(tmp_path / "rows").tasks
    (cell,) = task.cells
    assert (task.key, cell.method, len(cell.runs)) == ("words", "full", 2)
    assert cell.run_seconds is not None


def test_generated_texts_are_written_as_they_are(tmp_path: Path) -> None:
    callback = PredictionsCallback(tmp_path / "rows.jsonl", method="sft")
    callback.write(["a b", "c"], labels=["a b", "d"], ids=["x", "y"])
    task = paretune.judge(tmp_path / "rows.jsonl", metric="exact_match").tasks[0]
    assert task.cells[0].score is not None and task.cells[0].score.estimate == 0.5
    with pytest.raises(ValueError, match="argument 2 is"):
        callback.write(["a"], labels=["a", "b"])
