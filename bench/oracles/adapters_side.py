"""The `adapters` library's side of bench/adapters_steps.py, in an environment of its own.

It reads what to train from a file and makes its turns when it is told to, one line each; every
answer is a line of JSON. This file imports nothing of paretune.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import adapters
import torch
import torch.nn.functional as F
import transformers
from adapters import (
    DoubleSeqBnConfig,
    IA3Config,
    LoRAConfig,
    ParBnConfig,
    PrefixTuningConfig,
    SeqBnConfig,
)
from torch import Tensor

CONFIGS = {
    "lora": lambda: LoRAConfig(r=8, alpha=16),
    "ia3": lambda: IA3Config(),
    "pfeiffer": lambda: SeqBnConfig(reduction_factor=16),
    "houlsby": lambda: DoubleSeqBnConfig(reduction_factor=16),
    "parallel": lambda: ParBnConfig(reduction_factor=2),
    "prefix": lambda: PrefixTuningConfig(flat=True, prefix_length=20),
}
"""Those that both libraries have, with paretune's own defaults."""


def open_model(request: dict[str, Any]) -> Any:
    """The checkpoint with the method in it, at the base model's own answers where it can start so.

    ``adapters`` draws the last matrix of its bottlenecks away from 0; it is set to 0, so that the
    first losses of both sides can be compared.
    """
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
        request["folder"],
        hidden_dropout_prob=request["dropout"],
        attention_probs_dropout_prob=request["dropout"],
    )
    adapters.init(model)
    model.add_adapter("it", config=CONFIGS[request["method"]]())
    model.train_adapter("it")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".adapter_up." in name:
                parameter.zero_()
    for name, parameter in model.named_parameters():
        if name in request["head"]:
            parameter.requires_grad_(True)
    return model


def batches(request: dict[str, Any]) -> list[dict[str, Tensor]]:
    """Examples of each batch, still as lists: padding is part of a step."""
    return [
        {"ids": part["ids"], "types": part["types"], "labels": torch.tensor(part["labels"])}
        for part in request["batches"]
    ]


def padded(sequences: list[list[int]]) -> Tensor:
    """(sequences, longest), with 0 behind the end."""
    out = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        out[row, : len(sequence)] = torch.tensor(sequence)
    return out


def main() -> None:
    """Make the side, and serve."""
    logging.getLogger("adapters").setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(request["threads"])
    model = open_model(request)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=request["rate"], fused=True)
    input_batches = batches(request)
    cast = request["precision"] == "bf16"

    def loss_of(part: dict[str, Any]) -> Tensor:
        inputs = {"input_ids": padded(part["ids"]), "token_type_ids": padded(part["types"])}
        inputs["attention_mask"] = padded([[1] * len(ids) for ids in part["ids"]])
        with torch.autocast("cpu", dtype=torch.bfloat16) if cast else nullcontext():
            logits = model(**inputs).logits
        return F.cross_entropy(logits.float(), part["labels"])

    model.eval()
    with torch.no_grad():
        first = [float(loss_of(part)) for part in input_batches]
    model.train()
    versions = {"adapters": adapters.__version__, "transformers": transformers.__version__}
    versions["torch"] = torch.__version__
    answer = {"trained": sum(p.numel() for p in parameters), "losses": first, "versions": versions}
    print(json.dumps(answer), flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        for part in input_batches:
            loss = loss_of(part)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            float(loss.detach())
        print(json.dumps(time.perf_counter() - begun), flush=True)


if __name__ == "__main__":
    main()
