"""PEFT as oracle: the same start, and with the same weights the same answers and training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import ks_2samp
from support.peft_tuners import TENSORS, tensors
from torch import Tensor, nn

from paretune import methods, objectives
from paretune.errors import MethodError
from paretune.models.dropout import set_dropout
from paretune.models.load import LoadedModel, load_model, reset_head
from paretune.models.sources.resolve import ModelSource, resolve_source
from paretune.objectives.encoding import pad_batch
from paretune.study import ModelSpec, Run
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.caches import ProcessCache
from paretune.training.prepare import PreparedModel, prepare

FORMS = [
    ("lora", {"rank": 4}),
    ("lora", {"rank": 4, "use_rslora": True, "alpha": 3.0}),
    ("dora", {"rank": 4}),
    ("loha", {"rank": 2}),
    ("loha", {"rank": 8}),
    ("lokr", {"rank": 2}),
    ("lokr", {"rank": 8}),
    ("lokr", {"rank": 3, "decompose_factor": 2}),
    ("ia3", {}),
]
"""LoHa of rank 2 on 32 x 32 is factorised, of rank 8 it is not; LoKr has A B, or D at rank 8."""
FAMILIES = ("bert", "roberta", "distilbert", "modernbert")


class Pair:
    """Our model and PEFT's on the same base, with the same head and the same method's weights."""

    def __init__(self, run: Run, source: ModelSource, bench: ProcessCache) -> None:
        self.run, self.data = run, bench.dataset(run.task)
        self.ours: PreparedModel = prepare(run, self.fresh(source))
        set_dropout(self.ours.loaded.model, 0.0)  # preparing restores that of the checkpoint
        base = self.fresh(source)
        reset_head(base, run.seed)
        self.theirs = self.peft_model(base)
        encoded = bench.encode(list(self.data.train), base, source, 64)
        self.batches = []
        for step in range(20):
            rows = [(step * 7 + i) % len(encoded.labels) for i in range(6)]
            batch = {n: torch.from_numpy(v) for n, v in pad_batch(encoded, rows, 0).items()}
            self.batches.append((batch, torch.tensor([encoded.labels[i] for i in rows])))

    def fresh(self, source: ModelSource) -> LoadedModel:
        loaded = load_model(source, objectives.get(self.data.kind).head_spec(self.data.labels))
        set_dropout(loaded.model, 0.0)
        return loaded

    def peft_model(self, base: LoadedModel) -> Any:
        """PEFT's model; its head is told through ``modules_to_save``, ours as a list of names."""
        # The outermost modules: what is named inside of one would be wrapped twice, never trained.
        heads = [
            m
            for m in base.anatomy.head_modules
            if any(n.startswith(f"{m}.") for n in base.head_parameters)
        ]
        several = self.data.kind == "multiple_choice"
        common = {"modules_to_save": heads, "task_type": None if several else "SEQ_CLS"}
        configured = methods.configure_method(self.run.method).with_tokenizer(base.tokenizer)
        assert configured.method.to_peft is not None
        return configured.method.to_peft(
            base.model, configured.options, self.ours.injection, common
        )

    def tensors(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        return tensors(self.ours, self.theirs)

    def equal_weights(self, *, away_from_start: bool) -> None:
        """Copy our weights into PEFT's model; all of them drawn anew if ``away_from_start``."""
        torch.manual_seed(3)
        with torch.no_grad():
            for ours, theirs in self.tensors():
                if away_from_start:
                    ours.normal_(0, 0.3)
                theirs.copy_(ours[0].reshape(theirs.shape))

    def logits(self, side: str, batch: dict[str, Tensor]) -> Tensor:
        model = self.ours.loaded.model if side == "ours" else self.theirs
        self.ours.fleet.row_partitions = []
        logits: Tensor = model(**batch).logits
        return logits

    def check_course(self) -> None:
        """As many parameters, the same logits, and the same losses of twenty steps."""
        self.equal_weights(away_from_start=True)
        batch, _ = self.batches[0]
        self.ours.loaded.model.eval(), self.theirs.eval()
        torch.testing.assert_close(
            self.logits("ours", batch), self.logits("theirs", batch), rtol=0, atol=1e-5
        )
        sizes = [sum(p.numel() for p in self.trained(side)) for side in ("ours", "theirs")]
        assert sizes[0] == sizes[1]
        ours, theirs = self.losses("ours"), self.losses("theirs")
        assert len(set(ours)) == 20 and abs(ours[-1] - ours[0]) > 1e-3  # they do train
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)

    def trained(self, side: str) -> list[nn.Parameter]:
        if side == "ours":
            return list(self.ours.trained.values())
        return [p for p in self.theirs.parameters() if p.requires_grad]

    def losses(self, side: str) -> list[float]:
        """Twenty steps of AdamW."""
        optimizer = torch.optim.AdamW(self.trained(side), lr=5e-3, weight_decay=0.01)
        (self.ours.loaded.model if side == "ours" else self.theirs).train()
        losses = []
        for batch, labels in self.batches:
            loss = F.cross_entropy(self.logits(side, batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses


@pytest.fixture
def pair(tiny_model: Any, tmp_path: Path) -> Any:
    def make(method: str, family: str, kind: str = "pair", **options: Any) -> Pair:
        run = tiny_run(tiny_task(tmp_path, kind), tiny_model(family), method, options=options)
        return Pair(run, resolve_source(ModelSpec(name=run.model.name)), ProcessCache())

    return make


def _word(options: dict[str, Any]) -> str:
    return "-".join(f"{name}{value}" for name, value in options.items())


CASES = [
    pytest.param(method, options, family, kind, id=f"{method}{_word(options)}-{family}-{kind}")
    for method, options in FORMS
    for family in FAMILIES
    for kind in (["pair", "multiple_choice"] if family == "bert" else ["classification"])
    # There PEFT trains a scale of the query too; the export without one is in test_contract.py.
    if (method, family) != ("ia3", "modernbert")
]


@pytest.mark.parametrize(("method", "options", "family", "kind"), CASES)
def test_same_logits_and_same_training(
    pair: Any, method: str, options: dict[str, Any], family: str, kind: str
) -> None:
    both = pair(method, family, kind, **options)
    part: Any = next(iter(both.ours.injection.adapters.values()))
    if method == "loha" and family != "modernbert":  # there the fused layer is 96 x 32
        assert part.factorised == (options["rank"] == 2)
    if method == "lokr" and family != "modernbert":
        assert (part.D is None) == (options["rank"] < 8)
    both.check_course()


@pytest.mark.parametrize(("method", "rank"), [("lora", 8), ("loha", 8), ("lokr", 3)])
def test_same_initial_distribution(pair: Any, method: str, rank: int) -> None:
    """Tensor by tensor: the same bounds, the same shape of distribution, the same zeros."""
    both = pair(method, "bert", rank=rank)
    drawn: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
    names = list(both.ours.injection.parameters)
    for name, (ours, theirs) in zip(names, both.tensors(), strict=True):
        assert ours.shape[1:] == theirs.shape
        mine, others = drawn.setdefault(name.rpartition(".")[2], ([], []))
        mine.append(ours.detach().flatten()), others.append(theirs.detach().flatten())
    zeros = {"lora": {"B"}, "loha": {"B2"}, "lokr": {"C"}}[method]
    assert set(drawn) == set(TENSORS[method]) - {"D"}
    fan_in = {"A": 32, "A1": rank, "B1": 32, "A2": rank}
    if method == "lokr":
        fan_in = {"A": rank, "B": 8}  # 32 is 4 x 8
    for own, (mine, others) in drawn.items():
        ours, theirs = torch.cat(mine), torch.cat(others)
        if own in zeros:
            assert not ours.any() and not theirs.any()
            continue
        bound = fan_in[own] ** -0.5
        for values in (ours, theirs):
            assert 0.98 * bound < values.abs().max() <= bound
            assert values.std() == pytest.approx(bound / 3**0.5, rel=0.06)
        assert ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("options", [{}, {"encoder_hidden_size": 24}], ids=["prompt", "p_tuning"])
def test_prompt_tuning_equals_pefts(pair: Any, family: str, options: dict[str, int]) -> None:
    method = "p_tuning" if options else "prompt"
    pair(method, family, num_virtual_tokens=5, **options).check_course()


def test_random_prompts_start_as_pefts(pair: Any) -> None:
    both = pair("prompt", "bert", num_virtual_tokens=100, init="random")
    ((ours, theirs),) = both.tensors()
    for values in (ours.detach(), theirs.detach()):
        assert values.mean().abs() < 0.06 and values.std() == pytest.approx(1, abs=0.05)
    samples = (ours.detach().flatten().numpy(), theirs.detach().flatten().numpy())
    assert ks_2samp(*samples).pvalue > 1e-3


def test_p_tuning_starts_as_pefts(pair: Any) -> None:
    both = pair("p_tuning", "bert", num_virtual_tokens=100)
    for ours, theirs in both.tensors():
        mine, others = ours.detach().flatten().numpy(), theirs.detach().flatten().numpy()
        assert mine.std() == pytest.approx(others.std(), rel=0.3)
        assert ks_2samp(mine, others).pvalue > 1e-3


@pytest.mark.parametrize("tokens", [3, 20])
def test_text_prompts_are_the_embeddings_of_the_text_as_pefts(
    pair: Any, tiny_model: Any, tokens: int
) -> None:
    text = "The cat sat on the mat"
    both = pair("prompt", "bert", num_virtual_tokens=tokens, init="text", init_text=text)
    words = both.ours.loaded.model.get_input_embeddings()
    config = peft.PromptTuningConfig(
        task_type="SEQ_CLS",
        num_virtual_tokens=tokens,
        num_transformer_submodules=1,
        token_dim=32,
        prompt_tuning_init="TEXT",
        prompt_tuning_init_text=text,
        tokenizer_name_or_path=str(tiny_model("bert")),
    )
    ours = next(iter(both.ours.injection.parameters.values()))[0]
    assert torch.equal(ours, peft.PromptEmbedding(config, words).embedding.weight)


def test_text_and_its_option_go_together(pair: Any) -> None:
    for options in ({"init": "text"}, {"init_text": "some words"}):
        with pytest.raises(MethodError, match="go together"):
            pair("prompt", "bert", **options)


def test_vocabulary_prompts_are_embeddings_of_random_tokens_as_pefts(pair: Any) -> None:
    both = pair("prompt", "bert", num_virtual_tokens=60, init="vocabulary")
    words = both.ours.loaded.model.get_input_embeddings()
    config = peft.PromptTuningConfig(
        task_type="SEQ_CLS",
        num_virtual_tokens=60,
        num_transformer_submodules=1,
        token_dim=32,
        prompt_tuning_init="SAMPLE_VOCAB",
    )
    ours = next(iter(both.ours.injection.parameters.values()))[0]
    theirs = peft.PromptEmbedding(config, words).embedding.weight
    for prompt in (ours, theirs):
        same = (prompt[:, None, :] == words.weight[None]).all(-1)
        rows = same.float().argmax(1)
        assert same.any(1).all()  # every virtual token is the embedding of a real one
        spread = rows.float().mean() / len(words.weight)
        assert len(set(rows.tolist())) > 30 and 0.35 < spread < 0.65
