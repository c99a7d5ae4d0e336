"""Hashes that identify studies and runs, and private seeds. No torch.

What is hashed here is on disk in every store: a change makes all stored runs unknown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from paretune.study.protocol import Generation

OMITTED_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "training": {
        "activation_checkpointing": False,
        "label_smoothing": None,
        "backend": "fast",
    },
    "task": {
        "features": None,
        "train_target": None,
        "test_target": None,
        "test_shifted": None,
        "test_shifted_target": None,
        "source_lang": None,
        "target_lang": None,
        "question": None,
        "split": "published",
        "readout": None,
        "prompt": None,
        "label_texts": None,
        "length_normalisation": None,
        "loss_on": None,
        "drop_unlabelled": False,
    },
    "model": {"source_prefix": None, "quantisation": None},
    "generation": {"stop": []},
    "method": {"readout": None},
    "protocol": {"outer": "auto", "race": "off"},
    "limits": dict.fromkeys(
        ("max_memory", "max_time", "max_bytes", "max_parameters", "max_latency")
    ),
}
"""Settings that are left out of canonical forms at these values.

A new setting is added here with the value that means what was done before it: so a new version of
paretune finds the runs that an older one made.
"""


def omit_defaults(form: dict[str, Any]) -> dict[str, Any]:
    """A canonical form of a study or a run without :data:`OMITTED_DEFAULTS`."""

    def reduce(section: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in section.items() if k not in defaults or v != defaults[k]}

    reduced: dict[str, Any] = {
        key: reduce(form[key], defaults)
        for key, defaults in OMITTED_DEFAULTS.items()
        if form.get(key) is not None
    }
    if "tasks" in form:  # a study's form
        reduced["tasks"] = [reduce(task, OMITTED_DEFAULTS["task"]) for task in form["tasks"]]
        reduced["models"] = [reduce(model, OMITTED_DEFAULTS["model"]) for model in form["models"]]
        reduced["methods"] = [
            reduce(method, OMITTED_DEFAULTS["method"]) for method in form["methods"]
        ]
    whole = {**form, **reduced}
    for absent in ("forgetting", "limits"):
        if not whole.get(absent):
            whole.pop(absent, None)
    usual = reduce(Generation().model_dump(mode="json"), OMITTED_DEFAULTS["generation"])
    if whole.get("generation") in (None, usual):
        whole.pop("generation", None)
    return whole


def digest(value: Any) -> str:
    """Sha256 of plain values in canonical JSON (sorted keys, no spaces, UTF-8)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed of 63 bits for one purpose (``init``, ``order``, ``dropout``) of a run's seed.

    Private generators are seeded with this, so that draws for one purpose never move another's.
    """
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
