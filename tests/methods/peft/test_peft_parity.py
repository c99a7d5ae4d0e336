"""PEFT as oracle, method by family: the same start, and from the same weights the same training.

Encoders answer by a classifier, decoders continue texts by their LM head; PEFT computes by its own
modules and its own forward pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from peft.optimizers import create_loraplus_optimizer
from peft.tuners.lokr.layer import factorization
from scipy.stats import ks_2samp
from support.tiny_study import say_numbers
from torch import Tensor

from paretune import methods
from paretune.errors import MethodError
from paretune.methods import lokr
from paretune.models.dropout import set_dropout
from paretune.models.load import LoadedModel, reset_head
from paretune.objectives.encoding import IGNORE_INDEX, pad_batch
from paretune.preparation import ProcessCache
from paretune.study import Run
from paretune.testing.tiny_models import DECODERS
from paretune.testing.tiny_tasks import tiny_run, tiny_task
from paretune.training.prepare import PreparedModel, prepare
from paretune.training.run_state import make_adamw

STEPS, RATE = 20, 5e-3
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {"rank": 4}),
    "rslora": ("lora", {"rank": 4, "use_rslora": True, "alpha": 3.0}),
    "dora": ("dora", {"rank": 4}),
    # On 32 x 32 it is factorised at rank 2, and not at rank 8.
    "loha": ("loha", {"rank": 2}),
    "loha of rank 8": ("loha", {"rank": 8}),
    # It has A and B at rank 2, and D at rank 8.
    "lokr": ("lokr", {"rank": 2}),
    "lokr of rank 8": ("lokr", {"rank": 8}),
    "lokr by 2": ("lokr", {"rank": 3, "decompose_factor": 2}),
    "ia3": ("ia3", {}),
    "layer_norm": ("layer_norm", {}),
    "prompt": ("prompt", {"num_virtual_tokens": 5}),
    "p_tuning": ("p_tuning", {"num_virtual_tokens": 5, "encoder_hidden_size": 24}),
    "prefix": ("prefix", {"num_virtual_tokens": 3}),
}
OF_CHOICES = [form for form in FORMS if FORMS[form][0] in ("lora", "dora", "loha", "lokr", "ia3")]
ENCODERS = ("bert", "roberta", "distilbert", "modernbert")
BY_DEFAULT = {
    *(("bert", form) for form in ("lora", "dora", "loha of rank 8", "lokr", "ia3", "p_tuning")),
    *(("llama", form) for form in ("lora", "dora", "loha", "ia3", "prompt", "prefix")),
    *((family, "lora") for family in ("modernbert", "qwen3", "gemma3", "opt")),
}
WIDE = {
    *(("bert", form) for form in FORMS),
    *((family, form) for family in ("qwen3", "gemma3", "opt") for form in ("dora", "prefix")),
    *((family, form) for family in ("qwen3", "gemma3", "opt") for form in ("loha", "prompt")),
}


def is_comparable(family: str, form: str) -> bool:
    """Whether PEFT computes the same function."""
    if form == "ia3":  # where one layer makes all three, PEFT trains a scale of the query too
        return family not in ("modernbert", "phi3", "gpt2", "gpt_neox")
    if form == "prefix":
        return family in DECODERS
    return (family, form) not in (("modernbert", "prompt"), ("modernbert", "p_tuning"))


def list_marks(family: str, form: str) -> list[pytest.MarkDecorator]:
    if (family, form) in BY_DEFAULT:
        return []
    return [pytest.mark.wide if (family, form) in WIDE else pytest.mark.slow]


PLACES = [
    *(
        pytest.param(family, form, "instruction" if family in DECODERS else "pair", marks=marks)
        for family in (*ENCODERS, *DECODERS)
        for form in FORMS
        if is_comparable(family, form)
        for marks in [list_marks(family, form)]
    ),
    *(pytest.param("bert", f, "multiple_choice", marks=pytest.mark.wide) for f in OF_CHOICES),
]


def open_base(run: Run) -> LoadedModel:
    """A model of its own, without dropout."""
    loaded = ProcessCache().run_model(run)
    reset_head(loaded, run.seed)
    set_dropout(loaded.model, 0.0)
    return loaded


class Pair:
    """Our model and PEFT's on the same base with the same weights, away from where they start."""

    def __init__(
        self,
        family: str,
        form: tuple[str, dict[str, Any]],
        kind: str,
        tiny_model: Any,
        folder: Path,
    ) -> None:
        method, options = form
        task = say_numbers(folder) if kind == "instruction" else tiny_task(folder, kind)
        readout = {"readout": "text"} if kind == "instruction" else {}
        self.run = tiny_run(task, tiny_model(family), method, options=options, **readout)
        self.caches = ProcessCache()
        self.objective = self.caches.objective(self.run)
        self.prepared: PreparedModel = prepare(self.run, open_base(self.run))
        set_dropout(self.prepared.loaded.model, 0.0)  # preparing restores that of the checkpoint
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in self.prepared.injection.parameters.values():
                parameter.normal_(0, 0.3)
        base = open_base(self.run)
        # The outermost modules: what is named inside of one would be wrapped twice, never trained.
        heads = [
            module
            for module in base.anatomy.head_modules
            if any(name.startswith(f"{module}.") for name in base.head_parameters)
        ]
        task_type = {"instruction": "CAUSAL_LM", "pair": "SEQ_CLS"}.get(kind)
        common = {"modules_to_save": heads or None, "task_type": task_type}
        configured = methods.configure_method(self.run.method).with_tokenizer(base.tokenizer)
        assert configured.method.peft_export is not None
        self.peft_model: Any = configured.method.peft_export.convert(
            base.model, configured.options, self.prepared.injection, common
        )
        self.batches = self.make_batches()

    def make_batches(self) -> list[tuple[dict[str, Tensor], Tensor]]:
        """Inputs and labels of each step."""
        loaded, source = self.prepared.loaded, self.caches.source(self.run.model)
        examples = self.caches.parts(self.run).train
        data = self.caches.encode(examples, loaded, source, 64, self.objective.encoder("train"))
        batches = []
        for step in range(STEPS):
            rows = [(step * 7 + i) % len(examples) for i in range(6)]
            padded = pad_batch(data, rows, loaded.pad_id)
            batch = {name: torch.from_numpy(values) for name, values in padded.items()}
            if "labels" not in batch:
                batch["labels"] = torch.tensor([data.labels[i] for i in rows])
            batches.append((batch, batch.pop("labels")))
        return batches

    def compute_loss(self, model: Any, batch: dict[str, Tensor], labels: Tensor) -> Tensor:
        if not self.objective.generates:
            return F.cross_entropy(model(**batch).logits, labels)
        batch = {name: values.flatten(0, -2) for name, values in batch.items()}
        labels = labels.flatten(0, -2)
        logits = model(**batch, use_cache=False).logits[:, -labels.shape[1] :]
        return F.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX
        )

    def train(self, model: Any, optimizer: torch.optim.Optimizer) -> list[float]:
        """The losses of all steps."""
        model.train()
        losses = []
        for batch, labels in self.batches:
            loss = self.compute_loss(model, batch, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses


def make_optimizer(model: Any, decay: float, **slower: float) -> torch.optim.Optimizer:
    """AdamW; ``slower``: by the end of a tensor's name, what divides its learning rate."""
    groups = [
        {"params": [parameter], "lr": RATE / slower.get(name.rpartition(".")[2], 1.0)}
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    return torch.optim.AdamW(groups, weight_decay=decay)


@pytest.mark.parametrize(("family", "form", "kind"), PLACES)
def test_training_is_that_of_peft(
    family: str, form: str, kind: str, tiny_model: Any, tmp_path: Path
) -> None:
    """As many trained parameters, and the same losses of twenty steps."""
    pair = Pair(family, FORMS[form], kind, tiny_model, tmp_path)
    model, peft_model = pair.prepared.loaded.model, pair.peft_model
    counts = [
        sum(parameter.numel() for parameter in side.parameters() if parameter.requires_grad)
        for side in (model, peft_model)
    ]
    assert counts[0] == counts[1]
    # PEFT's normalisations are the sums of what is frozen and of what is trained here, which
    # would decay apart; and behind Gemma's table, which multiplies its rows, PEFT has these.
    scale = float(getattr(model.get_input_embeddings(), "embed_scale", 1.0))
    decay = 0.01 if scale == 1.0 and form != "layer_norm" else 0.0
    slower = dict.fromkeys(("P", "W3", "b3_bias"), scale)
    actual = pair.train(model, make_optimizer(model, decay, **slower))
    expected = pair.train(peft_model, make_optimizer(peft_model, decay))
    assert max(actual) - min(actual) > 1e-3
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_loraplus_is_pefts(tiny_model: Any, tmp_path: Path) -> None:
    options = {"rank": 4, "loraplus_lr_ratio": 16.0}
    pair = Pair("bert", ("lora", options), "pair", tiny_model, tmp_path)
    # PEFT gives every vector the fast rate, biases of the head too: they are left out of both.
    for model in (pair.prepared.loaded.model, pair.peft_model):
        # In fp32 Adam turns the rounding of small gradients into steps, at 16 times the rate.
        model.double()
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.requires_grad and parameter.squeeze(0).ndim > 1)
    trained = {n: p for n, p in pair.prepared.trained.items() if p.requires_grad}
    optimizer = make_adamw(trained, 0.0, pair.prepared.injection.learning_rate_factors)
    assert sorted({group["rate_factor"] for group in optimizer.param_groups}) == [1.0, 16.0]
    for group in optimizer.param_groups:
        group["lr"] = RATE * group["rate_factor"]
    peft_optimizer = create_loraplus_optimizer(
        pair.peft_model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=16.0, weight_decay=0.0,
        loraplus_weight_decay=0.0,
    )  # fmt: skip
    losses = pair.train(pair.prepared.loaded.model, optimizer)
    torch.testing.assert_close(
        losses, pair.train(pair.peft_model, peft_optimizer), rtol=0, atol=1e-8
    )


STARTS: dict[str, tuple[dict[str, Any], Any]] = {
    "lora": ({"rank": 8}, peft.LoraConfig(r=8)),
    "loha": ({"rank": 8}, peft.LoHaConfig(r=8)),
    "lokr": ({"rank": 3}, peft.LoKrConfig(r=3)),
    "prompt": (
        {"num_virtual_tokens": 100, "init": "random"},
        peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=100),
    ),
    "p_tuning": (
        {"num_virtual_tokens": 100},
        peft.PromptEncoderConfig(task_type="SEQ_CLS", num_virtual_tokens=100),
    ),
}
"""Our options, and the config with which PEFT draws the same tensors."""


