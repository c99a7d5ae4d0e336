"""The page of the site on methods, from the method files."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification

from paretune import methods
from paretune.methods import baselines
from paretune.methods.core.options import parse_options
from paretune.methods.peft.supported import REFUSED, SUPPORTED
from paretune.models.structure.anatomy import read_anatomy

BENCH = Path(__file__).parents[1] / "bench"
LABEL = re.compile(
    r"^(Source|Equation|Shapes(?: for .*?)?|Trained parameters|Start|Merges|When|Example): "
)
LAYERS = """\
## Which layers, and at which rank

Every method that stands beside layers has the option `layers`: `all`; ranges of numbers from 0
(`0-3`, `0-1,10-11`); `upper:4`; `lower:4`. Layers are counted through the whole model, a
translation model's encoder first. Below the lowest trained layer there is no backward pass, and
nothing is kept for one: `upper:4` of twelve computes and holds less than four layers spread over
the model, and `plan` knows it. A stack may name a method several times, with layers that have none
in common. PEFT's adapters get `layers_to_transform`.

LoRA, DoRA, LoHa and LoKr take PEFT's options, and a test compares what they choose with PEFT:

- `target_modules`: a list of roles (`query`, `key`, `value`, `attention_output`,
  `feed_forward_up`, `feed_forward_down`, `all_linear`: every linear layer of
  all encoder and decoder layers) and of ends of modules' names. By default (`null`)
  it is `[query, value]`, and in decoder-only models `all_linear`. A fused projection has all its
  roles. A single text with
  signs of a regular expression (`".*layer\\.[0-5]\\..*(query|value)"`) must match a whole name.
- `exclude_modules`: what of these is left out, in the same way.
- `layers_to_transform`: numbers of layers, from 0, through encoder and decoder.
- `rank_pattern`, `alpha_pattern`: `{"layer.11.*": 16}`: rank and alpha of the layers whose name
  ends so (a regular expression, whole between dots); the first that matches counts. `alpha: null`
  is twice `rank`, whatever `rank_pattern` says.
- `modules_to_save`: modules of the base that are trained in full beside the updates, by the ends of
  their names (`embeddings` is the table of words). Counted, saved, merged and exported to PEFT;
  the base's own weights of these are kept beside, as in PEFT. The head
  is always trained. Refused: weights that two modules have in common, as a translator's tables.

