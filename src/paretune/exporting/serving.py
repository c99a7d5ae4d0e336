"""What a card says of serving a language model elsewhere: commands for vLLM and llama.cpp."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from paretune.exporting.exported_run import ExportedRun
from paretune.file_names import make_file_name
from paretune.models.config import load_config
from paretune.models.structure.topologies import DECODER, topology_of

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for ``--max-lora-rank`` (its ``LoRAConfig``); 16 by default."""


def describe_serving(export: ExportedRun, folder: Path) -> list[str]:
    """A section with commands, as lines; none for models that are no decoders with their LM head.

    Args:
        folder: of the export, with its files.
    """
    if topology_of(load_config(export.source)) is not DECODER or export.form == "paretune":
        return []
    if export.task.objective.head != "causal_lm":
        return []
    name = make_file_name(*export.run.cell).replace("%", "-")
    base = shlex.quote(_name_base(export))
    lines = [
        "## Serving it",
        "Commands for the folder where this card lies; none was run here.",
        "",
    ]
    if export.form == "merged":
        commands = [
            f"vllm serve . --served-model-name {name}",
            f"python convert_hf_to_gguf.py . --outfile {name}.gguf    # of llama.cpp",
        ]
        return [*lines, "```sh", *commands, "```", ""]
    rank = _lora_rank(folder)
    if rank is None:
        return [
            *lines[:1],
            "vLLM and llama.cpp take LoRA adapters only, and this is another one: export it as "
            "`--form lora` where PEFT can convert it, or `--form merged`.",
            "",
        ]
    allowed = next((r for r in VLLM_RANKS if r >= rank), None)
    commands = [f"python convert_lora_to_gguf.py . --base {base}    # of llama.cpp"]
    if allowed is not None:
        serve = f"vllm serve {base} --enable-lora --lora-modules {name}=. --max-lora-rank {allowed}"
        commands.insert(0, serve)
    else:
        lines.insert(2, f"Its rank is {rank}, and vLLM takes {VLLM_RANKS[-1]} at most.")
    if export.source.quantisation is not None:
        lines.insert(
            2,
            f"The adapter was trained on the base in {export.source.quantisation}: on the base as "
            "it is published its answers are somewhat others, which nobody has scored.",
        )
    return [*lines, "```sh", *commands, "```", ""]


def _lora_rank(folder: Path) -> int | None:
    """The rank of a LoRA adapter; None of other adapters, and of what vLLM does not take."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if config["peft_type"] != "LORA" or config.get("use_dora") or config.get("modules_to_save"):
        return None
    return int(max([config["r"], *config.get("rank_pattern", {}).values()]))


def _name_base(export: ExportedRun) -> str:
    source = export.source
    return source.name if source.revision is not None else "BASE_FOLDER"
