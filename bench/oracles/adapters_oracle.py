"""What the `adapters` library makes of small models with fixed weights, for a test to compare with.

`adapters` pins an older transformers than paretune works with, so it runs in an environment of its
own (bench/oracles/README.md) and what it gave is kept in tests/oracle/, in float64: for each method
its tensors under the symbols of the papers, logits, the gradient of each tensor, and the losses of
some steps. This file imports nothing of paretune.

    python bench/oracles/adapters_oracle.py            # writes tests/oracle/adapters.*
    python bench/oracles/adapters_oracle.py --check    # compares with what is written
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import platform
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import adapters
import numpy as np
import torch
import torch.nn.functional as F
import transformers
from adapters import (
    ConfigUnion,
    DoubleSeqBnConfig,
    IA3Config,
    LoRAConfig,
    MAMConfig,
    ParBnConfig,
    PrefixTuningConfig,
    SeqBnConfig,
    UniPELTConfig,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

HOME = Path(__file__).parents[2] / "tests" / "oracle"
WIDTH, LAYERS, LABELS, VOCABULARY = 12, 2, 3, 30
STEPS, RATE, DECAY = 6, 0.02, 0.01
ROWS = 4
LENGTHS = {"full": (7, 7, 7, 7), "padded": (7, 5, 4, 2)}

COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "num_labels": LABELS,
    "layer_norm_eps": 1e-12,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": COMMON | {"max_position_embeddings": 10, "type_vocab_size": 2, "pad_token_id": 0},
    # The first two positions of a RoBERTa are never used.
    "xlm-roberta": COMMON
    | {"max_position_embeddings": 12, "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0,
       "eos_token_id": 2},
}  # fmt: skip
CASES: dict[str, Callable[[], Any]] = {
    "houlsby": lambda: DoubleSeqBnConfig(reduction_factor=3),
    "pfeiffer": lambda: SeqBnConfig(reduction_factor=3),
    "adapterdrop": lambda: SeqBnConfig(reduction_factor=3, leave_out=[0]),
    "parallel": lambda: ParBnConfig(reduction_factor=2),
    "prefix": lambda: PrefixTuningConfig(flat=True, prefix_length=3),
    "prefix_projected": lambda: PrefixTuningConfig(prefix_length=3, bottleneck_size=5),
    "mam": lambda: MAMConfig(
        PrefixTuningConfig(prefix_length=3, bottleneck_size=5),
        ParBnConfig(reduction_factor=3, scaling=2.5),
    ),
    "unipelt": lambda: UniPELTConfig(
        PrefixTuningConfig(flat=True, prefix_length=3),
        SeqBnConfig(reduction_factor=3),
        LoRAConfig(r=2, alpha=6),
    ),
    "lora": lambda: LoRAConfig(r=2, alpha=6),
    "ia3": lambda: IA3Config(),
    "ia3_attention": lambda: IA3Config(intermediate_lora=False),
}
ELSEWHERE = ("houlsby", "pfeiffer", "prefix_projected", "unipelt")
"""What is also asked of the second family: one of each place where a method can stand."""


def main() -> None:
    """Ask for everything; write it down, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is written")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # While a method is added it warns that none is active yet; that each was, the gradients show.
    logging.getLogger("adapters").setLevel(logging.ERROR)
    oracle: dict[str, Any] = {
        "written": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": {
            "python": platform.python_version(),
            **{n: version(n) for n in ("adapters", "transformers", "torch", "numpy")},
        },
        "training": {"optimizer": "AdamW", "lr": RATE, "weight_decay": DECAY, "steps": STEPS},
        "families": {},
    }
    tensors: dict[str, Tensor] = {}
    for family, config in FAMILIES.items():
        batches = {kind: batch(family, kind) for kind in LENGTHS}
        entry: dict[str, Any] = {"config": config, "batches": batches, "cases": {}}
        weights = base_weights(family)
        # Drawn as float32, so that they are kept in half the room without loss.
        tensors |= {f"{family}/base/{n}": w.float() for n, w in weights.items()}
        for case in CASES if family == "bert" else ELSEWHERE:
            entry["cases"][case], kept = write_request(family, case, weights, batches)
            tensors |= {f"{family}/{case}/{n}": t for n, t in kept.items()}
        oracle["families"][family] = entry
    if arguments.check:
        check(oracle, tensors)
    else:
        write(oracle, tensors)


