"""Plug-ins as pip leaves them: a module and a folder of metadata beside it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from support.packages import Install

from paretune import plugins
from paretune.errors import PluginError

GROUP = "paretune.test_values"


VALUE = "from types import SimpleNamespace\nONE = SimpleNamespace(name='one')\n"


def test_a_value_is_loaded_when_it_is_asked_for_and_once(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("pt_ours", {GROUP: {"one": "pt_ours:ONE"}}, VALUE)
    assert plugins.names(GROUP) == ("one",)
    assert "pt_ours" not in sys.modules
    one = plugins.load(GROUP, "one", SimpleNamespace)
    assert one.name == "one"
    assert plugins.load(GROUP, "one", SimpleNamespace) is one


@pytest.mark.parametrize(
    ("entry", "source", "fault"),
    [
        ("pt_broken:ONE", "import not_there_at_all", "cannot be loaded: ModuleNotFoundError: "),
        ("pt_broken:ONE", "raise SystemError('no\\nway')", "cannot be loaded: SystemError: no way"),
        ("pt_broken:TWO", VALUE, "cannot be loaded: AttributeError: "),
        ("pt_broken", VALUE, "is of type module, not SimpleNamespace."),
        (
            "pt_broken:ONE",
            VALUE.replace("one", "uno"),
            'is called "uno", and its entry point "one"',
        ),
    ],
)
def test_a_broken_one_is_named_with_what_to_do_and_disturbs_no_other(
    install: Install, entry: str, source: str, fault: str
) -> None:
    two = VALUE.replace("ONE", "TWO").replace("one", "two")
    install("pt_ours", {GROUP: {"two": "pt_ours:TWO"}}, two)
    install("pt_broken", {GROUP: {"one": entry}}, source)
    with pytest.raises(PluginError) as caught:
        plugins.load(GROUP, "one", SimpleNamespace)
    message = str(caught.value)
    assert message.startswith(f'plug-in "one" ({entry}, of pt_broken 0.3): ')
    assert fault in message
    assert message.endswith("Update the package, or remove it: pip uninstall pt_broken.")
    assert "\n" not in message
    values, errors = plugins.load_all(GROUP, SimpleNamespace)
    assert list(values) == ["two"]
    assert list(errors) == ["one"]


def test_two_packages_with_one_name(install: Install) -> None:
    install("pt_ours", {GROUP: {"one": "pt_ours:ONE"}}, VALUE)
    install("pt_theirs", {GROUP: {"one": "pt_theirs:ONE"}}, VALUE)
    with pytest.raises(PluginError, match=r"pt_\w+ 0\.3 and pt_\w+ 0\.3 offer the same name"):
        plugins.load(GROUP, "one", SimpleNamespace)


def test_a_value_may_be_registered_for_a_while() -> None:
    value = SimpleNamespace(name="mine")
    with plugins.registered(GROUP, value):
        assert "mine" in plugins.names(GROUP)
        assert plugins.load(GROUP, "mine", SimpleNamespace) is value
    assert "mine" not in plugins.names(GROUP)
