"""Count the ideas that a reader pays for, and refuse growth: ``make check`` runs it.

    python dev/check_budgets.py [COUNT]     # with the name of a count also what is counted

An idea is a function, a class, a field that every author of a method has to know, a circle, an
import that hides in a function. Lines are printed and have only a wide ceiling, so that nobody is
paid for joining them. Who brings a count down lowers its budget in the same commit; who needs more
says in ``dev/log.md`` what it buys.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from structure import (
    find_bindings,
    find_deferred_imports,
    find_definitions,
    find_import_circles,
    parse_files,
    walk_functions,
)

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src" / "paretune"
PRONOUNS = frozenset(
    ("own", "one", "ones", "other", "others", "theirs", "ours", "mine", "known", "more", "built")
)
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?([\w.]+)`")
PAGES = (ROOT / "AGENTS.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / "extend").glob("*.md"))
"""Pages for contributors: the names on them are those of the source."""
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MARK = re.compile(
    r"^(?P<heading>#+ )|\*\*(?P<package>\w+)/\*\*"
    r"|(?<!`)`(?P<name>[\w./]*[\w/])(?:\(\.\.\.\))?`(?!`)",
    re.MULTILINE,
)
"""On a page: a heading, the package that the next sentences are about, a path or a name."""
SUFFIXES = frozenset((".cff", ".md", ".py", ".sh", ".toml", ".yaml", ".yml"))
MAX_BODY_LINES = 60

BUDGETS = {
    # name: (allowed, target)
    "functions and classes": (3_056, 2_700),
    "private functions called once": (220, 200),
    "bodies over 60 lines": (15, 15),
    "verbs": (18, 18),
    "fields of Method": (22, 24),
    "fields of Objective": (24, 24),
    "deferred imports": (28, 60),
    "import circles": (0, 0),
    "pronouns as names": (0, 0),
    "class names twice": (0, 0),
    "names in docs that do not exist": (0, 0),
    "docs words": (27_730, 26_000),
    "core lines": (59_090, 54_000),
    "tests lines": (45_170, 36_000),
}


def main() -> None:
    """Print each count; exit with 1 if one is above its budget."""
    sys.setrecursionlimit(10_000)
    exceeded = False
    counted = count_all()
    for name, (allowed, target) in BUDGETS.items():
        entries = counted[name]
        count = entries if isinstance(entries, int) else len(entries)
        sign = "ABOVE" if count > allowed else ""
        print(f"{name:40}{count:8,} of {allowed:8,} (target {target:7,}) {sign}")
        if name in sys.argv[1:] and not isinstance(entries, int):
            print(*(f"    {entry}" for entry in entries), sep="\n")
        exceeded |= count > allowed
    print(f"{'bench and dev lines':40}{count_lines(ROOT / 'bench') + count_lines(ROOT / 'dev'):8,}")
    if exceeded:
        sys.exit("A budget is exceeded: delete what the change replaces.")


def count_all() -> dict[str, int | list[str]]:
    """Each count of :data:`BUDGETS`: a number, or what is counted."""
    core = parse_files(CORE)
    nodes = [node for tree in core.values() for node in ast.walk(tree)]
    classes = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    ideas = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return {
        "functions and classes": sum(isinstance(node, ideas) for node in nodes),
        "private functions called once": [*find_once_called(core)],
        "bodies over 60 lines": [*find_long_bodies(core)],
        "verbs": list_verbs(core),
        "fields of Method": list_fields(core, "Method"),
        "fields of Objective": list_fields(core, "Objective"),
        "deferred imports": [*find_deferred_imports(core, CORE)],
        "import circles": [
            " ".join(circle)
            for package in sorted(CORE.parent.glob("paretune*"))
            for circle in find_import_circles(parse_files(package), package)
        ],
        "pronouns as names": [
            f"{path.relative_to(CORE)}:{line} {name}"
            for path, tree in core.items()
            for line, name in find_bindings(tree)
            if name.strip("_") in PRONOUNS
        ],
        "class names twice": [name for name, count in classes.items() if count > 1],
        "names in docs that do not exist": [
            *find_missing_references(core),
            *find_missing_names(PAGES),
        ],
        "docs words": sum(
            len(path.read_text(encoding="utf-8").split()) for path in (ROOT / "docs").rglob("*.md")
        ),
        "core lines": count_lines(CORE),
        "tests lines": count_lines(ROOT / "tests"),
    }


def count_lines(folder: Path) -> int:
    """Lines of a folder's Python files."""
    return sum(len(path.read_bytes().splitlines()) for path in parse_files(folder))


