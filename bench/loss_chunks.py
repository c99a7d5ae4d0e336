"""Memory and time of the loss over a large vocabulary: all logits at once, or a chunk at a time.

Each side in a process of its own: cross-entropy of random tokens, forward and backward, with a
frozen matrix of words in bf16 (LoRA), or one that is trained, in fp32 under bf16 autocast (full).

    python bench/loss_chunks.py
    python bench/loss_chunks.py --vocabulary 53794 --tokens 1200
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path


def one(options: argparse.Namespace) -> dict[str, float]:
    """Bytes above those before the loss, and processor seconds."""
    import torch
    import torch.nn.functional as F

    from paretune.objectives.losses.chunked_cross_entropy import chunked_cross_entropy

    torch.set_num_threads(options.threads)
    draw = torch.Generator().manual_seed(0)
    trained = options.one[1] == "trained"
    shape = (options.vocabulary, options.width)
    weight = torch.randn(shape, generator=draw, dtype=torch.float32 if trained else torch.bfloat16)
    weight.requires_grad_(trained)
    hidden = torch.randn(options.tokens, options.width, generator=draw).bfloat16().requires_grad_()
    tokens = torch.randint(options.vocabulary, (options.tokens,), generator=draw)

    def step(states: torch.Tensor, labels: torch.Tensor) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if options.one[0] == "chunks":
                loss = chunked_cross_entropy(states, weight, None, labels)[0]
            else:
                logits = F.linear(states, weight)
                loss = F.cross_entropy(logits.float(), labels, reduction="sum")
        loss.backward()
        hidden.grad = weight.grad = None
        return float(loss.detach()) / len(labels)

    step(hidden[:2], tokens[:2])  # libraries are loaded and warm
    with Path("/proc/self/clear_refs").open("w") as mark:
        mark.write("5")
    before, begun = read_status("VmRSS"), time.process_time()
    loss = step(hidden, tokens)
    seconds = time.process_time() - begun
    return {"bytes": read_status("VmHWM") - before, "seconds": seconds, "loss": loss}


def read_status(key: str) -> int:
    """Bytes of this process, of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"no {key} in /proc/self/status: this needs Linux")


def main() -> None:
    """Measure both sides, frozen and trained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=262_144)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--tokens", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options)))
        return
    print(f"{options.tokens} tokens, {options.vocabulary} words, width {options.width}")
    for weights in ("frozen", "trained"):
        for side in ("whole", "chunks"):
            names = ("vocabulary", "width", "tokens", "threads")
            flags = [f"--{name}={getattr(options, name)}" for name in names]
            command = [sys.executable, __file__, "--one", side, weights, *flags]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            answer = json.loads(done.stdout)
            print(
                f"  {weights:<8} {side:<7} {answer['bytes'] / 2**20:7.0f} MiB, "
                f"{answer['seconds']:.1f} s of the processor, loss {answer['loss']:.5f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
