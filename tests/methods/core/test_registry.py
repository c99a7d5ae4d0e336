"""Methods by name: built in, of peft, and of installed packages, broken ones among them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.packages import Install

from paretune import methods, plugins
from paretune.errors import PluginError
from paretune.methods import lora
from paretune.study import MethodSpec


def test_a_broken_plug_in_disturbs_no_study_that_does_not_name_it(install: Install) -> None:
    """Its module cannot be imported; it has a new name, and one of ours."""
    entries = dict.fromkeys(("broken", "lora"), "pt_broken:METHOD")
    install("pt_broken", {plugins.METHODS: entries}, "import something_of_an_older_version")
    assert methods.configure(MethodSpec(name="lora", rank=4)).options.rank == 4
    assert methods.get("lora") is lora.METHOD
    assert "broken" not in methods.available() and "bitfit" in methods.available()
    with pytest.raises(PluginError, match="pip uninstall pt_broken") as caught:
        methods.get("broken")
    assert "No module named 'something_of_an_older_version'" in str(caught.value)
    assert caught.value.exit_code == 2
    faults = methods.broken_plugins()
    assert set(faults) == {"broken", "lora"}
    assert faults["lora"] == "paretune has a method of this name and uses that"
    assert [methods.title_of(name) for name in ("broken", "lora")] == ["broken", "LoRA"]


def test_a_plug_in_is_a_method_like_any_other() -> None:
    with plugins.registered(plugins.METHODS, replace(lora.METHOD, name="my_lora", title="My LoRA")):
        configured = methods.configure_method(MethodSpec(name="my_lora", rank=2))
        assert configured.options.rank == 2
        assert "my_lora" in methods.available() and methods.title_of("my_lora") == "My LoRA"
