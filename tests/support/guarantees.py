"""Collects what the contract's tests found, and writes a page (``--guarantees=PAGE``).

The page of the decoders stands beside it; of the two, those are written of which a family was
walked.

(With "=": before it knows this option, pytest would take a page that stands alone for a test file.)

A test marked ``@clause(LETTER)`` proves that clause for the place in its parameters: a tuple
(method, family, kind). It may record ``EXCUSED`` (the method may not do this: it passed because
the refusal is as it should be), ``NOTE`` (it is proven, in a certain form) or ``UNSERVED`` (no
study may ask for it there), each with its words.

Under pytest-xdist the processes that run tests write what each test is asked to prove on its
report, and only the one that hears all reports collects them.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from paretune.testing.clauses import CLAUSES, EXCUSED, NOTE

REAL, REAL_TRANSLATOR = "e5-small-sl-en", "marian-small-sl-en"
"""The real models, in the folder of development data."""
UNSERVED = "unserved"

ASKED = "guarantees"
"""Where a report has the clauses of its test, each with its place."""

Place = tuple[str, str, str]


@dataclass(frozen=True)
class Finding:
    """How one clause fared in one place.

    ``proven``, ``excused``, ``unserved``, ``skipped`` or ``failed``.
    """

    outcome: str
    words: tuple[str, ...] = ()


@dataclass
class Collector:
    """What was found so far, by clause and place."""

    page: Path
    findings: dict[tuple[str, Place], Finding] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for clause, place in getattr(report, ASKED, ()):
            self.note(clause, tuple(place), report)

    def note(self, clause: str, place: Place, report: pytest.TestReport) -> None:
        """What a test says of a clause; what went wrong first stays."""
        properties = dict(report.user_properties)
        if report.failed:
            finding = Finding("failed", (f"{report.nodeid} failed in its {report.when}",))
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            finding = Finding("skipped", (f"not run: {str(reason).removeprefix('Skipped: ')}",))
        elif report.when != "call":
            return
        elif EXCUSED in properties:
            finding = Finding("excused", (properties[EXCUSED],))
        elif UNSERVED in properties:
            finding = Finding("unserved", (properties[UNSERVED],))
        else:
            finding = Finding("proven", tuple(w for n, w in report.user_properties if n == NOTE))
        for letter in CLAUSES if clause == "*" else clause:
            before = self.findings.get((letter, place))
            if before is None or before.outcome != "failed":
                self.findings[letter, place] = finding

    def pytest_sessionfinish(self) -> None:
        from support.guarantees_page import page, scopes

        walked = {family for _, (_, family, _) in self.findings}
        for suffix, scope in scopes().items():
            # What was not walked today is on the page of before.
            if walked.intersection(scope.kinds):
                path = self.page.with_stem(self.page.stem + suffix)
                path.write_text(page(self.findings, scope), encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"{self.page} written")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--guarantees", type=Path, metavar="PAGE", help="write what the contract's tests found"
    )


def pytest_configure(config: pytest.Config) -> None:
    page = config.getoption("--guarantees")
    if page and not hasattr(config, "workerinput"):  # what xdist gives the processes that it starts
        config.pluginmanager.register(Collector(page))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of clauses can be chosen by the marker ``guarantee``."""
    for item in items:
        if _clauses(item):
            item.add_marker("guarantee")


def _clauses(item: pytest.Item) -> str:
    """The letters that a test proves (``paretune.testing.clauses``), or ""."""
    return str(vars(getattr(item, "function", _clauses)).get("clauses", ""))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Write on the report what its test is asked to prove."""
    report = yield
    clauses = _clauses(item)
    if clauses:
        parameters = item.callspec.params  # type: ignore[attr-defined]
        setattr(
            report,
            ASKED,
            [(clause, parameters.get("walk", parameters.get("place"))) for clause in [clauses]],
        )
    return report
