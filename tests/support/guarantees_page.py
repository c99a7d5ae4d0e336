"""The page of guarantees, from what was found."""

from __future__ import annotations

import datetime
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from support.guarantees import CLAUSES, REAL, REAL_TRANSLATOR, Finding, Place

Findings = Mapping[tuple[str, Place], Finding]
FAILED, HOLE, SKIPPED, EXCUSED = "!", "?", "~", "-"
REFUSED, UNSERVED = "refused", "not served"
WORDS = (REFUSED, UNSERVED)
"""What stands in a cell that has no letters."""


@dataclass(frozen=True)
class Scope:
    """What the page has to speak of: the kinds of each family, and the methods."""

    methods: tuple[str, ...]
    kinds: Mapping[str, tuple[str, ...]]


def everything() -> Scope:
    """All methods, and encoders, translation models and real models with their kinds."""
    from support.method_contract import METHODS, PLACES

    return Scope(tuple(sorted(METHODS)), PLACES)


def decoders() -> Scope:
    """All methods, and the decoders that have a column."""
    from support.method_contract import DECODER_PLACES, METHODS

    return Scope(tuple(sorted(METHODS)), DECODER_PLACES)


def scopes() -> dict[str, Scope]:
    """What each page has to speak of, by what stands behind the name of the first."""
    return {"": everything(), "-decoders": decoders()}


@dataclass
class Footnotes:
    """Numbers for texts, in the order in which they are first needed."""

    texts: list[str] = field(default_factory=list)

    def signs(self, texts: list[str]) -> str:
        self.texts += [text for text in texts if text not in self.texts]
        return "".join(f"[^{self.texts.index(text) + 1}]" for text in texts)


def page(findings: Findings, scope: Scope) -> str:
    """The whole page."""
    notes = Footnotes()
    cells = {
        (m, f): cell(findings, m, f, scope.kinds[f]) for m in scope.methods for f in scope.kinds
    }
    table = [
        f"| method | {' | '.join(scope.kinds)} |",
        f"|---{'|---' * len(scope.kinds)}|",
        *(row(method, [cells[method, f] for f in scope.kinds], notes) for method in scope.methods),
    ]
    lines = [
        "# What is guaranteed",
        "",
        f"Written by `make guarantees` on {datetime.date.today()} from what the contract's tests",
        f"(`tests/methods/test_contract.py`) found: Python {platform.python_version()}, "
        f"{', '.join(f'{name} {version(name)}' for name in ('torch', 'transformers', 'peft'))}.",
        *verdict(findings, scope),
        "",
        spoken_of(scope),
        "Families are tiny models with random weights; deberta-v2 is the architecture of",
        f"DeBERTa-v3. Real models: {REAL}, {REAL_TRANSLATOR}.",
        "Decoders answer with a classifier on the last token here; with their LM head, cached",
        "generation included, `tests/methods/test_decoder_methods.py` asks every method. Encoders",
        "and translation models are on [one page](guarantees.md), decoders on",
        "[another](guarantees-decoders.md).",
        "A capital letter: proven for all kinds of task. A small one: for some, with the reason",
        f"for the others in a footnote. `{EXCUSED}`: for none, with the reason.",
        f"`{SKIPPED}`: not run, with the reason. `{HOLE}`: a hole. `{FAILED}`: failed.",
        f"{UNSERVED}: no study can ask the method for such a task.",
        "",
        "Of a translation, logits are those of every token of the reference, told the right ones",
        "before it; and wherever logits are compared, the translations by beam search are too (not",
        "in N and B).",
        "",
        "Where no bits are named, the same logits means within 1e-5 in fp32 and 1e-10 in float64",
        "(DeBERTa with an empty prefix: 1e-7, since `transformers` rounds its scale to fp32). In",
        "float64 ModernBERT's rotary positions and T5's norms are computed without the detour by",
        "fp32 that `transformers` makes there.",
        "",
        "With PEFT's options (`exclude_modules`, `rank_pattern`, `modules_to_save` ...) LoRA,",
        "DoRA, LoHa and LoKr are asked all clauses but N and Z by",
        "`tests/methods/test_targeting.py`, on one family and kind each, by default in turns of",
        "three days; they are not in the table.",
        "",
        "| letter | clause |",
        "|---|---|",
        *(f"| {letter} | {says} |" for letter, says in CLAUSES.items()),
        "",
        *table,
        "",
        *(f"[^{i}]: {text}" for i, text in enumerate(notes.texts, 1)),
    ]
    return "\n".join(lines) + "\n"


