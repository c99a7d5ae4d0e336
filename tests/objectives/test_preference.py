"""Preferences: what every objective and metric does, rows as TRL has them, and runs on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from paretune import metrics, objectives
from paretune.data.finding import InvalidRowsError
from paretune.metrics import Metric, Value
from paretune.objectives import LossOptions
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.objectives.prompt import Prompt
from paretune.objectives.readouts import for_readout
from paretune.objectives.token_outputs import TokenStates
from paretune.study import TaskSpec
from paretune.tasks import load_dataset
from paretune.tasks.infer import infer_task
from paretune.testing import MetricContract, ObjectiveContract
from paretune.testing.tiny_models import tiny_model as write_model
from paretune.testing.tiny_tasks import silent, tiny_run
from paretune.training.trainer import train_run

WORDS = ("cat", "dog", "ice", "door", "room", "water", "window", "prices")
ASKED = {"role": "user", "content": "Why?"}


def reply(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def read(kind: str, readout: Any) -> objectives.Objective:
    return for_readout(objectives.get(kind), readout, Prompt(delimiter=" "))


class PreferenceContract(ObjectiveContract):
    """Outputs are log-likelihoods, all of the first token."""

    def examples(self) -> list[Example]:
        answers = [("cat dog", "ice"), ("door room water " * 6, "cat")] * 4
        width = 2 if self.objective.name == "preference" else 1
        rows = [tuple((f"window {i}", a) for a in pair[:width]) for i, pair in enumerate(answers)]
        return [Example(str(i), row, 1 if width == 2 else i % 2, "") for i, row in enumerate(rows)]

    @pytest.fixture
    def data(self, tmp_path: Path) -> Encoded:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(write_model("bert", tmp_path))
        tokenizer.eos_token = tokenizer.sep_token
        self.encoded = self.objective.encode(self.examples(), tokenizer, 16, "")
        return self.encoded

    def draw_outputs(self) -> torch.Tensor:
        shape = len(self.examples()), len(self.encoded.ids[0])
        return torch.randn(shape, generator=torch.Generator().manual_seed(1))

    def make_outputs(self, outputs: torch.Tensor, indices: Sequence[int]) -> Any:
        texts = [(i, c) for i in indices for c in range(len(self.encoded.ids[i]))]
        lengths = [self.encoded.scored_length(text) for text in texts]
        losses = torch.cat(
            [F.pad(-outputs[t][None], (0, n - 1)) for t, n in zip(texts, lengths, strict=True)]
        )
        scored = losses.detach()
        return SimpleNamespace(
            texts=texts,
            labels=scored,
            summed_loss=lambda smoothing, weights: losses @ weights,
            evaluation_losses=lambda: (scored.sum(), scored),
        )


class TestPairs(PreferenceContract):
    objective = read("preference", "reward")


class TestRatings(PreferenceContract):
    objective = read("unpaired_preference", "reward")


class TestLikelihoods(PreferenceContract):
    objective = read("unpaired_preference", "likelihood")


class TestRewardAccuracy(MetricContract):
    metric: ClassVar[Metric] = metrics.get("reward_accuracy")

    def references(self) -> list[Value]:
        return [0, 1, 1] * 8

    def predictions(self) -> list[list[Value]]:
        return np.random.default_rng(1).normal(size=(3, 24)).tolist()


def test_reward_accuracy_is_the_area_under_the_curve_and_of_pairs_the_share_above_zero() -> None:
    from sklearn.metrics import roc_auc_score

    labels, rewards = [1, 0, 1, 0, 1], [0.3, 0.3, -1.0, -2.0, 4.0]
    accuracy, margin = metrics.get("reward_accuracy"), metrics.get("reward_margin")
    assert accuracy.compute(labels, rewards) == pytest.approx(roc_auc_score(labels, rewards))
    assert margin.compute(labels, rewards) == pytest.approx(1.1 + 0.85)
    assert accuracy.compute([1] * 4, [0.5, -1.0, 0.0, 2.0]) == 2.5 / 4
    assert margin.compute([1] * 4, [0.5, -1.0, 0.0, 2.0]) == 1.5 / 4


@pytest.mark.parametrize(
    ("kind", "smoothing"), [("preference", 0.0), ("preference", 0.3), ("unpaired_preference", 0.0)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradients_are_those_of_all_logits(
    kind: str, smoothing: float, dtype: Any
) -> None:
    """With smoothing those of cDPO, as TRL's ``sigmoid`` has it."""
    draw, width = torch.Generator().manual_seed(2), 2 if kind == "preference" else 1
    hidden, weight = (torch.randn(n, 8, generator=draw).to(dtype) for n in (24, 12))
    tokens, reference = torch.arange(24) % 12, torch.randn(4, width, generator=draw) - 17
    ids = [[[0] * (1 + 6 // width)] * width] * 4
    starts, beta = [[1] * width] * 4, [[10.0] * width] * 4
    data = Encoded(ids, None, [], [1, 0, 1, 0], [], completion_starts=starts, divisors=beta)
    data = replace(data, reference=reference.tolist())
    texts = [(i, c) for i in range(4) for c in range(width)]
    weights = ((1.0,), (1.5,))
    options = LossOptions(label_smoothing=smoothing, class_weights=weights, mismatched=0.2)
    hidden.requires_grad_(), weight.requires_grad_()
    outputs = TokenStates(hidden, weight, None, tokens, texts)
    loss = read(kind, "reward").loss(outputs, data, range(4), options)
    losses = F.cross_entropy((hidden @ weight.mT).float(), tokens, reduction="none")
    rewards = (-losses.view(4, width, -1).sum(-1) - reference) / 10
    gains = rewards[:, -1] - rewards[:, 0]
    expected = -F.logsigmoid(gains).sum() * (1 - smoothing) - F.logsigmoid(-gains).sum() * smoothing
    if width == 1:
        bad, good = (torch.sigmoid(s * (rewards[:, 0] - 0.2)) for s in (1, -1))
        expected = 1.5 * (good[0] + good[2]) + bad[1] + bad[3]
    torch.testing.assert_close(loss, expected)
    slopes = [torch.autograd.grad(x, (hidden, weight)) for x in (loss, expected)]
    torch.testing.assert_close(*slopes)


PAIRS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "Why?", "chosen": " So.", "rejected": " No."},
    "no prompt": {"chosen": "Why? So.", "rejected": "Why? No."},
    "messages": {"prompt": [ASKED], "chosen": [reply("So.")], "rejected": [reply("No.")]},
    "conversations": {"chosen": [ASKED, reply("So.")], "rejected": [ASKED, reply("No.")]},
}  # fmt: skip
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "an empty answer": ({"prompt": "Why?", "chosen": "", "rejected": "No."}, 'no text in "chosen"'),
    "equal answers": ({"prompt": "Why?", "chosen": "So.", "rejected": "so."}, "the same text"),
    "no rating": ({"prompt": "Why?", "completion": "So.", "label": "maybe"}, '"maybe" as label'),
    "no completion": ({"prompt": "Why?", "completion": "", "label": True}, '"completion"'),
}  # fmt: skip


