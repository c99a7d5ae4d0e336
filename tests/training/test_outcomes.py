"""How a run may end, which weights it keeps, and what it may never look at."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as from_bytes
from support.batches import begin_run, make_batch

from paretune.errors import MethodError
from paretune.preparation import ProcessCache
from paretune.store import Claim
from paretune.study import TaskSpec
from paretune.testing.tiny_tasks import silent, tiny_run, tiny_task
from paretune.training.forward.passes import Compute
from paretune.training.forward.select import make_forward
from paretune.training.loop import train_step
from paretune.training.prepare import prepare
from paretune.training.run_state import copy_tensors
from paretune.training.trainer import train_run


def poisoned(task: TaskSpec, folder: Path) -> TaskSpec:
    """The same task, every test row with another text and a wrong label."""
    folder.mkdir()
    with Path(str(task.test)).open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    wrong = {"a": "b", "b": "c", "c": "a"}
    with (folder / "test.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([f"poison {i}", *row[1:-1], wrong[row[-1]]] for i, row in enumerate(rows))
    return task.model_copy(update={"test": str(folder / "test.csv")})


def test_a_run_that_blows_up_has_diverged(tmp_path: Path, tiny_model: Any) -> None:
    settings = {"schedule": "constant", "warmup_fraction": 0.0, "max_steps": 30}
    run = tiny_run(
        tiny_task(tmp_path), tiny_model("bert"), "full", learning_rate=9.0, training=settings
    )
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent)
    assert outcome.result["outcome"] == "diverged"
    assert outcome.result["steps"] < 30
    (note,) = outcome.result["notes"]
    assert note.startswith(f"diverged at step {outcome.result['steps']}: the loss is ")
    assert "weights" not in outcome.blobs


def test_weights_that_are_no_numbers_have_diverged(tmp_path: Path, tiny_model: Any) -> None:
    """The last step may be the one that blows up: only the evaluation after it can tell."""
    settings = {"schedule": "constant", "warmup_fraction": 0.0, "max_steps": 1}
    run = tiny_run(
        tiny_task(tmp_path), tiny_model("bert"), "full", learning_rate=1e38, training=settings
    )
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent)
    assert outcome.result["outcome"] == "diverged"
    assert outcome.result["notes"] == ["diverged at step 1: the selection loss is nan"]
    assert outcome.result["best_step"] == -1 and outcome.blobs == {}
    json.dumps(outcome.result, allow_nan=False)


def test_a_constant_answer_is_collapsed(tmp_path: Path, tiny_model: Any) -> None:
    """Nine of ten rows are of one label, and a few steps teach the head no more than that."""
    task = tiny_task(tmp_path)
    for part in ("train", "test"):
        path = tmp_path / f"{part}.csv"
        lines = path.read_text().splitlines()
        texts = [line.rpartition(",")[0] for line in lines]
        labels = ["label", *("b" if i % 10 == 9 else "a" for i in range(len(lines) - 1))]
        path.write_text("\n".join(map(",".join, zip(texts, labels, strict=True))))
    run = tiny_run(task, tiny_model("bert"), "head_only", training={"max_steps": 30})
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent)
    test = json.loads(outcome.blobs["predictions"])["test"]
    assert test["scores"] == [[float(f"{s:.8g}") for s in row] for row in test["scores"]]
    predictions = test["prediction"]
    assert set(predictions) == {0}
    assert outcome.result["outcome"] == "collapsed"
    assert outcome.result["scores"]["test"]["accuracy"] == pytest.approx(11 / 12)


@pytest.mark.parametrize(
    ("scores", "patience", "stops_at", "best"),
    [
        ([(0.5, 1.0), (0.7, 1.0), (0.6, 1.0), (0.7, 1.0), (0.9, 1.0)], 2, 8, 4),
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 0.95), (0.5, 0.8)], 2, 8, 8),  # ties: the lower loss
        ([(0.9, 1.0), (0.1, 0.1), (0.1, 0.1), (0.1, 0.1)], None, 8, 2),
        ([(0.9, 1.0), (0.1, 1.0), (0.1, 1.0), (0.1, 1.0)], 1, 4, 2),
    ],
)
def test_early_stopping_and_best_weights(
    scores: list[tuple[float, float]],
    patience: int | None,
    stops_at: int,
    best: int,
    tmp_path: Path,
    tiny_model: Any,
) -> None:
    """Every second step is scored as the list says; the weights of the best are put back."""
    settings = {"patience": patience, "eval_every": 2, "max_steps": 8}
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), training=settings)
    bench = ProcessCache()
    loaded = bench.model(run.model, bench.dataset(run.task))
    prepared = prepare(run, loaded)
    data = bench.encode(bench.parts(run).train, loaded, bench.source(run.model), 64)
    snapshots: list[dict[str, torch.Tensor]] = []

    def select() -> dict[str, float]:
        snapshots.append({n: p.detach().clone() for n, p in prepared.trained.items()})
        primary, loss = scores[len(snapshots) - 1]
        return {"primary": primary, "loss": loss}

    batch, forward = make_batch(data, seed=run.seed), make_forward(prepared, Compute())
    state = begin_run(Claim(run, tmp_path / "x", silent), prepared, batch, select)
    while not state.finished:
        train_step(state, state.next_batch(), forward)
        if state.needs_evaluation:
            state.evaluate()
    copy_tensors(state.best, prepared.trained)
    assert (state.progress.step, state.progress.best_step) == (stops_at, best)
    assert state.diverged is None
    for name, parameter in prepared.trained.items():
        assert torch.equal(parameter, snapshots[best // 2 - 1][name])
    assert not torch.equal(snapshots[0]["classifier.weight"], snapshots[-1]["classifier.weight"])


def test_reported_scores_are_those_of_the_best_step(tmp_path: Path, tiny_model: Any) -> None:
    settings = {"max_steps": 20, "eval_every": 2, "patience": None, "schedule": "constant"}
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), learning_rate=0.3, training=settings)
    result = train_run(run, checkpoint=tmp_path / "x", report=silent).result
    assert len(result["curve"]) == 10 and 2 <= result["best_step"] < 20  # not simply the last
    best = next(point for point in result["curve"] if point["step"] == result["best_step"])
    assert {k: result["scores"]["selection"][k] for k in ("primary", "loss")} == best["selection"]
    assert best["selection"]["primary"] == max(p["selection"]["primary"] for p in result["curve"])


@pytest.mark.parametrize("stage", ["tune", "final"])
def test_no_run_is_stopped_or_chosen_by_the_test_part(
    stage: str, tmp_path: Path, tiny_model: Any
) -> None:
    """A rate on trial never sees it; a final run is scored on it, and that is all."""
    task, training = tiny_task(tmp_path), {"max_steps": 8, "eval_every": 2}
    plain, other = (
        train_run(
            tiny_run(own, tiny_model("bert"), stage=stage, training=training),
            checkpoint=tmp_path / "x",
            report=silent,
        )
        for own in (task, poisoned(task, tmp_path / "poison"))
    )
    if stage == "tune":
        assert (plain.result, plain.blobs) == (other.result, other.blobs)
        assert {*plain.result["scores"]} == {*json.loads(plain.blobs["predictions"])}
        assert {*plain.result["scores"]} == {"selection"}
        return
    weights, others = (from_bytes(outcome.blobs["weights"]) for outcome in (plain, other))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    for key in ("curve", "best_step"):
        assert plain.result[key] == other.result[key]
    assert plain.result["scores"]["test"] != other.result["scores"]["test"]


def test_a_prompt_that_leaves_no_room_for_text(tmp_path: Path, tiny_model: Any) -> None:
    """Refused, and the model is as it was; a long one shortens the text instead."""
    task = tiny_task(tmp_path)
    bench = ProcessCache()
    long = {"options": {"num_virtual_tokens": 121}}
    run = tiny_run(task, tiny_model("bert"), "prompt", **long)
    loaded = bench.model(run.model, bench.dataset(task))
    before = list(dict(loaded.model.named_parameters()))
    with pytest.raises(
        MethodError, match="121 virtual tokens leave 7 of the model's 128 positions"
    ):
        prepare(run, loaded)
    assert list(dict(loaded.model.named_parameters())) == before
    fitting = tiny_run(task, tiny_model("bert"), "prompt", options={"num_virtual_tokens": 120})
    prepared = prepare(fitting, loaded)
    assert prepared.max_length == 8
    prepared.undo()
    outcome = train_run(fitting, checkpoint=tmp_path / "x", report=silent)
    assert outcome.result["truncated"]["test"] > 0


@pytest.mark.parametrize("method", ["majority", "tfidf"])
def test_baselines_leave_the_same_kind_of_record(
    method: str, tmp_path: Path, tiny_model: Any
) -> None:
    run = tiny_run(tiny_task(tmp_path), tiny_model("bert"), method, learning_rate=None)
    outcome = train_run(run, checkpoint=tmp_path / "x", report=silent)
    predictions = json.loads(outcome.blobs["predictions"])
    assert set(predictions) == set(outcome.result["scores"]) == {"selection", "test"}
    assert len(predictions["test"]["uid"]) == 12 and len(predictions["test"]["scores"][0]) == 3
    expected = {"majority": {"collapsed"}, "tfidf": {"ok", "collapsed"}}
    assert outcome.result["outcome"] in expected[method]
