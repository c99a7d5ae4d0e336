"""What ``paretune doctor`` says of plug-ins, working ones and broken ones."""

from __future__ import annotations

from support.packages import Install

from paretune import plugins
from paretune.verbs.doctor import check_plugins

ENTRIES = {
    plugins.TASKS: {"chess": "pt_chess:TASK"},
    plugins.METRICS: {"elo": "pt_chess:ELO", "accuracy": "pt_chess:ACCURACY"},
}
SOURCE = """\
from dataclasses import replace
from paretune import metrics, tasks
TASK = replace(tasks.get("routing"), name="chess")
ACCURACY = replace(metrics.get("accuracy"), title="another")
"""


def test_each_plug_in_is_listed_with_its_fault(install: Install) -> None:
    install("pt_chess", ENTRIES, SOURCE)
    faults = {(row["group"], row["name"]): row["fault"] for row in check_plugins()}
    assert faults[plugins.TASKS, "chess"] is None
    broken = faults[plugins.METRICS, "elo"]
    assert broken is not None
    assert "has no attribute 'ELO'" in broken and "pip uninstall pt_chess" in broken
    hidden = faults[plugins.METRICS, "accuracy"]
    assert hidden == "paretune has one of this name and uses that"
    assert faults["paretune.protocols", "paper"] is None
