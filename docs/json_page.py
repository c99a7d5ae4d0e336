"""The page of the site on ``--json``, from the fields that the code has."""

from __future__ import annotations

from json_shapes import COMMON, OWN_SHAPES, SHAPES

from paretune.reporting.json.json_fields import FIELDS, FORMAT, OPEN

# The script is not called json.py: beside itself it would stand before Python's own json.


def page() -> str:
    """The whole page."""
    lines = [
        "# A study as JSON",
        "",
        "`paretune report STUDY --json` gives the whole study as one JSON object, on standard",
        "output or, with `--output FILE`, in a file ([other verbs](#the-other-verbs)): what was",
        "asked for, every cell with its score and interval, comparisons with the baselines, costs,",
        "learning curves, environment and failures. It is written whole or not at all, and the",
        "same records give the same bytes. It works while the study runs.",
        "",
        "```python",
        "from pathlib import Path",
        "from paretune.reporting.json.study_json import read_json",
        "",
        'found = read_json(Path("study.json"))  # checked: another format is refused',
        'for cell in found["tasks"][0]["cells"]:',
        '    print(cell["method"], cell["score"])',
        "```",
        "",
        "- What is not there is `null`, never 0; NaN and infinity are never written.",
        "- Numbers are not rounded. Sizes are bytes, times are seconds.",
        "- Scores are means over seeds; their intervals are over seeds and test examples",
        "  ([how](../how-it-works/statistics.md)). Costs are solo measurements",
        "  ([how](../how-it-works/measuring.md)).",
        "- Under `runs` each score is one run's, so one seed: `score` and `selection` have their",
        "  number of examples and an interval over these. `scores` and `curve` have `n` and",
        "  `examples` and no interval: they are there to be looked into, not to be concluded from.",
        "- Names are as the study has them: whoever shows them must escape them.",
        f"- `format` is {FORMAT}. It grows when a field is removed or means something else; new",
        "  fields may come without it, so an older file may lack some.",
        "",
        "| field | meaning |",
        "|---|---|",
    ]
    for path, meaning in FIELDS.items():
        free = "; its keys are those of the records" if path in OPEN else ""
        lines.append(f"| `{path}` | {meaning}{free} |")
    return "\n".join([*lines, "", *_verbs(), ""])


def _verbs() -> list[str]:
    """The objects of all other verbs."""
    lines = [
        "## The other verbs",
        "",
        "Every verb takes `--json` and gives one object on standard output, or in `--output FILE`",
        "where it makes no file or folder of its own. What is told meanwhile, errors and the exit",
        "code are as without it; messages go to standard error. `null`, sizes and times are as",
        f"above. Each has the fields {', '.join(f'`{name}`' for name in COMMON)}, and:",
        "",
        "| verb | field | meaning |",
        "|---|---|---|",
    ]
    for verb, shape in SHAPES.items():
        lines += [f"| `{verb}` | `{name}` | {meaning} |" for name, meaning in shape.items()]
    lines += ["", "Without those common fields:", ""]
    return lines + [f"- `{verb}`: {meaning}" for verb, meaning in OWN_SHAPES.items()]
