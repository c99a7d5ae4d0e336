"""The page of guarantees hides nothing that was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import guarantees_page
from support.guarantees import CLAUSES, REAL, Collector, Finding
from support.guarantees_page import Scope, everything, page

TESTS = Path(__file__).parents[1]
SCOPE = Scope(("lora", "prompt"), {"bert": ("pair", "choice"), REAL: ("pair",)})
PROVEN = Finding("proven")


def all_proven() -> dict[Any, Finding]:
    return {
        (letter, (method, family, kind)): PROVEN
        for letter in CLAUSES
        for method in SCOPE.methods
        for family, kinds in SCOPE.kinds.items()
        for kind in kinds
    }


def line(text: str, method: str) -> str:
    (table_row,) = (row for row in text.splitlines() if row.startswith(f"| `{method}`"))
    return table_row


def test_a_page_of_families_that_were_not_walked_stays(tmp_path: Path) -> None:
    collector = Collector(tmp_path / "page.md")
    collector.findings["S", ("lora", "opt", "pair")] = PROVEN
    collector.pytest_sessionfinish()
    assert [path.name for path in tmp_path.iterdir()] == ["page-decoders.md"]


def test_what_holds_everywhere_is_all_letters() -> None:
    text, letters = page(all_proven(), SCOPE), "".join(CLAUSES)
    assert line(text, "lora") == f"| `lora` | `{letters}` | `{letters}` |"
    assert f"{len(CLAUSES) * 6} clauses proven, 0 excused" in text


def test_a_hole_a_failure_and_a_skip_are_seen() -> None:
    findings = all_proven()
    del findings["S", ("lora", "bert", "choice")]
    findings["M", ("prompt", "bert", "pair")] = Finding("failed", ("test_it failed in its call",))
    findings["L", ("prompt", REAL, "pair")] = Finding("skipped", ("not run: no model",))
    text, letters = page(findings, SCOPE), "".join(CLAUSES)
    assert f"`{letters.replace('S', '?')}`" in line(text, "lora")
    assert f"`{letters.replace('M', '!')}`" in line(text, "prompt")
    assert f"`{letters.replace('L', '~')}`[^1]" in line(text, "prompt")
    assert "\n- `test_it failed in its call`\n" in text and "\n[^1]: L: not run: no model\n" in text
    assert "1 not run with their reason, 1 holes, 1 failed" in text


def test_reasons_are_footnotes_once() -> None:
    findings = all_proven()
    for kind in ("pair", "choice"):
        findings["M", ("prompt", "bert", kind)] = Finding("excused", ("does not merge",))
    findings["M", ("prompt", REAL, "pair")] = Finding("excused", ("does not merge",))
    findings["X", ("prompt", "bert", "choice")] = Finding("excused", ("PEFT cannot",))
    for letter in CLAUSES:
        for kind in ("pair", "choice"):
            findings[letter, ("lora", "bert", kind)] = Finding("excused", ("no such layer",))
    text, letters = page(findings, SCOPE), "".join(CLAUSES).replace("M", "-")
    assert line(text, "prompt") == (
        f"| `prompt`[^2] | `{letters.replace('X', 'x')}`[^3] | `{letters}` |"
    )
    assert line(text, "lora").startswith("| `lora` | refused[^1] |")
    assert text.endswith(
        "[^1]: no such layer\n[^2]: M: does not merge\n[^3]: X: on choice: PEFT cannot\n"
    )


def test_what_is_not_served_is_no_hole_and_no_excuse() -> None:
    findings = all_proven()
    for letter in CLAUSES:
        for kind in ("pair", "choice"):
            findings[letter, ("lora", "bert", kind)] = Finding("unserved", ("serves translation",))
    text, letters = page(findings, SCOPE), "".join(CLAUSES)
    assert line(text, "lora") == f"| `lora` | not served[^1] | `{letters}` |"
    assert text.endswith("[^1]: serves translation\n")
    assert f"{len(CLAUSES) * 4} clauses proven, 0 excused" in text


def test_kinds_that_only_some_families_have_are_named_with_them() -> None:
    scope = Scope(("lora",), {"bert": ("pair",), "t5": ("translation",), "bart": ("translation",)})
    sentence = "Task kinds: pair; translation on t5, bart."
    assert sentence in page({}, scope).splitlines()


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
@clause("T")
def test_unserved(place, record_property):
    record_property("unserved", "serves others")

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


@pytest.fixture
def outcomes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Real tests of every outcome, with the plugin; a page speaks of their place alone."""
    monkeypatch.setattr(guarantees_page, "everything", everything)  # is put back at the end
    pytester.makepyfile(OUTCOMES)
    pytester.makeconftest(
        f"""
        import sys

        sys.path.insert(0, {str(TESTS)!r})
        from support import guarantees_page

        guarantees_page.everything = lambda: guarantees_page.Scope(("lora",), {{"bert": ("pair",)}})
        pytest_plugins = ["support.guarantees"]
        """
    )
    return pytester


def test_the_collector_keeps_what_went_wrong(outcomes: pytest.Pytester) -> None:
    collector = Collector(outcomes.path / "page.md")
    outcomes.inline_run("-p", "no:cacheprovider", plugins=[collector])
    findings = {letter: one for (letter, _), one in collector.findings.items()}
    outcome_names = {letter: one.outcome for letter, one in findings.items()}
    assert outcome_names == {
        "S": "proven", "M": "excused", "T": "unserved", "L": "failed", "U": "skipped", "F": "failed"
    }  # fmt: skip
    assert findings["S"].words == ("in a way",)
    assert findings["M"].words == ("does not merge",)
    assert findings["T"].words == ("serves others",)
    assert findings["U"].words == ("not run: no model",)
    assert "teardown" in findings["F"].words[0]
    text = (outcomes.path / "page.md").read_text(encoding="utf-8")
    assert "test_failed[place0] failed in its call`" in text
    assert "teardown`" in text and "| `S-?!??!-~????` |" in text


@pytest.mark.wide
def test_tests_in_other_processes_end_in_the_same_page(outcomes: pytest.Pytester) -> None:
    pages = {}
    for processes in ("0", "2"):
        page = outcomes.path / f"{processes}.md"
        ran = outcomes.runpytest_subprocess("-n", processes, f"--guarantees={page}")
        assert ran.ret == pytest.ExitCode.TESTS_FAILED
        ran.stdout.fnmatch_lines([f"{page} written"])
        pages[processes] = page.read_text(encoding="utf-8")
    assert pages["0"] == pages["2"]
    assert "1 clauses proven, 1 excused" in pages["2"] and "2 failed" in pages["2"]