def write(folder: Path, rows: Sequence[Any]) -> str:
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("form", PAIRS)
def test_pairs_are_read_in_all_of_trls_forms(form: str, tmp_path: Path) -> None:
    text = json.dumps(PAIRS[form])
    path = write(tmp_path, [json.loads(text.replace("Why", f"Why {i}")) for i in range(10)])
    task = infer_task(path).task
    assert task["kind"] == "preference"
    example = load_dataset(TaskSpec.model_validate(task)).train[0]
    (prompt, _), (same, _) = example.segments
    assert prompt == same and prompt.startswith("Why ") and prompt.endswith("?")
    assert [(answer or "").strip() for _, answer in example.segments] == ["No.", "So."]
    assert bool(example.messages) == isinstance(PAIRS[form].get("chosen"), list)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_cannot_be_learnt_is_named_with_its_line(fault: str, tmp_path: Path) -> None:
    bad, message = FAULTS[fault]
    rated = "completion" in bad
    good = {"prompt": "Who?", "completion": "I.", "label": True} if rated else PAIRS["texts"]
    path = write(tmp_path, [good, bad, bad])
    kind = "unpaired_preference" if rated else "preference"
    with pytest.raises(InvalidRowsError, match=message) as refused:
        load_dataset(TaskSpec(name="x", kind=kind, train=path))
    assert all(part in str(refused.value) for part in ("2 faults", "line 2", "line 3", "remove"))


def write_task(folder: Path, kind: str) -> TaskSpec:
    rows = []
    for i in range(40):
        good, bad = f" water {WORDS[i % 5]}.", f" ice {WORDS[-(i % 4)]} room."
        row: dict[str, Any] = {"prompt": f"Why {WORDS[i % 7]} {i}?"}
        answers = {"completion": (good, bad)[i % 2], "label": i % 2 == 0}
        rows.append(row | ({"chosen": good, "rejected": bad} if kind == "preference" else answers))
    return TaskSpec(name="x", kind=kind, train=write(folder, rows))


METHODS = {
    "lora": {},
    "lora top": {"rank": 2, "layers_to_transform": [1]},
    "full": {},
    "prompt": {},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["preference", "unpaired_preference"])
def test_packed_runs_are_those_of_the_plain_path(
    kind: str, method: str, tmp_path: Path, tiny_model: Any
) -> None:
    """Answers are learnt; no path, split or cache of frozen layers changes them."""
    task, losses = write_task(tmp_path, kind), []
    options = {"options": METHODS[method]} if METHODS[method] else {}
    for place, settings in enumerate(
        ({}, {"backend": "plain", "micro_batch": 3}, {"precision": "bf16"})
    ):
        training = {"dropout": 0.0, "max_steps": 6, **settings}
        about = {"readout": "reward", "training": training, **options}
        run = tiny_run(task, tiny_model("llama"), method.split()[0], **about)
        outcome = train_run(run, checkpoint=tmp_path / f"{place}", report=silent)
        assert outcome.measured["kept_activations"] == ("top" in method and place != 1)
        losses.append(outcome.result["curve"][-1]["loss"])
        scores = outcome.result["scores"]["test"]
        assert scores["reward_accuracy"] > 0.6 and scores["reward_margin"] > 0
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[2] == pytest.approx(losses[0], rel=0.1)
