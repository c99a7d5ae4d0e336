"""Refuse growth: ``make check`` runs it. A budget is only ever lowered.

    python dev/check_budgets.py

``BUDGETS`` has what is counted, what is allowed today, and where it shall go. Whoever brings a
count down lowers its budget in the same commit.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from structure import find_bindings, find_import_circles, parse_files

ROOT = Path(__file__).parents[1]
PRONOUNS = frozenset(
    ("own", "one", "ones", "other", "others", "theirs", "ours", "mine", "known", "more", "built")
)
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?([\w.]+)`")

BUDGETS = {
    # name: (allowed, target)
    "core lines": (62_609, 48_000),
    "core files": (298, 297),
    "core functions": (3_146, 2_700),
    "import circles": (0, 0),
    "pronouns as names": (0, 0),
    "class names twice": (0, 0),
    "names in docstrings that do not exist": (0, 0),
    "paretune_slovene lines": (4_529, 4_474),
    "tests lines": (47_605, 36_000),
    "bench and dev lines": (7_692, 7_481),
    "docs words": (26_290, 26_000),
    "log words": (3_968, 3_825),
}


def main() -> None:
    """Print each count; exit with 1 if one is above its budget."""
    sys.setrecursionlimit(10_000)
    counts = count_all()
    for name, (allowed, target) in BUDGETS.items():
        sign = "ABOVE" if counts[name] > allowed else ""
        print(f"{name:40}{counts[name]:8,} of {allowed:8,} (target {target:7,}) {sign}")
    if any(counts[name] > allowed for name, (allowed, _) in BUDGETS.items()):
        sys.exit("A budget is exceeded: delete what the change replaces.")


def count_all() -> dict[str, int]:
    """Every count of :data:`BUDGETS`."""
    core_folder = ROOT / "src" / "paretune"
    core, slovene = parse_files(core_folder), parse_files(ROOT / "src" / "paretune_slovene")
    nodes = [node for tree in core.values() for node in ast.walk(tree)]
    classes = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    bindings = [name for tree in core.values() for _, name in find_bindings(tree)]
    return {
        "core lines": count_lines(core),
        "core files": len(core),
        "core functions": sum(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for n in nodes),
        "import circles": len(find_import_circles(core, core_folder)),
        "pronouns as names": sum(name.strip("_") in PRONOUNS for name in bindings),
        "class names twice": sum(count > 1 for count in classes.values()),
        "names in docstrings that do not exist": len(list(find_missing_names(core))),
        "paretune_slovene lines": count_lines(slovene),
        "tests lines": count_lines(parse_files(ROOT / "tests")),
        "bench and dev lines": sum(count_lines(parse_files(ROOT / f)) for f in ("bench", "dev")),
        "docs words": sum(count_words(path) for path in (ROOT / "docs").rglob("*.md")),
        "log words": count_words(ROOT / "dev" / "log.md"),
    }


def count_lines(trees: dict[Path, ast.Module]) -> int:
    """Lines of these files."""
    return sum(len(path.read_bytes().splitlines()) for path in trees)


def count_words(path: Path) -> int:
    """Words of a text, separated by white space."""
    return len(path.read_text(encoding="utf-8").split())


def find_missing_names(trees: dict[Path, ast.Module]) -> Iterator[str]:
    """Cross-references of docstrings whose last part is bound nowhere in the package."""
    names = {name for tree in trees.values() for _, name in find_bindings(tree)}
    names |= (
        set(dir(builtins)) | {path.stem for path in trees} | {path.parent.name for path in trees}
    )
    for path in trees:
        for target in ROLE.findall(path.read_text(encoding="utf-8")):
            is_ours = target.startswith(("paretune", ".")) or "." not in target
            if is_ours and target.rpartition(".")[2] not in names:
                yield f"{path.relative_to(ROOT)}: {target}"


if __name__ == "__main__":
    main()
