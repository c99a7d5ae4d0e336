"""Fine-tuning methods: one file each, which ends in one value, ``METHOD``.

:class:`Method` says what such a value is, and any file (``lora.py``) how one is written. Beside the
methods there are ``core`` (their parts), ``baselines`` (which are always compared with them) and
``peft`` (the tuners of Hugging Face's ``peft``). The package lists its own folders; others add
methods by the entry-point group ``paretune.methods``.

More than fifteen files, since each method has one. Importing this package imports no torch.
"""

from paretune.methods.core.method import (
    Baseline,
    ConfiguredBaseline,
    ConfiguredMethod,
    Head,
    Method,
    Rates,
    Trains,
    always,
)
from paretune.methods.core.options import MethodOptions
from paretune.methods.core.registry import (
    available,
    broken_plugins,
    check_options,
    configure,
    configure_method,
    get,
    refusal,
)
from paretune.methods.core.titles import title_of
from paretune.methods.peft.supported import PEFT_PREFIX

__all__ = [
    "PEFT_PREFIX",
    "Baseline",
    "ConfiguredBaseline",
    "ConfiguredMethod",
    "Head",
    "Method",
    "MethodOptions",
    "Rates",
    "Trains",
    "always",
    "available",
    "broken_plugins",
    "check_options",
    "configure",
    "configure_method",
    "get",
    "refusal",
    "title_of",
]