def spoken_of(scope: Scope) -> str:
    """The kinds of task: those of the first family, and what others have beside them."""
    common = next(iter(scope.kinds.values()))
    others: dict[str, list[str]] = {}
    for family, kinds in scope.kinds.items():
        for kind in kinds:
            if kind not in common:
                others.setdefault(kind, []).append(family)
    parts = [", ".join(common), *(f"{kind} on {', '.join(on)}" for kind, on in others.items())]
    return f"Task kinds: {'; '.join(parts)}."


def row(method: str, cells: list[tuple[str, list[str]]], notes: Footnotes) -> str:
    """One method; what is said of it everywhere stands behind its name."""
    full = [texts for letters, texts in cells if letters not in WORDS]
    shared = [text for text in full[0] if all(text in texts for texts in full)] if full else []
    columns = [f"`{method}`{notes.signs(shared)}"]
    for letters, texts in cells:
        own = notes.signs([text for text in texts if text not in shared])
        columns.append(f"{letters if letters in WORDS else f'`{letters}`'}{own}")
    return f"| {' | '.join(columns)} |"


def cell(
    findings: Findings, method: str, family: str, kinds: tuple[str, ...]
) -> tuple[str, list[str]]:
    """The letters of one cell and the texts of its footnotes."""
    letters, clauses = "", dict[str, str]()
    for letter in CLAUSES:
        here = {kind: findings.get((letter, (method, family, kind))) for kind in kinds}
        letters += sign(letter, [one.outcome if one else "" for one in here.values()])
        explained = [one for one in here.values() if one and one.outcome != "failed"]
        for text in dict.fromkeys(word for one in explained for word in one.words):
            where = [kind for kind, one in here.items() if one and text in one.words]
            note = text if len(where) == len(kinds) else f"on {', '.join(where)}: {text}"
            clauses[note] = clauses.get(note, "") + letter
    everywhere = "".join(CLAUSES)
    texts = [text if of == everywhere else f"{of}: {text}" for text, of in clauses.items()]
    if set(letters) == {EXCUSED} and everywhere in clauses.values():
        whole = [findings["S", (method, family, kind)].outcome for kind in kinds]
        letters = UNSERVED if set(whole) == {"unserved"} else REFUSED
    return letters, texts


def sign(letter: str, outcomes: list[str]) -> str:
    """How a clause fared over the kinds of task, worst first."""
    if "failed" in outcomes:
        return FAILED
    if "" in outcomes:
        return HOLE
    if "skipped" in outcomes:
        return SKIPPED
    if set(outcomes) == {"proven"}:
        return letter
    return letter.lower() if "proven" in outcomes else EXCUSED


def verdict(findings: Findings, scope: Scope) -> list[str]:
    """How many clauses hold where, and what failed."""
    places = [(m, f, kind) for m in scope.methods for f, kinds in scope.kinds.items()
              for kind in kinds]  # fmt: skip
    count = Counter(
        one.outcome if (one := findings.get((letter, place))) else "hole"
        for letter in CLAUSES
        for place in places
    )
    summary = (
        f"**{count['proven']} clauses proven, {count['excused']} excused with their reason, "
        f"{count['skipped']} not run with their reason, {count['hole']} holes, "
        f"{count['failed']} failed.**"
    )
    here = [one for (_, place), one in findings.items() if place in places]
    failures = sorted({w for one in here if one.outcome == "failed" for w in one.words})
    return [
        "",
        summary,
        *(["", "FAILED:", ""] if failures else []),
        *(f"- `{f}`" for f in failures),
    ]
