"""The program on a card that loads an export, and what the card says of its base model."""

from __future__ import annotations

import json
import pprint
from pathlib import Path

from paretune.exporting.restore import TaskSignature
from paretune.exporting.usage_snippets import UsageSnippet
from paretune.models.config import load_config
from paretune.models.sources.local_paths import is_local_folder
from paretune.models.sources.package import find_package_folder
from paretune.models.sources.resolve import ModelSource
from paretune.models.structure.heads import AUTO_CLASSES, choose_auto_class
from paretune.models.structure.topologies import topology_of
from paretune.reporting.text.escape import markdown_code

ADAPTERS = ("peft", "lora")
"""Forms that are an adapter in PEFT's files, on a base that is found elsewhere."""
_PEFT_CLASSES = {
    "SEQ_CLS": "AutoPeftModelForSequenceClassification",
    "SEQ_2_SEQ_LM": "AutoPeftModelForSeq2SeqLM",
    "CAUSAL_LM": "AutoPeftModelForCausalLM",
}
FOLDER = 'FOLDER = "."  # where this card lies'
LOADING = {
    "peft": """{labels}base = {auto}.from_pretrained(
    {base}, dtype=torch.float32{names}
)
model = PeftModel.from_pretrained(base, FOLDER).eval()
tokenizer = AutoTokenizer.from_pretrained(FOLDER)""",
    "merged": """model = {auto}.from_pretrained(FOLDER).eval()
tokenizer = AutoTokenizer.from_pretrained(FOLDER)""",
    "paretune": "model, tokenizer = paretune.load(FOLDER)",
}
"""By form."""
IMPORTS = {
    "peft": (
        "import torch",
        "from peft import PeftModel",
        "from transformers import {auto}, AutoTokenizer",
    ),
    "merged": ("from transformers import {auto}, AutoTokenizer",),
    "paretune": ("import paretune",),
}
FROM_PACKAGE = (
    ("from importlib.util import find_spec", "from pathlib import Path"),
    """package = find_spec({module!r})  # {install}
base_folder = Path(package.submodule_search_locations[0]){inside}
""",
)
FROM_CONFIG = (
    ("import json", "from pathlib import Path"),
    """adapter = json.loads((Path(FOLDER) / "adapter_config.json").read_text("utf-8"))
base_folder = adapter["base_model_name_or_path"]  # elsewhere: the place of your copy
""",
)
"""How a card finds the base of an adapter: imports, and lines of code."""
NEW_HEAD = """logging.getLogger("transformers.modeling_utils").addFilter(
    lambda record: "newly initialized" not in record.getMessage()  # the adapter brings that head
)"""
STANDARD = ("json", "logging", "re", "importlib", "pathlib")
"""Modules of the standard library that a card may import."""


def render_program(
    form: str,
    task: TaskSignature,
    source: ModelSource,
    usage: UsageSnippet,
    pad_id: int | None = None,
) -> str:
    """A whole program: imports, loading, ``predict`` and a call of it, run in the export's
    folder.

    Args:
        pad_id: the padding token of a base whose config names none.
    """
    auto_class = _auto_class(task, source)
    form = "peft" if form in ADAPTERS else form
    imports = [*(line.format(auto=auto_class) for line in IMPORTS[form]), *usage.imports]
    lines = [FOLDER]
    extra_imports: tuple[str, ...]
    base = "base_folder"
    if form == "peft":
        if _in_package(source):
            extra_imports, find_base = FROM_PACKAGE[0], _package_lines(source)
        elif source.revision is None:
            extra_imports, find_base = FROM_CONFIG
        else:
            extra_imports, find_base = (), ""
            base = f"{source.name!r}, revision={source.revision!r}"
        imports += extra_imports
        lines += ["", find_base.rstrip()] if find_base else []
        if task.objective.draws_head:
            imports.append("import logging")
            lines.append(NEW_HEAD)
    labels, names = _label_lines(task)
    if pad_id is not None:
        names += f",\n    pad_token_id={pad_id}"
    loading = LOADING[form].format(auto=auto_class, base=base, labels=labels, names=names)
    lines += [loading, "", "", usage.code, "", "", f"print(predict({usage.example!r}))"]
    standard = {line for line in imports if line.split()[1].split(".")[0] in STANDARD}
    others = sorted(set(imports) - standard, key=_import_order)
    blank = [""] if standard else []
    return "\n".join([*sorted(standard, key=_import_order), *blank, *others, "", *lines])


def render_loading_lines(form: str, task: TaskSignature, folder: Path) -> tuple[str, ...]:
    """The import and the line that loads an export by the class of its library for any base."""
    place, objective = repr(str(folder)), task.objective
    peft_class = _PEFT_CLASSES.get(objective.peft_task_type or "")
    if form == "peft" and peft_class is not None:
        labels = f", num_labels={len(task.labels)}" if objective.problem_type else ""
        return (
            f"from peft import {peft_class}",
            f"model = {peft_class}.from_pretrained({place}{labels})",
        )
    if form == "merged":
        auto_class = AUTO_CLASSES[objective.head].name
        return (
            f"from transformers import {auto_class}",
            f"model = {auto_class}.from_pretrained({place})",
        )
    if form == "paretune":
        return "import paretune", f"model, tokenizer = paretune.load({place})"
    return (f"# the program in {folder / 'README.md'} loads it",)


