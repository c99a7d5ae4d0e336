"""Where the paper's preset departs from the paper on purpose, as the preset itself says."""

from __future__ import annotations

from importlib.resources import files

from ruamel.yaml import YAML

from paretune.study import Study


def read_departures(study: Study) -> tuple[str, ...]:
    """Sentences for the report of a study under the paper's protocol; none for others.

    The preset is read as a file: the room it belongs to may load torch, and a report may not.
    """
    if study.protocol.preset != "paper":
        return ()
    preset = files("paretune.planning") / "paper.yaml"
    loaded = YAML(typ="safe", pure=True).load(preset.read_text(encoding="utf-8"))
    return tuple(" ".join(str(sentence).split()) for sentence in loaded["departures"])
