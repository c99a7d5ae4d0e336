"""How far do two fresh processes agree on the peak memory of the same run?

Each process loads a model, trains it for some steps and evaluates it, and reports the peak of
each phase above its state before the model was loaded. The spread is (largest - smallest) /
median. `--no-settle` and `--no-warm` show what paretune's two precautions are worth: giving free
pages back between phases, and warming the libraries up before the baseline.

    python bench/memory_repeatability.py --processes 7
    python bench/memory_repeatability.py --full --processes 7
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any


def measure_alone(options: argparse.Namespace) -> dict[str, Any]:
    """The run that is repeated: an encoder of the given width, random weights, one thread."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from paretune.measuring import memory

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    if options.no_settle:
        memory.release_memory = lambda: False
    if not options.no_warm:
        memory.warm_libraries()
    meter = memory.PeakMeter("cpu")
    meter.baseline()
    with meter.phase("load"):
        config = BertConfig(
            hidden_size=options.width,
            num_hidden_layers=options.layers,
            num_attention_heads=options.width // 32,
            intermediate_size=4 * options.width,
        )
        model = BertForSequenceClassification(config)
        if not options.full:
            for parameter in model.bert.parameters():
                parameter.requires_grad_(False)
            for layer in model.bert.encoder.layer:
                for module in (layer.attention.self.query, layer.attention.self.value):
                    module.bias.requires_grad_(True)  # gradients reach every layer, as with LoRA
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    order = torch.Generator().manual_seed(options.seed)
    # The longest batch comes first, then lengths as they fall.
    lengths = [
        options.length,
        *torch.randint(16, options.length, (options.steps - 1,), generator=order).tolist(),
    ]
    with meter.phase("train"):
        model.train()
        for length in lengths:
            ids = torch.randint(0, 30000, (options.batch, length), generator=order)
            loss = model(input_ids=ids, labels=torch.zeros(options.batch, dtype=torch.long)).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    del loss
    with meter.phase("evaluation"), torch.no_grad():
        model.eval()
        for length in lengths:
            model(input_ids=torch.randint(0, 30000, (options.batch, length), generator=order))
    return meter.result()


def main() -> None:
    """Run the processes one after the other and print the spread of each phase."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=7)
    parser.add_argument("--full", action="store_true", help="train every weight")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-settle", action="store_true")
    parser.add_argument("--no-warm", action="store_true")
    parser.add_argument("--alone", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measure_alone(argparse.Namespace(**options.alone))))
        return
    from turns import in_fresh_process

    results = []
    for number in range(options.processes):
        results.append(in_fresh_process(__file__, vars(options)))
        texts = {k: f"{v['peak_bytes'] / 2**20:.1f}" for k, v in results[-1]["phases"].items()}
        print(f"process {number + 1}: MiB {texts}", flush=True)
    print(f"counter: {results[0]['peak_counter']}")
    for phase in results[0]["phases"]:
        peaks = sorted(r["phases"][phase]["peak_bytes"] / 2**20 for r in results)
        spread = 100 * (peaks[-1] - peaks[0]) / statistics.median(peaks)
        print(
            f"{phase:>10}: median {statistics.median(peaks):8.1f} MiB, {peaks[0]:.1f} to "
            f"{peaks[-1]:.1f}, spread {spread:.2f}%"
        )


if __name__ == "__main__":
    main()