def _auto_class(task: TaskSignature, source: ModelSource) -> str:
    topology = topology_of(load_config(source))
    return choose_auto_class(topology, task.objective.head).name


def missing_pad_id(source: ModelSource, pad_id: int) -> int | None:
    """The padding token that the config of a decoder does not name; None where it does."""
    config = load_config(source)
    named = getattr(config, "pad_token_id", None) is not None
    return None if named or topology_of(config).pooled_token != -1 else pad_id


def _import_order(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line


def _label_lines(task: TaskSignature) -> tuple[str, str]:
    """Lines that name an adapter's labels, and the arguments that pass them to the base.

    A ``config.json`` beside the adapter would hold them, but ``transformers`` would then take the
    folder for a whole model.
    """
    if task.objective.problem_type is None:
        return "", ""
    listed = pprint.pformat(list(task.labels), width=90, compact=True)
    arguments = (
        "id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)}"
    )
    return f"labels = {listed}\n", f",\n    {arguments}"


def describe_labels(form: str, task: TaskSignature, pad_id: int | None = None) -> list[str]:
    """Where the label names of an adapter are, as paragraphs; none for forms that store them."""
    if form not in ADAPTERS or task.objective.problem_type is None:
        return []
    return [
        "",
        "PEFT's files have no place for the names of labels: the program gives them to the base. "
        "`AutoPeftModelForSequenceClassification.from_pretrained(FOLDER, "
        "id2label=dict(enumerate(labels))"
        f"{'' if pad_id is None else f', pad_token_id={pad_id}'})` has them too.",
    ]


def describe_base(form: str, source: ModelSource) -> list[str]:
    """What the card says of the base model, as paragraphs; none if the export does not need it."""
    if form == "merged":
        return []
    files = f"The sha256 of its files is `{source.weights_hash}`."
    elsewhere = "That machine finds it by its hash; elsewhere: `paretune.load(FOLDER, base=PLACE)`."
    in_config = (
        "`adapter_config.json` names where it lay then (`base_model_name_or_path`), so "
        "`AutoPeftModel` finds it there only. That is a path of one machine: before this folder is "
        "given to others, write there what they can open, a name of the hub or nothing "
        '(`""`); `PeftModel.from_pretrained(base, FOLDER)` does not read it.'
    )
    if _in_package(source):
        where = f"The base lies in the Python package `{_pinned(source)}`."
        location = "paretune finds it where it is installed." if form == "paretune" else in_config
    elif source.revision is None:
        where = (
            "The base is a folder of the machine that exported this, and has no public name: "
            "whoever opens it elsewhere needs a copy of that folder."
        )
        location = elsewhere if form == "paretune" else in_config
    else:
        name = markdown_code(source.name)
        where = f"The base is {name} of the hub at revision `{source.revision}`."
        location = ""
    precision = _describe_quantisation(form, source)
    return ["", " ".join(part for part in (where, location, files, precision) if part)]


def _describe_quantisation(form: str, source: ModelSource) -> str:
    """How the base was held in training, where that is not how its files have it."""
    if source.quantisation is None:
        return ""
    sentence = f"The adapter was trained with its linear layers in {source.quantisation}"
    if form not in ADAPTERS:
        return f"{sentence}, and paretune holds them so again."
    return (
        f"{sentence}, rounded by paretune. The program opens the base as it is published, on which "
        "its answers are somewhat others; those of the run are those of `--form paretune` and "
        "`--form merged`."
    )


def warn_before_publishing(
    form: str, folder: Path, target: Path, source: ModelSource
) -> tuple[str, ...]:
    """Warn that an export names a path of this machine, and say how to change it."""
    if form not in ADAPTERS or not (is_local_folder(source) or _in_package(source)):
        return ()
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return (
        f"Before you publish it: base_model_name_or_path in {target / 'adapter_config.json'} is a "
        f"path of this machine ({config['base_model_name_or_path']}), since the base has no "
        f"name on "
        'the hub. Write there a name that others can open, or "": '
        "PeftModel.from_pretrained(base, FOLDER) does not read it, only AutoPeftModel does.",
    )


def _in_package(source: ModelSource) -> bool:
    return source.name.startswith("package:")


def _pinned(source: ModelSource) -> str:
    name = source.name.removeprefix("package:").replace("_", "-")
    return f"{name}=={source.revision}" if source.revision else name


def _package_lines(source: ModelSource) -> str:
    """Lines that find the model's folder inside an installed package, without paretune."""
    name = source.name.removeprefix("package:")
    # Not the source's folder: converted weights are in a cache of this machine.
    folder, _ = find_package_folder(name)
    module = name.replace("-", "_")
    parts = folder.parts
    inside = parts[len(parts) - parts[::-1].index(module) :]
    return FROM_PACKAGE[1].format(
        module=module,
        # Without a distribution, its name need not be one of the registry.
        install=f"pip install {_pinned(source)}"
        if source.revision
        else "a package without version",
        inside="".join(f" / {part!r}" for part in inside),
    )
