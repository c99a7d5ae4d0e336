"""Collects what the contract's tests found, and writes a page (``--guarantees=PAGE``).

The page of the decoders stands beside it; of the two, those are written of which a family was
walked. (With "=": before it knows this option, pytest would take a page that stands alone for a
test file.)

A test marked ``@clause(LETTERS)`` proves these clauses for the place in its parameters: a tuple
(method, family, kind). It may record ``EXCUSED`` (the method may not do this: it passed because
the refusal is as it should be), ``NOTE`` (it is proven, in a certain form) or ``UNSERVED`` (no
study may ask for it there), each with its words.

Under pytest-xdist the processes that run tests write what each test is asked to prove on its
report, and only the one that hears all reports collects them.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Generator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from paretune.testing.clauses import CLAUSES, EXCUSED, NOTE

REAL, REAL_TRANSLATOR = "e5-small-sl-en", "marian-small-sl-en"
"""The real models, in the folder of development data."""
UNSERVED = "unserved"
ASKED = "guarantees"
"""Where a report has the clauses of its test, and their place."""
SIGNS = {"failed": "!", "hole": "?", "skipped": "~", EXCUSED: "-", UNSERVED: " "}
"""What stands for a clause that is not proven, the worst first."""

INTRODUCTION = f"""\
Families are tiny models with random weights; deberta-v2 is the architecture of DeBERTa-v3. Real
models: {REAL}, {REAL_TRANSLATOR}. Decoders answer with a classifier on the last token here; with
their LM head, cached generation included, `tests/methods/test_decoder_methods.py` asks every
method.

A capital letter: proven for all kinds of task. A small one: for some; the reason for the others
stands below the table. `-`: for none, with the reason. `~`: not run, with the reason. `?`: a hole.
`!`: failed. A blank: no study can ask the method for such a task.

Of a translation, logits are those of every token of the reference, told the right ones before it;
wherever logits are compared, the translations by beam search are too (not in N and B). Where no
bits are named, the same logits means within 1e-5 in fp32 and 1e-10 in float64 (DeBERTa with an
empty prefix: 1e-7, since `transformers` rounds its scale to fp32). In float64 ModernBERT's rotary
positions and T5's norms are computed without the detour by fp32 that `transformers` makes there."""

Place = tuple[str, str, str]


class Finding(NamedTuple):
    """How one clause fared in one place: ``proven``, or a key of ``SIGNS``."""

    outcome: str
    words: tuple[str, ...] = ()


class Scope(NamedTuple):
    """What a page has to speak of: the kinds of each family, and the methods."""

    methods: tuple[str, ...]
    kinds: Mapping[str, tuple[str, ...]]


class Collector:
    """What was found so far, by clause and place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.findings: dict[tuple[str, Place], Finding] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What a test says of its clauses; what went wrong first stays."""
        letters, place = getattr(report, ASKED, ("", ()))
        properties = dict(report.user_properties)
        excuse = next((name for name in (EXCUSED, UNSERVED) if name in properties), None)
        if report.failed:
            finding = Finding("failed", (f"{report.nodeid} failed in its {report.when}",))
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            finding = Finding("skipped", (f"not run: {str(reason).removeprefix('Skipped: ')}",))
        elif report.when != "call":
            return
        elif excuse is not None:
            finding = Finding(excuse, (properties[excuse],))
        else:
            finding = Finding("proven", tuple(w for n, w in report.user_properties if n == NOTE))
        for letter in CLAUSES if letters == "*" else letters:
            before = self.findings.get((letter, tuple(place)))
            if before is None or before.outcome != "failed":
                self.findings[letter, tuple(place)] = finding

    def pytest_sessionfinish(self) -> None:
        walked = {family for _, (_, family, _) in self.findings}
        for suffix, scope in read_scopes().items():
            if walked.intersection(scope.kinds):  # of others the page of before stays
                path = self.path.with_stem(self.path.stem + suffix)
                path.write_text(page(self.findings, scope), encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"{self.path} written")


