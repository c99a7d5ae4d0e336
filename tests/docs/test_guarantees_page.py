"""The page of guarantees hides nothing that was found."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.guarantees import CLAUSES, REAL, UNSERVED, Finding, Scope, page

from paretune.testing.clauses import EXCUSED

TESTS = Path(__file__).parents[1]
LETTERS = "".join(CLAUSES)
SCOPE = Scope(("lora", "prompt"), {"bert": ("pair", "choice"), REAL: ("pair",)})


def test_a_page_hides_nothing() -> None:
    findings = {
        (letter, (method, family, kind)): Finding("proven")
        for letter in CLAUSES
        for method in SCOPE.methods
        for family, kinds in SCOPE.kinds.items()
        for kind in kinds
    }
    text = page(findings, SCOPE)
    assert f"| `lora` | `{LETTERS}` | `{LETTERS}` |\n" in text
    assert f"{len(CLAUSES) * 6} clauses proven, 0 excused" in text
    del findings["S", ("lora", "bert", "choice")]
    findings["M", ("lora", "bert", "pair")] = Finding("failed", ("test_it failed in its call",))
    findings["L", ("lora", REAL, "pair")] = Finding("skipped", ("not run: no model",))
    findings["X", ("prompt", "bert", "choice")] = Finding(EXCUSED, ("PEFT cannot",))
    for letter in CLAUSES:
        findings[letter, ("prompt", REAL, "pair")] = Finding(UNSERVED, ("serves others",))
    text = page(findings, SCOPE)
    bert, real = LETTERS.replace("S", "?").replace("M", "!"), LETTERS.replace("L", "~")
    assert f"| `lora` | `{bert}` | `{real}` |\n" in text
    assert f"| `prompt` | `{LETTERS.replace('X', 'x')}` | `{' ' * len(LETTERS)}` |\n" in text
    assert "1 excused with their reason, 1 not run with their reason, 1 holes, 1 failed" in text
    assert "\n- FAILED: `test_it failed in its call`\n" in text
    assert f"\n- `lora`: not run: no model (L on {REAL} pair)\n" in text
    assert "\n- `prompt`: PEFT cannot (X on bert choice)\n" in text
    assert f"\n- `prompt`: serves others ({LETTERS} on {REAL} pair)\n" in text


OUTCOMES = """
import pytest

from paretune.testing.clauses import clause

PLACE = pytest.mark.parametrize("place", [("lora", "bert", "pair")])

@PLACE
@clause("S")
def test_proven(place, record_property):
    record_property("note", "in a way")

@PLACE
@clause("M")
def test_excused(place, record_property):
    record_property("excused", "does not merge")

@PLACE
@clause("L")
def test_failed(place):
    assert False

@PLACE
@clause("U")
def test_skipped(place):
    pytest.skip("no model")

@pytest.fixture
def broken():
    yield
    raise ValueError

@PLACE
@clause("F")
def test_that_fails_in_its_teardown(place, broken):
    pass
"""


@pytest.mark.wide
@pytest.mark.parametrize("processes", ["0", "2"])
def test_the_collector_keeps_what_went_wrong(processes: str, pytester: pytest.Pytester) -> None:
    """Real tests of every outcome, with the plugin; also where other processes run them."""
    pytester.makepyfile(OUTCOMES)
    pytester.makeconftest(
        f"import sys\nsys.path.insert(0, {str(TESTS)!r})\npytest_plugins = ['support.guarantees']\n"
    )
    ran = pytester.runpytest_subprocess("-n", processes, "--guarantees=page.md")
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    ran.stdout.fnmatch_lines(["page.md written"])
    assert [path.name for path in pytester.path.glob("*.md")] == ["page.md"]  # and no decoders'
    text = (pytester.path / "page.md").read_text(encoding="utf-8")
    assert "1 clauses proven, 1 excused" in text and ", 2 failed" in text
    assert "test_failed[place0] failed in its call`" in text and "in its teardown`" in text
    assert "- `lora`: in a way (S on bert pair)" in text
    assert "- `lora`: does not merge (M on bert pair)" in text
    assert "- `lora`: not run: no model (U on bert pair)" in text
