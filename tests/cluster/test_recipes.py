"""Recipes for clusters that are not here: their files are what they must be, and commands exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from support.pages import parse_command

from paretune.planning.shard import Shard

EXAMPLES = Path(__file__).parents[2] / "examples" / "cluster"
IMAGE = "registry.example.org/paretune-study:1"


def parse(line: str) -> dict[str, Any]:
    """The values that the command line of paretune reads."""
    program, *words = [word for word in shlex.split(line) if word not in ("$@", "&")]
    assert program == "paretune"
    return parse_command(words)


def load(name: str) -> list[dict]:
    return list(YAML(typ="safe", pure=True).load_all((EXAMPLES / name).read_text("utf-8")))


def read_commands(text: str) -> list[str]:
    """Every command of paretune in a shell script, comments included."""
    lines = re.findall(r"^[#\s]*(paretune (?:run|merge) .*)$", text, re.MULTILINE)
    return [line.partition("  #")[0] for line in lines]


def test_kuberay_trains_on_workers_and_keeps_the_store_with_the_head() -> None:
    claim, job = load("kuberay.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    values = parse(job["spec"]["entrypoint"])
    assert values["executor"] == "ray"
    cluster = job["spec"]["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"] == {"num-cpus": "0"}
    (volume,) = head["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (main,) = head["template"]["spec"]["containers"]
    (mount,) = main["volumeMounts"]
    assert str(values["store"]).startswith(f"{mount['mountPath']}/")
    (container,) = workers["template"]["spec"]["containers"]
    assert "volumes" not in workers["template"]["spec"]
    assert main["image"] == container["image"] == IMAGE
    requests, limits = (container["resources"][key] for key in ("requests", "limits"))
    assert requests["cpu"] == limits["cpu"] == str(values["threads"])


def test_skypilot_runs_the_study_on_one_node_and_joins_the_others() -> None:
    (task,) = load("sky.yaml")
    assert task["resources"]["image_id"] == f"docker:{IMAGE}" and task["num_nodes"] > 1
    (command,) = read_commands(task["run"])
    values = parse(command)
    assert (values["executor"], values["address"]) == ("ray", "$RAY_ADDRESS")
    assert "ray stop\n" not in task["run"]
    own = {"head", "RAY_ADDRESS"}
    for variable in re.findall(r"\$(\w+)", task["run"]):
        assert variable in own or variable.startswith("SKYPILOT_NODE_")


def test_slurm_runs_shares_with_options_that_exist() -> None:
    text = (EXAMPLES / "slurm.sh").read_text("utf-8")
    commands = read_commands(text)
    values = [parse(line) for line in commands if "$@" not in line]
    assert [line.split()[1] for line in commands] == ["merge", "run", "run"]
    assert len(values) == 2
    share = parse("paretune run STUDY.yaml --shard 1/8 --store scratch")
    assert Shard.parse(str(share["shard"])) == Shard(1, 8)
    assert '--shard "$index/$count" --store "$scratch"' in commands[-1]


def test_the_image_has_extras_that_exist() -> None:
    text = (EXAMPLES / "Dockerfile").read_text("utf-8")
    (extras,) = re.findall(r'"/source\[(.*?)\]"', text)
    project = tomllib.loads((EXAMPLES.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"ray", *extras.split(",")} <= project["optional-dependencies"].keys()
    assert f"docker build --tag {IMAGE} " in text