What matches nothing is an error. An export to PEFT has the same layers, ranks and alphas, each by
its full name."""
"""What the methods that stand beside layers have in common."""
STACKED = {"stack": {"methods": ["lora", "bitfit"]}}
"""Options for those that cannot do without."""


def page() -> str:
    """The whole page."""
    trained = {
        name: module
        for name, module in sorted(methods.available().items())
        if isinstance(module, methods.Method) and name not in baselines.METHODS
    }
    counts = bert_base_counts(trained)
    lines = [
        "# The methods",
        "",
        "Trained parameters: of the method alone, with its default options, on BERT-base (110 M);",
        "the head comes on top. Below: [what they cost](#what-they-cost); at the",
        "end: [the tuners of peft](#peft-tuners), which a study may name beside these.",
        "",
        "| method | trained on BERT-base | merges | lines of code |",
        "|---|---|---|---|",
    ]
    for name, module in trained.items():
        merges = "yes" if module.merge is not None else "no"
        shown = f"[{module.title}](#{anchor(module)}) `{name}`"
        lines.append(f"| {shown} | {counts[name]} | {merges} | {code_lines(module)} |")
    lines += ["", *LAYERS.split("\n"), "", *cost_section()]
    for module in trained.values():
        lines += ["", *section(module)]
    lines += ["", "## Baselines", "", escaped(str(baselines.__doc__)), *peft_section()]
    return "\n".join(lines) + "\n"


def section(module: methods.Method) -> list[str]:
    """What one file says of its method."""
    title, _, rest = inspect.getdoc(file_of(module)).partition("\n")  # type: ignore[union-attr]
    lines = [f"## {module.title}", "", title, ""]
    defaults = module.options().model_dump()
    for block in rest.strip().split("\n\n"):
        for label, text in labelled(block):
            lines.append(f"- **{label}**: {text}" if label else text)
        lines.append("")
    if defaults:
        shown = ", ".join(f"`{name}: {value_of(value)}`" for name, value in defaults.items())
        lines += [f"Options: {shown}.", ""]
    if rates := module.learning_rates:
        listed = _format_rates(rates)
        if in_decoders := module.decoder_learning_rates:
            listed += f"; of decoders {_format_rates(in_decoders)}"
        lines += [f"Learning rates on trial: {listed}.", ""]
    return lines[:-1]


def peft_section() -> list[str]:
    """The tuners of ``peft``: which train here, and why the others do not."""
    lines = [
        "## peft tuners",
        "",
        "`{name: peft:vera, r: 64}` trains `peft`'s own VeRA, under its own option names and with",
        "its own defaults, one run at a time, beside the methods above, by the same protocol. The",
        "head is trained, saved and exported as with every method; a study file gives no",
        "`modules_to_save`. `target_modules` is [as above](#which-layers-and-at-which-rank), roles",
        "and regular expressions too; `layers_to_transform` counts the layers of any architecture.",
        "The initial weights depend on the run's seed alone. `init_lora_weights: pissa_niter_16`",
        "draws too, and PEFT would draw anew: it is exported merged or as our own folder. No tuner",
        "may be in a stack: it takes the place of layers that others stand beside.",
        "",
        "Rates on trial: where a method is above, as there; otherwise a factor of three around the",
        "rate of its paper or of `peft`'s own comparison, looked at on a small classifier;",
        "low-rank and orthogonal updates of decoders learn at those of `lora` there. Where a",
        "method wants a rate that no head survives, the head learns at a share of it. All of them",
        "can be exported merged, but BEFT where the model has no biases (ModernBERT).",
        "",
        "| name | by default beside | learning rates | head's share |",
        "|---|---|---|---|",
    ]
    for name, known in sorted(SUPPORTED.items()):
        rates = _format_rates(known.rates)
        if known.decoder_rates != known.rates:
            rates += f"; of decoders {_format_rates(known.decoder_rates)}"
        targets = ", ".join(known.targets) if known.targets else "query, value; in decoders all"
        needs = f" (with `{known.required_option}`)" if known.required_option else ""
        lines.append(
            f"| `peft:{name}` {known.title}{needs} | {targets} "
            f"| {rates} | {known.head_learning_rate_factor:g} |"
        )
    lines += ["", "Those that do not train here:", ""]
    lines += [f"- `peft:{name}`: {reason}." for name, reason in sorted(REFUSED.items())]
    return lines


def _format_rates(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


def cost_section() -> list[str]:
    """What the methods cost, as bench/method_costs.py measured it last."""
    bench = runpy.run_path(str(BENCH / "method_costs.py"))
    told = json.loads((BENCH / "method_costs.json").read_text(encoding="utf-8"))
    return [
        "## What they cost",
        "",
        "Measured by `bench/method_costs.py`: each in a process of its own, `peft` in turn where",
        "it has the method; above 1, paretune needs less. Peak memory counts from before the model",
        "is loaded. An answer is the whole batch without gradients.",
        "",
        *bench["tables"](told),
    ]


def labelled(block: str) -> list[tuple[str, str]]:
    """``Source: ...`` and its like, each with its text in one line; "" for plain text."""
    found: list[tuple[str, str]] = []
    for line in block.split("\n"):
        match = LABEL.match(line)
        if match:
            found.append((match[1], line[match.end() :]))
        elif found:
            label, text = found[-1]
            found[-1] = (label, f"{text} {line.strip()}")
        else:
            found.append(("", line))
    return [(label, escaped(text)) for label, text in found]


def escaped(text: str) -> str:
    """Markdown's own signs as they stand, and code as code."""
    text = text.replace("``", "`")
    text = re.sub(r":mod:`paretune\.methods\.(?:\w+\.)?(\w+)`", r"`\1`", text)
    return text.replace("*", r"\*").replace("<-", "&larr;")


def value_of(value: Any) -> str:
    """An option's default as YAML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, bool):  # 0.0 and 1.0 are equal to them
        return str(value).lower()
    return "null" if value is None else str(value)


def bert_base_counts(trained: dict[str, methods.Method]) -> dict[str, str]:
    """Trained parameters of each method by its own formula."""
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=2)).eval()
    parts = read_anatomy(model)
    counts = {}
    for name, module in trained.items():
        options = parse_options(name, module.options, STACKED.get(name, {}))
        number = module.count_parameters(model, parts, options)
        note = " (lora, bitfit)" if name in STACKED else ""
        counts[name] = f"{number:,}{note}"
    return counts


def file_of(method: methods.Method) -> ModuleType:
    """The module that a method is the value of."""
    return sys.modules[f"paretune.methods.{method.name}"]


def code_lines(module: methods.Method) -> int:
    """Lines of the file without its docstring and blank lines."""
    file = file_of(module)
    source = inspect.getsource(file)
    body = source.replace(f'"""{file.__doc__}"""', "", 1)
    return sum(bool(line.strip()) for line in body.splitlines())


def anchor(module: methods.Method) -> str:
    """Where a heading's link leads."""
    return re.sub(r"[^a-z0-9 -]", "", module.title.lower()).replace(" ", "-")
