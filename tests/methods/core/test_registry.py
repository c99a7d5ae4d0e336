"""Methods by name: built in, of peft, and of installed packages, broken ones among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from paretune import methods, plugins
from paretune.errors import PluginError
from paretune.methods import baselines, lora
from paretune.study import MethodSpec

ENTRY_POINTS = """\
[paretune.methods]
broken = pt_broken_methods:METHOD
lora = pt_broken_methods:METHOD
"""


@pytest.fixture
def broken_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package whose module cannot be imported, with a new name and with one of
    ours."""
    metadata = tmp_path / "pt_broken-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: pt-broken\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "pt_broken_methods.py").write_text("import something_of_an_older_version")
    monkeypatch.syspath_prepend(tmp_path)
    plugins._find_entries.cache_clear()
    yield
    plugins._find_entries.cache_clear()


@pytest.mark.usefixtures("broken_plugin")
def test_a_broken_plug_in_disturbs_no_study_that_does_not_name_it() -> None:
    assert methods.configure(MethodSpec(name="lora", rank=4)).options.rank == 4
    assert methods.get("lora") is lora.METHOD
    assert "broken" not in methods.available() and "bitfit" in methods.available()
    with pytest.raises(PluginError, match="pip uninstall pt-broken") as caught:
        methods.get("broken")
    assert "No module named 'something_of_an_older_version'" in str(caught.value)
    assert caught.value.exit_code == 2
    faults = methods.broken_plugins()
    assert set(faults) == {"broken", "lora"}
    assert faults["lora"] == "paretune has a method of this name and uses that"


def test_a_plug_in_is_a_method_like_any_other() -> None:
    with plugins.registered(plugins.METHODS, replace(lora.METHOD, name="my_lora")):
        configured = methods.configure_method(MethodSpec(name="my_lora", rank=2))
        assert configured.options.rank == 2 and configured.mixes
        assert "my_lora" in methods.available()


def test_baselines_are_methods() -> None:
    assert set(methods.available()) >= baselines.NAMES >= baselines.WITH_MODEL
    assert {"untuned"} == baselines.DRAWS_NOTHING
    assert {"majority", "majority_tag", "copy_source", "frequent_text"} == baselines.TRIVIAL