def find_once_called(trees: dict[Path, ast.Module]) -> Iterator[str]:
    """Private functions and methods that their own file names once."""
    for path, tree in trees.items():
        named = Counter(
            node.id if isinstance(node, ast.Name) else node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Name | ast.Attribute)
        )
        for function in walk_functions(tree):
            private = function.name.startswith("_") and not function.name.startswith("__")
            if private and named[function.name] == 1:
                yield f"{path.relative_to(CORE)}:{function.lineno} {function.name}"


def find_long_bodies(trees: dict[Path, ast.Module]) -> Iterator[str]:
    """Functions with more than :data:`MAX_BODY_LINES` lines below their docstring."""
    for path, tree in trees.items():
        for function in walk_functions(tree):
            body = function.body[1:] if ast.get_docstring(function) else function.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > MAX_BODY_LINES:
                yield f"{path.relative_to(CORE)}:{function.lineno} {function.name} ({lines})"


def list_verbs(trees: dict[Path, ast.Module]) -> list[str]:
    """The commands of the core: the keys of ``VERBS``."""
    verbs = []
    for node in ast.walk(trees[CORE / "cli" / "__init__.py"]):
        match node:
            case ast.AnnAssign(target=ast.Name(id="VERBS"), value=ast.Dict(keys=keys)):
                verbs += [ast.unparse(key) for key in keys if key]
    return verbs


def list_fields(trees: dict[Path, ast.Module], class_name: str) -> list[str]:
    """The fields of a class: its annotated names."""
    return [
        ast.unparse(field.target)
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == class_name
        for field in node.body
        if isinstance(field, ast.AnnAssign)
    ]


def find_missing_references(trees: dict[Path, ast.Module]) -> Iterator[str]:
    """Cross-references of docstrings with a part that is defined nowhere in the package."""
    names = list_names(trees) | set(dir(builtins))
    for path in trees:
        for target in ROLE.findall(path.read_text(encoding="utf-8")):
            is_ours = target.startswith(("paretune", ".")) or "." not in target
            if is_ours and not names.issuperset(target.strip(".").split(".")):
                yield f"{path.relative_to(ROOT)}: {target}"


def find_missing_names(pages: Iterable[Path]) -> Iterator[str]:
    """Paths in backticks that are not there, and names that the source does not have.

    Behind ``**data/**``, up to the next package or heading, a name is one of ``data``. Elsewhere it
    may also be a word that the source compares or writes: a key of a file, a column, a state.
    """
    trees = parse_files(CORE.parent)
    packages = {folder.name for folder in CORE.parent.iterdir()}
    names = {
        folder: list_names(select_files(trees, folder)) | packages for folder in CORE.iterdir()
    }
    words = list_names(trees) | list_words(trees)
    for page in pages:
        package = None
        for mark in MARK.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
            name = mark["name"] or ""
            if mark["heading"]:
                package = None
            elif mark["package"]:
                package = CORE / mark["package"]
                if not package.is_dir():
                    yield f"{page.name}: {mark['package']}/"
            elif name.startswith("build/"):
                continue  # a script makes it
            elif "/" in name or Path(name).suffix in SUFFIXES:
                folders = (package or CORE, CORE, CORE.parent, ROOT, page.parent)
                if not any(has_path(folder, name, trees) for folder in folders):
                    yield f"{page.name}: {name}"
            elif not (names.get(package, set()) if package else words).issuperset(name.split(".")):
                yield f"{page.name}: {name}" + (f" in {package.name}/" if package else "")


def select_files(trees: dict[Path, ast.Module], folder: Path) -> dict[Path, ast.Module]:
    """The files in a folder and below."""
    return {path: tree for path, tree in trees.items() if folder in path.parents}


def has_path(folder: Path, name: str, trees: dict[Path, ast.Module]) -> bool:
    """Whether a folder has a path, a module without its suffix, or ``module.name``."""
    if name.endswith("/"):
        return (folder / name).is_dir()
    module, _, defined = name.rpartition(".")
    tree = trees.get(folder / f"{module}.py", ast.Module([], []))
    paths = (folder / name, folder / f"{name}.py")
    return any(path.exists() for path in paths) or defined in find_definitions(tree)


def list_names(trees: dict[Path, ast.Module]) -> set[str]:
    """What files define, their names, and those of their folders."""
    names = {name for tree in trees.values() for name in find_definitions(tree)}
    return names | {path.stem for path in trees} | {path.parent.name for path in trees}


def list_words(trees: dict[Path, ast.Module]) -> set[str]:
    """The texts in files that are one word or a dotted one, with each of its parts."""
    nodes = (node for tree in trees.values() for node in ast.walk(tree))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return {part for text in texts if isinstance(text, str) for part in text.split(".")}


if __name__ == "__main__":
    main()
