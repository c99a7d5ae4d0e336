"""Recipes for clusters that are not here: their files are what they must be, and commands exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from paretune.cli import app

EXAMPLES = Path(__file__).parents[2] / "examples" / "cluster"
IMAGE = "registry.example.org/paretune-study:1"


def parse_command(words: list[str]) -> dict[str, object]:
    """The values that the command line of paretune reads from these words; none is executed.

    Raises:
        typer.Exit, click.UsageError: there is no such command or option.
    """
    group = typer.main.get_command(app)
    assert words[0] == "paretune"
    with group.make_context("paretune", list(words[1:])) as context:
        name, command, rest = group.resolve_command(context, words[1:])
        assert command is not None
        return command.make_context(name, list(rest), parent=context).params


def load(name: str) -> list[dict]:
    return list(YAML(typ="safe", pure=True).load_all((EXAMPLES / name).read_text("utf-8")))


def read_commands(text: str) -> list[list[str]]:
    """Every command of paretune in a shell script, comments included, its lines joined.

    An array stands for the options of :data:`ARRAYS`, any other variable for 1.
    """
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = re.findall(
        r"^(?:[#\s]+|)(paretune (?:work|serve|pack|merge) .*)$", joined, re.MULTILINE
    )
    commands = []
    for line in lines:
        words = shlex.split(line.partition("  #")[0].removesuffix("&"))
        words = [word for word in words if word != "$@"]
        commands.append([w for word in words for w in ARRAYS.get(word, [_without_variable(word)])])
    return commands


ARRAYS = {"${work[@]}": ["--server", "http://a:1", "--token-file", "f"]}


def _without_variable(word: str) -> str:
    return "1" if word.startswith("$") else word


@pytest.fixture(scope="module")
def kubernetes() -> dict[tuple[str, str], dict]:
    return {(one["kind"], one["metadata"]["name"]): one for one in load("kubernetes.yaml")}


def pods(kubernetes) -> dict[str, dict]:
    jobs = {name: one for (kind, name), one in kubernetes.items() if kind == "Job"}
    return {name: one["spec"]["template"]["spec"] for name, one in jobs.items()}


def test_every_container_has_the_image_and_a_command_that_exists(kubernetes) -> None:
    commands = {}
    for pod in pods(kubernetes).values():
        for container in [*pod["containers"], *pod["initContainers"]]:
            assert container["image"] == IMAGE
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in pod["volumes"]}
        (container,) = pod["containers"]
        commands[container["name"]] = parse_command(container["command"])
    server, worker = commands["server"], commands["worker"]
    service = kubernetes["Service", "paretune"]
    (port,) = service["spec"]["ports"]
    assert worker["server"] == f"http://{service['metadata']['name']}:{port['port']}"
    assert server["port"] == port["targetPort"]
    (address,) = pods(kubernetes)["paretune-server"]["containers"][0]["env"]
    assert server["host"] == f"$({address['name']})"
    assert address["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"


def test_one_pod_owns_the_store_and_workers_have_none(kubernetes) -> None:
    owner = kubernetes["Job", "paretune-server"]["spec"]
    assert (owner["parallelism"], owner["completions"]) == (1, 1)
    claim = kubernetes["PersistentVolumeClaim", "paretune-store"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    workers = kubernetes["Job", "paretune-workers"]["spec"]
    assert "completions" not in workers and workers["parallelism"] > 1
    volumes = workers["template"]["spec"]["volumes"]
    assert not any("persistentVolumeClaim" in volume for volume in volumes)


def test_the_service_finds_its_pod_and_the_token_is_written_where_it_is_read(kubernetes) -> None:
    labels = kubernetes["Job", "paretune-server"]["spec"]["template"]["metadata"]["labels"]
    assert kubernetes["Service", "paretune"]["spec"]["selector"] == labels
    for pod in pods(kubernetes).values():
        (container,), (token,) = pod["containers"], pod["initContainers"]
        assert str(parse_command(container["command"])["token_file"]) == token["command"][-1]
        assert "--mode=600" in token["command"]


def test_a_worker_measures_on_whole_processors(kubernetes) -> None:
    (container,) = pods(kubernetes)["paretune-workers"]["containers"]
    requests, limits = (container["resources"][key] for key in ("requests", "limits"))
    assert requests["cpu"] == limits["cpu"] == str(parse_command(container["command"])["threads"])


def test_skypilot_starts_a_worker_and_keeps_the_token_secret() -> None:
    (task,) = load("sky.yaml")
    assert task["resources"]["image_id"] == f"docker:{IMAGE}"
    assert task["resources"]["use_spot"] is True
    assert "PARETUNE_TOKEN" in task["secrets"] and "PARETUNE_TOKEN" not in task["envs"]
    (command,) = read_commands(task["run"])
    assert {"server", "token_file", "workers", "devices"} <= parse_command(command).keys()
    for variable in re.findall(r"\$(\w+)", task["run"]):
        assert variable in {**task["envs"], **task["secrets"]}


def test_slurm_starts_workers_with_options_that_exist() -> None:
    text = (EXAMPLES / "slurm.sh").read_text("utf-8")
    commands = read_commands(text)
    assert [words[1] for words in commands] == ["serve", "pack", "merge", "work"]
    values = [parse_command(words) for words in commands]
    assert values[-1]["minutes"] == 1 and values[-1]["workers"] == 1
    arrays = re.findall(r"^ *work\+?=\((.*)\)$", text, re.MULTILINE)
    options = [word for array in arrays for word in array.split() if word.startswith("--")]
    assert options == ["--bundle", "--server", "--token-file"]
    for option in options:
        assert option.removeprefix("--").replace("-", "_") in values[-1]


def test_the_image_has_extras_that_exist() -> None:
    text = (EXAMPLES / "Dockerfile").read_text("utf-8")
    (extras,) = re.findall(r'"/source\[(.*?)\]"', text)
    project = tomllib.loads((EXAMPLES.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"serve", *extras.split(",")} <= project["optional-dependencies"].keys()
    assert f"docker build --tag {IMAGE} " in text