def read_scopes() -> dict[str, Scope]:
    """What each page has to speak of, by what stands behind the name of the first."""
    from support.method_contract import DECODER_PLACES, METHODS, PLACES

    methods = tuple(sorted(METHODS))
    return {"": Scope(methods, PLACES), "-decoders": Scope(methods, DECODER_PLACES)}


def page(findings: Mapping[tuple[str, Place], Finding], scope: Scope) -> str:
    """The page, dated for its readers: counts, failures, the table, reasons of each method."""
    places = [(m, f, k) for m in scope.methods for f, kinds in scope.kinds.items() for k in kinds]
    hole = Finding("hole")
    stated = {(c, place): findings.get((c, place), hole) for c in CLAUSES for place in places}
    count = Counter(finding.outcome for finding in stated.values())
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    kinds = ((family, ", ".join(kinds)) for family, kinds in scope.kinds.items())
    lines = [
        "# What is guaranteed",
        "",
        "Written by `make guarantees` from what the contract's tests",
        f"(`tests/methods/test_contract.py`) found: Python {platform.python_version()}, "
        f"{packages}.",
        "",
        f"**{count['proven']} clauses proven, {count[EXCUSED]} excused with their reason, "
        f"{count['skipped']} not run with their reason, {count['hole']} holes, "
        f"{count['failed']} failed.**",
        "",
        *(f"- FAILED: `{w}`" for w in find_words(stated, "failed")),
        "",
        f"Task kinds: {'; '.join(f'{family}: {names}' for family, names in kinds)}.",
        INTRODUCTION,
        "",
        "| letter | clause |",
        "|---|---|",
        *(f"| {letter} | {says} |" for letter, says in CLAUSES.items()),
        "",
        f"| method | {' | '.join(scope.kinds)} |",
        f"|---{'|---' * len(scope.kinds)}|",
    ]
    for method in scope.methods:
        cells = []
        for family, kinds_ in scope.kinds.items():
            cells.append(
                "".join(sign(c, [stated[c, (method, family, k)] for k in kinds_]) for c in CLAUSES)
            )
        lines.append(f"| `{method}` | {' | '.join(f'`{cell}`' for cell in cells)} |")
    lines.append("")
    for method in scope.methods:
        of_method = {key: f for key, f in stated.items() if key[1][0] == method}
        for words in find_words(of_method, "proven", "skipped", EXCUSED, UNSERVED):
            where: dict[str, str] = {}
            for (letter, (_, family, kind)), finding in of_method.items():
                if words in finding.words:
                    where[f"{family} {kind}"] = where.get(f"{family} {kind}", "") + letter
            of_clauses: dict[str, list[str]] = {}
            for place, letters in where.items():
                of_clauses.setdefault(letters, []).append(place)
            parts = (f"{letters} on {', '.join(names)}" for letters, names in of_clauses.items())
            lines.append(f"- `{method}`: {words} ({'; '.join(parts)})")
    return "\n".join(lines) + "\n"


def find_words(findings: Mapping[Any, Finding], *outcomes: str) -> list[str]:
    """What was said with these outcomes, each once."""
    of_outcomes = (finding for finding in findings.values() if finding.outcome in outcomes)
    return list(dict.fromkeys(words for finding in of_outcomes for words in finding.words))


def sign(letter: str, findings: list[Finding]) -> str:
    """How a clause fared over the kinds of task, the worst first."""
    outcomes = {finding.outcome for finding in findings}
    if outcomes == {"proven"}:
        return letter
    worst = next(name for name in SIGNS if name in outcomes)
    return letter.lower() if worst in (EXCUSED, UNSERVED) and "proven" in outcomes else SIGNS[worst]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--guarantees", type=Path, metavar="PAGE", help="write what the contract's tests found"
    )


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--guarantees")
    if path and not hasattr(config, "workerinput"):  # what xdist gives the processes that it starts
        config.pluginmanager.register(Collector(path))


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
    if clauses := _clauses(item):
        parameters = item.callspec.params  # type: ignore[attr-defined]
        place = parameters.get("walk", parameters.get("place"))
        if len(place) == 3:  # what is walked with further options is on no page
            setattr(report, ASKED, (clauses, place))
    return report
