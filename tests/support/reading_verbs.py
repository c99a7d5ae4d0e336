"""The commands that read a store, with the arguments that they need beside the study."""

from __future__ import annotations

READING_VERBS = {
    "report": (),
    "recommend": (),
    "compare": ("lora", "head_only"),
    "why": ("lora", "head_only"),
    "watch": ("--once",),
    "verify": (),
    "export": ("--method", "lora", "--output", "exported"),
    "track": ("--to", "tensorboard", "--output", "mirror"),
}
