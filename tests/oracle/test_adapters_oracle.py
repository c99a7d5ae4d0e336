"""Our methods beside what the `adapters` library gave (bench/oracles/adapters_oracle.py).

`adapters` pins an older transformers, so its numbers are kept beside this file: the same small
models, batches and adapter tensors, in float64. Two differences are meant, and each is shown to be
the only one:

- UniPELT: its gates average over padding as well, as the authors' code does, so that a longer batch
  changes the answer; ours leave padding out. On a batch without padding they are the same.
- IA3: it scales the inner feed-forward layer before the activation; the paper (equation in section
  3.3), PEFT and we scale behind it. In the attention they are the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification

from paretune import methods
from paretune.methods import unipelt
from paretune.methods.core.options import parse_options
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import read_anatomy

HOME = Path(__file__).parent
TOLD = json.loads((HOME / "adapters.json").read_text(encoding="utf-8"))
TENSORS = load_file(HOME / "adapters.safetensors")

OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "houlsby": ("houlsby", {"reduction_factor": 3}),
    "pfeiffer": ("pfeiffer", {"reduction_factor": 3}),
    "adapterdrop": ("adapterdrop", {"reduction_factor": 3, "drop": 1}),
    "parallel": ("parallel", {"reduction_factor": 2}),
    "prefix": ("prefix", {"num_virtual_tokens": 3}),
    "prefix_projected": (
        "prefix",
        {"num_virtual_tokens": 3, "prefix_projection": True, "encoder_hidden_size": 5},
    ),
    "mam": (
        "mam",
        {"num_virtual_tokens": 3, "prefix_projection": True, "encoder_hidden_size": 5,
         "reduction_factor": 3, "scaling": 2.5},
    ),
    # Theirs was given alpha 6, which its gated LoRA does not read: the gate is the scale.
    "unipelt": ("unipelt", {"rank": 2, "num_virtual_tokens": 3, "reduction_factor": 3}),
    "lora": ("lora", {"rank": 2, "alpha": 6.0}),
    "ia3": ("ia3", {}),
    "ia3_attention": ("ia3", {}),
}  # fmt: skip
RECORDED = [(family, case) for family, entry in TOLD["families"].items() for case in entry["cases"]]
APART = {("unipelt", "padded"), ("ia3", "full"), ("ia3", "padded")}
"""Where theirs is meant to be another function."""
SAME = [
    (family, case, kind)
    for family, case in RECORDED
    for kind in ("full", "padded")
    if (case, kind) not in APART
]


class Case:
    """Our method on the recorded base, with the recorded tensors inside."""

    def __init__(
        self,
        family: str,
        case: str,
        *,
        dtype: torch.dtype = torch.float64,
        attention: str = "sdpa",
        **changes: Any,
    ) -> None:
        self.name, self.family = f"{family}/{case}", TOLD["families"][family]
        self.recorded_case = self.family["cases"][case]
        config = AutoConfig.for_model(family, **self.family["config"])
        self.model: Any = AutoModelForSequenceClassification.from_config(config)
        self.model.set_attn_implementation(attention)
        start = f"{family}/base/"
        base = {n.removeprefix(start): t for n, t in TENSORS.items() if n.startswith(start)}
        self.model.load_state_dict(base, strict=True)
        self.anatomy = read_anatomy(self.model)
        method, defaults = OURS[case]
        self.method = methods.get(method)
        self.options = parse_options(method, self.method.options, {**defaults, **changes})
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.injection = self.method.inject(
            self.model, self.anatomy, self.options, PassContext(), 1
        )
        self.model.to(dtype).eval()
        self.ours = {self.symbol(name): p for name, p in self.injection.parameters.items()}
        if case == "ia3":  # where theirs stands before the activation, ours stands behind it
            self.ours = {n.replace("down", "up"): p for n, p in self.ours.items()}
        if case == "ia3_attention":  # ours stays at its start, 1, in the feed-forward part
            self.ours = {n: p for n, p in self.ours.items() if "down" not in n}
        values = self.recorded("value")
        assert self.ours.keys() == values.keys()
        with torch.no_grad():
            for name, parameter in self.ours.items():
                parameter.copy_(values[name].reshape(parameter.shape))

    def symbol(self, name: str) -> str:
        """The recorded name of one of our tensors."""
        if name.startswith("prefix_front."):
            return name.replace("prefix_front.", "prefix/")
        for i, layer in enumerate(self.anatomy.layers):
            places = {
                "query": layer.self_attention.query,
                "key": layer.self_attention.key,
                "value": layer.self_attention.value,
                "attention": layer.self_attention.output,
                "down": layer.down,
                "prefix": layer.self_attention.module,
            }
            for place, module in places.items():
                if name.startswith(f"{module}."):
                    _, _, own = name.removeprefix(f"{module}.").partition(".")
                    return f"{i}/{place}/{own.replace('.', '/').replace('c_bias', 'c')}"
        raise AssertionError(name)

    def recorded(self, what: str) -> dict[str, Tensor]:
        start = f"{self.name}/{what}/"
        return {n.removeprefix(start): t for n, t in TENSORS.items() if n.startswith(start)}

    def logits(self, kind: str) -> Tensor:
        batch = self.family["batches"][kind]
        inputs = {name: torch.tensor(rows) for name, rows in batch.items() if name != "labels"}
        logits: Tensor = self.model(**inputs).logits
        return logits

    def loss(self, kind: str) -> Tensor:
        labels = torch.tensor(self.family["batches"][kind]["labels"])
        return F.cross_entropy(self.logits(kind), labels)

    def losses(self, kind: str) -> Iterator[float]:
        training = TOLD["training"]
        optimizer = torch.optim.AdamW(
            self.ours.values(), lr=training["lr"], weight_decay=training["weight_decay"]
        )
        for _ in range(training["steps"]):
            loss = self.loss(kind)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.item()

    def apart(self, kind: str) -> float:
        """How far our logits are from theirs."""
        theirs = torch.tensor(self.recorded_case["logits"][kind], dtype=torch.float64)
        return (self.logits(kind) - theirs).abs().max().item()


@pytest.mark.parametrize(("family", "case", "kind"), SAME)
def test_same_logits_gradients_and_losses(family: str, case: str, kind: str) -> None:
    mine = Case(family, case)
    assert mine.apart(kind) < 1e-12
    mine.loss(kind).backward()
    gradients = mine.recorded(f"gradient/{kind}")
    assert gradients.keys() == mine.ours.keys()
    for name, theirs in gradients.items():
        assert theirs.abs().max() > 1e-7, name  # nothing agrees because it does nothing
        ours = mine.ours[name].grad
        assert ours is not None
        torch.testing.assert_close(ours.reshape(theirs.shape), theirs, rtol=0, atol=1e-12)
    theirs = mine.recorded_case["losses"][kind]
    assert theirs[0] - theirs[-1] > 1e-2  # it does train
    torch.testing.assert_close(list(mine.losses(kind)), theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("family", "case", "kind"), SAME)
def test_same_logits_in_fp32(family: str, case: str, kind: str, attention: str) -> None:
    assert Case(family, case, dtype=torch.float32, attention=attention).apart(kind) < 1e-5


@pytest.mark.parametrize(("family", "case"), RECORDED)
def test_as_many_trained_parameters(family: str, case: str) -> None:
    mine = Case(family, case)
    count = mine.method.count_parameters(mine.model, mine.anatomy, mine.options)
    if case == "ia3_attention":
        count -= sum(p.numel() for p in mine.injection.parameters.values())
        count += sum(p.numel() for p in mine.ours.values())
    assert count == mine.recorded_case["parameters"]


@pytest.mark.parametrize("family", TOLD["families"])
def test_unipelts_gates_differ_by_padding_alone(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Case(family, "unipelt")
    assert mine.apart("padded") > 1e-3
    # Told that everything is text, our gates average over padding too.
    monkeypatch.setattr(unipelt.TextMask, "note_mask", lambda *_: None)
    counting = Case(family, "unipelt")
    assert counting.apart("padded") < 1e-12
    torch.testing.assert_close(
        list(counting.losses("padded")),
        counting.recorded_case["losses"]["padded"],
        rtol=0,
        atol=1e-10,
    )


@pytest.mark.parametrize("kind", ["full", "padded"])
def test_ia3_differs_by_the_side_of_the_activation_alone(kind: str) -> None:
    mine = Case("bert", "ia3")
    assert mine.apart(kind) > 1e-2
    for i, layer in enumerate(mine.anatomy.layers):
        scale = mine.ours[f"{i}/up/l"]
        before = scale.detach().clone()
        scale.data.fill_(1.0)
        mine.model.get_submodule(layer.up[0]).register_forward_hook(
            lambda module, inputs, out, before=before: out * before
        )
    assert mine.apart(kind) < 1e-12
