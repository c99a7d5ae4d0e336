"""What LoHa costs beside the frozen layer: one projection, forward and backward, in turn.

Extra time is the time of the layer with LoHa less that of the layer alone, in the same round.
PEFT builds the whole change of the weight; paretune sends the tokens through its Khatri-Rao factors
where that is cheaper (src/paretune/methods/loha.py). Before a time is taken, outputs and gradients
must agree. PEFT's LoRA stands beside them as a measure.

    python bench/loha_extra.py
    python bench/loha_extra.py --tokens 1024 --width 384 --ranks 2,4,8 --bf16
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import peft
import torch
from torch import Tensor, nn
from turns import about, format_quartiles, in_turn, quartiles, save

from paretune.methods.core.peft_export import copy_run_tensor
from paretune.methods.core.run_axis import Fleet
from paretune.methods.loha import LohaUpdate, Options

SEQUENCES = 16
"""As many rows as a batch has; the tokens are shared out among them."""
NAMES = {"A1": "hada_w1_a", "B1": "hada_w1_b", "A2": "hada_w2_a", "B2": "hada_w2_b"}


class One(nn.Module):
    """A model of one frozen layer, for PEFT."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, tokens, width), both."""
        out: Tensor = self.layer(x)
        return out


def sides(width: int, rank: int) -> tuple[dict[str, Callable[[Tensor], Tensor]], Any, LohaUpdate]:
    """The layer alone, and with each of the methods; all with the same weights."""
    torch.manual_seed(0)
    plain = One(width)
    ours = LohaUpdate(plain.layer, Options(rank=rank), Fleet(), [torch.Generator().manual_seed(1)])
    with torch.no_grad():
        ours.B2.normal_(0, 0.05)

    def base() -> One:
        model = One(width)
        model.load_state_dict(plain.state_dict())
        return model

    config = peft.LoHaConfig(r=rank, alpha=2 * rank, target_modules=["layer"])
    theirs: Any = peft.get_peft_model(base(), config)
    theirs_layer = theirs.base_model.model.layer
    for own, name in NAMES.items():
        copy_run_tensor(getattr(theirs_layer, name)["default"], getattr(ours, own))
    as_lora = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["layer"])
    lora = peft.get_peft_model(base(), as_lora)
    calls: dict[str, Callable[[Tensor], Tensor]] = {
        "layer": plain,
        "peft LoHa": theirs,
        "paretune LoHa": lambda x: ours(x, plain(x)),
        "peft LoRA": lora,
    }
    return calls, theirs_layer, ours


def agree(
    calls: dict[str, Callable[[Tensor], Tensor]], theirs_layer: Any, ours: LohaUpdate, x: Tensor
) -> float:
    """Largest distance of outputs, and of gradients as a share of their size, in fp32."""
    outputs = []
    for name in ("peft LoHa", "paretune LoHa"):
        out = calls[name](x)
        out.square().mean().backward()
        outputs.append(out.detach())
    apart = [float((outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max())]
    for own, name in NAMES.items():
        mine, theirs = getattr(ours, own).grad[0], getattr(theirs_layer, name)["default"].grad
        apart.append(float((mine - theirs).abs().max() / theirs.abs().max()))
    return max(apart)


def measure(width: int, rank: int, tokens: int, rounds: int, *, bf16: bool) -> dict[str, Any]:
    """One width and rank."""
    calls, theirs_layer, ours = sides(width, rank)
    x = torch.randn(SEQUENCES, tokens // SEQUENCES, width, requires_grad=True)
    upstream = torch.randn_like(x)
    apart = agree(calls, theirs_layer, ours, x)
    if apart > 1e-4:
        raise SystemExit(f"the two LoHas differ by {apart:.1e} of their size: no times are told")

    def both_ways(call: Callable[[Tensor], Tensor]) -> None:
        x.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else nullcontext():
            out = call(x)
        out.backward(upstream.to(out.dtype))

    seconds = in_turn({name: partial(both_ways, call) for name, call in calls.items()}, rounds)
    alone = seconds.pop("layer")
    extra = {n: [a - b for a, b in zip(s, alone, strict=True)] for n, s in seconds.items()}
    return {
        "width": width,
        "rank": rank,
        "tokens": tokens,
        "precision": "bf16" if bf16 else "fp32",
        "layer_seconds": quartiles(alone),
        "extra_seconds": {name: quartiles(kept) for name, kept in extra.items()},
        "ratio": ratio_of_medians(extra["peft LoHa"], extra["paretune LoHa"]),
        "apart": apart,
    }


def ratio_of_medians(slow: list[float], fast: list[float]) -> list[float]:
    """Of all rounds, with the quartiles of the same over rounds drawn anew.

    Not of each round: an extra time is a difference, and near 0 a ratio of two says nothing.
    """
    rounds = np.random.default_rng(0).integers(0, len(slow), (2000, len(slow)))
    drawn = np.median(np.array(slow)[rounds], 1) / np.median(np.array(fast)[rounds], 1)
    middle = float(np.median(slow) / np.median(fast))
    return [middle, *(float(v) for v in np.quantile(drawn, (0.25, 0.75)))]


def tables(case: dict[str, Any]) -> Iterator[str]:
    """What was found, as text."""
    layer = [1e3 * value for value in case["layer_seconds"]]
    yield (
        f"\nwidth {case['width']}, rank {case['rank']}, {case['tokens']} tokens, "
        f"{case['precision']}: the layer alone {format_quartiles(layer)} ms"
    )
    for name, value in case["extra_seconds"].items():
        yield f"  {name:<14} {format_quartiles([1e3 * v for v in value])} ms more"
    yield f"  extra time of PEFT's LoHa / paretune's: {format_quartiles(case['ratio'])}"


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=2240)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--ranks", default="8,4", help="comma-separated")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast alone; else both")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    results = about(threads=options.threads, rounds=options.rounds, cases=[])
    for bf16 in (True,) if options.bf16 else (False, True):
        for rank in options.ranks.split(","):
            case = measure(options.width, int(rank), options.tokens, options.rounds, bf16=bf16)
            results["cases"].append(case)
            print("\n".join(tables(case)), flush=True)
            save(results, options.json)


if __name__ == "__main__":
    main()