def write_request(
    family: str, case: str, weights: dict[str, Tensor], batches: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What one method gave: numbers for the page, and tensors."""
    entry: dict[str, Any] = {"config": plain(CASES[case]()), "logits": {}, "losses": {}}
    kept: dict[str, Tensor] = {}
    for kind, batch_rows in batches.items():
        model = adapted(family, case, weights)
        symbols = dict(named(model, lambda p: p.detach()))
        counted = sum(p.numel() for p in trained(model))
        assert sum(t.numel() for t in symbols.values()) == counted, "a tensor has no symbol"
        inputs = {n: torch.tensor(v) for n, v in batch_rows.items() if n != "labels"}
        labels = torch.tensor(batch_rows["labels"])
        kept |= {f"value/{n}": t.float() for n, t in symbols.items()}
        optimizer = torch.optim.AdamW(trained(model), lr=RATE, weight_decay=DECAY)
        losses = []
        for step in range(STEPS):
            logits = model(**inputs).logits
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            if step == 0:
                entry["logits"][kind] = logits.tolist()
                slopes = named(model, lambda p: p.grad.clone())
                kept |= {f"gradient/{kind}/{n}": t for n, t in slopes}
            optimizer.step()
            losses.append(loss.item())
        entry["parameters"], entry["losses"][kind] = counted, losses
    return entry, kept


def batch(family: str, kind: str) -> dict[str, Any]:
    """Tokens, mask and labels; the tokens of both batches are the same where both have any."""
    draw = np.random.Generator(np.random.PCG64(5))
    ids = draw.integers(3, VOCABULARY, size=(ROWS, max(LENGTHS[kind])))
    mask = np.arange(ids.shape[1])[None] < np.array(LENGTHS[kind])[:, None]
    ids[~mask] = FAMILIES[family]["pad_token_id"]
    entries = {"input_ids": ids.tolist(), "attention_mask": mask.astype(int).tolist()}
    if FAMILIES[family]["type_vocab_size"] > 1:
        entries["token_type_ids"] = (mask & (np.arange(ids.shape[1]) >= 3)).astype(int).tolist()
    return entries | {"labels": [0, 2, 1, 2]}


def base_weights(family: str) -> dict[str, Tensor]:
    """Weights far from trivial: no gain is 1 and no shift 0."""
    draw = np.random.Generator(np.random.PCG64(7))
    entries = {}
    for name, parameter in plain_model(family).named_parameters():
        values = 0.3 * draw.standard_normal(tuple(parameter.shape))
        if name.endswith("LayerNorm.weight"):
            values = 1 + values / 2
        entries[name] = torch.from_numpy(values).float().double()
    return entries


def plain_model(family: str) -> Any:
    """The classifier without any method, in float64."""
    classes = {
        "bert": (transformers.BertConfig, transformers.BertForSequenceClassification),
        "xlm-roberta": (
            transformers.XLMRobertaConfig,
            transformers.XLMRobertaForSequenceClassification,
        ),
    }
    config, model = classes[family]
    return model(config(**FAMILIES[family])).double().eval()


def adapted(family: str, case: str, weights: dict[str, Tensor]) -> Any:
    """The base with the method inside, its tensors drawn and alone to be trained."""
    model = plain_model(family)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    adapters.init(model)
    model.add_adapter(case, config=CASES[case]())
    model.train_adapter(case)
    model.double().eval()
    for parameter in model.classifier.parameters():
        parameter.requires_grad_(False)
    draw = np.random.Generator(np.random.PCG64(11))
    with torch.no_grad():
        for parameter in trained(model):
            values = torch.from_numpy(0.4 * draw.standard_normal(tuple(parameter.shape)))
            # IA3 scales: around 1, not around 0.
            parameter.copy_((values + (case.startswith("ia3"))).float())
    return model


def trained(model: Any) -> list[nn.Parameter]:
    """The tensors of the method, in the order of the model."""
    return [p for p in model.parameters() if p.requires_grad]


def named(model: Any, read: Callable[[Any], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Each trained tensor under the symbol of its paper: `layer/place/symbol`.

    Bottleneck D, U; LoRA A, B; IA3 l; gates w, c; prefixes K, V, or Z, W1, W2 where a network makes
    them. `read` says what of a parameter is wanted: its values or its gradient.
    """
    pool = model.base_model.prefix_tuning.prefix_tunings
    prefixes = [group[key] for group in pool.values() for key in group]
    for prefix in prefixes:
        if isinstance(prefix.control_trans, nn.Parameter):
            flat = read(prefix.control_trans).view(prefix.config.prefix_length, 2 * LAYERS, WIDTH)
            for i in range(LAYERS):
                yield f"{i}/prefix/K", flat[:, 2 * i].clone()
                yield f"{i}/prefix/V", flat[:, 2 * i + 1].clone()
            continue
        first, _, second = prefix.control_trans
        yield "prefix/Z", read(prefix.wte.weight)
        yield "prefix/W1", read(first.weight)
        yield "prefix/W1_bias", read(first.bias)
        pairs = zip(
            read(second.weight).split(2 * WIDTH), read(second.bias).split(2 * WIDTH), strict=True
        )
        for i, (weight, bias) in enumerate(pairs):
            yield f"{i}/prefix/W2", weight.clone()
            yield f"{i}/prefix/W2_bias", bias.clone()
    for i, layer in enumerate(model.base_model.encoder.layer):
        attention = layer.self_attention.self
        for gate in attention.prefix_tuning.prefix_gates.values():
            yield from of_gate(f"{i}/prefix/gate", gate, read)
        places = {
            "query": attention.query,
            "key": attention.key,
            "value": attention.value,
            "up": layer.intermediate.dense,
        }
        for place, linear in places.items():
            for part in linear.loras.values():
                if not hasattr(part, "lora_A"):
                    yield f"{i}/{place}/l", read(part.lora_B).flatten()
                    continue
                yield f"{i}/{place}/A", read(part.lora_A)
                yield f"{i}/{place}/B", read(part.lora_B)
                if part.use_gating:
                    yield from of_gate(f"{i}/{place}/gate", part.gate, read)
        for place, holder in (("attention", layer.self_attention.output), ("down", layer.output)):
            for part in holder.adapters.values():
                yield f"{i}/{place}/D", read(part.adapter_down[0].weight)
                yield f"{i}/{place}/D_bias", read(part.adapter_down[0].bias)
                yield f"{i}/{place}/U", read(part.adapter_up.weight)
                yield f"{i}/{place}/U_bias", read(part.adapter_up.bias)
                if part.use_gating:
                    yield from of_gate(f"{i}/{place}/gate", part.gate, read)


def of_gate(
    place: str, gate: nn.Linear, read: Callable[[Any], Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """A gate's two tensors, as `named` gives them."""
    yield f"{place}/w", read(gate.weight).flatten()
    yield f"{place}/c", read(gate.bias)


def plain(config: Any) -> Any:
    """For the reader: a config's class, with what differs from the class's own defaults."""
    if isinstance(config, ConfigUnion):
        return {type(config).__name__: [plain(one) for one in config.configs]}
    usual = type(config)().to_dict()
    changed = {n: v for n, v in config.to_dict().items() if v != usual[n]}
    return {type(config).__name__: changed}


def write(oracle: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Both files; lists of numbers stay on one line."""
    HOME.mkdir(parents=True, exist_ok=True)
    page = re.sub(
        r"\[[^\[\]{}]+\]",
        lambda entries: re.sub(r"\s+", " ", entries[0]).replace("[ ", "[").replace(" ]", "]"),
        json.dumps(oracle, indent=1),
    )
    assert json.loads(page) == oracle
    (HOME / "adapters.json").write_text(page + "\n", encoding="utf-8")
    save_file({n: t.contiguous() for n, t in tensors.items()}, HOME / "adapters.safetensors")
    print(f"{len(tensors)} tensors in {HOME}")


def check(oracle: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Compare with what is written: a newer `adapters` may compute something else."""
    kept = json.loads((HOME / "adapters.json").read_text(encoding="utf-8"))
    print("written with", kept["versions"], "and here", oracle["versions"])
    stored = load_file(HOME / "adapters.safetensors")
    assert stored.keys() == tensors.keys()
    worst = max((t - stored[n]).abs().max().item() for n, t in tensors.items())
    for family, entry in oracle["families"].items():
        for case, batch_rows in entry["cases"].items():
            other = kept["families"][family]["cases"][case]
            for what in ("logits", "losses"):
                for kind, values in batch_rows[what].items():
                    apart = np.abs(np.array(values) - np.array(other[what][kind])).max()
                    worst = max(worst, float(apart))
    print(f"largest difference: {worst:.2g}")
    if worst > 1e-9:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