def run_of(tiny_model: Any, folder: Path, method: str, **options: Any) -> Run:
    return tiny_run(tiny_task(folder, "pair"), tiny_model("bert"), method, options=options)


@pytest.mark.parametrize("method", STARTS)
def test_the_start_has_the_distribution_of_pefts(
    method: str, tiny_model: Any, tmp_path: Path
) -> None:
    """Shape by shape of tensors: as many zeros, and the rest is drawn alike."""
    options, config = STARTS[method]
    run = run_of(tiny_model, tmp_path, method, **options)
    parameters = prepare(run, open_base(run)).injection.parameters.values()
    if hasattr(config, "target_modules"):
        config.target_modules = ["query", "value"]
    torch.manual_seed(5)
    peft_model = peft.get_peft_model(open_base(run).model, config)
    peft_parameters = [p for n, p in peft_model.named_parameters() if "classifier" not in n]
    drawn: tuple[dict[tuple[int, ...], list[Tensor]], ...] = ({}, {})
    for by_shape, tensors in zip(drawn, (parameters, peft_parameters), strict=True):
        for tensor in tensors:
            if tensor.requires_grad:
                shape = tuple(n for n in tensor.shape if n > 1)
                by_shape.setdefault(shape, []).append(tensor.detach().flatten())
    assert drawn[0].keys() == drawn[1].keys()
    for shape in drawn[0]:
        values, peft_values = (torch.cat(by_shape[shape]) for by_shape in drawn)
        assert (
            values.numel() == peft_values.numel()
            and (values == 0).sum() == (peft_values == 0).sum()
        )
        assert ks_2samp(values.numpy(), peft_values.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("tokens", [3, 20])
def test_text_prompts_are_the_embeddings_of_the_text_as_pefts(
    tokens: int, tiny_model: Any, tmp_path: Path
) -> None:
    text = "The cat sat on the mat"
    options = {"num_virtual_tokens": tokens, "init": "text", "init_text": text}
    run = run_of(tiny_model, tmp_path, "prompt", **options)
    parameters = prepare(run, loaded := open_base(run)).injection.parameters
    config = peft.PromptTuningConfig(
        task_type="SEQ_CLS",
        num_virtual_tokens=tokens,
        num_transformer_submodules=1,
        token_dim=32,
        prompt_tuning_init="TEXT",
        prompt_tuning_init_text=text,
        tokenizer_name_or_path=run.model.name,
    )
    peft_weight = peft.PromptEmbedding(config, loaded.model.get_input_embeddings()).embedding.weight
    assert torch.equal(next(iter(parameters.values())), peft_weight)


def test_vocabulary_prompts_are_embeddings_of_random_tokens(
    tiny_model: Any, tmp_path: Path
) -> None:
    run = run_of(tiny_model, tmp_path, "prompt", num_virtual_tokens=60, init="vocabulary")
    (prompt,) = prepare(run, loaded := open_base(run)).injection.parameters.values()
    words = loaded.model.get_input_embeddings().weight
    same = (prompt[:, None, :] == words[None]).all(-1)
    rows = same.float().argmax(1)
    assert same.any(1).all()  # every virtual token is the embedding of a real one
    assert len({*rows.tolist()}) > 30 and 0.35 < rows.float().mean() / len(words) < 0.65


def test_text_and_its_option_go_together(tiny_model: Any, tmp_path: Path) -> None:
    for options in ({"init": "text"}, {"init_text": "some words"}):
        run = run_of(tiny_model, tmp_path, "prompt", **options)
        with pytest.raises(MethodError, match="go together"):
            prepare(run, open_base(run))


@pytest.mark.parametrize(
    ("number", "factor", "factors"),
    [(768, -1, (24, 32)), (384, -1, (16, 24)), (127, -1, (1, 127)), (128, 4, (4, 32)),
     (768, 10, (8, 96)), (3072, 50, (48, 64))],
)  # fmt: skip
def test_lokr_factorises_as_peft(number: int, factor: int, factors: tuple[int, int]) -> None:
    assert lokr.factorise(number, factor) == factors == factorization(number, factor)
