"""The page of guarantees hides nothing that was found."""

from __future__ import annotations

from support.guarantees import CLAUSES, REAL, UNSERVED, Finding, Scope, page

from paretune.testing.clauses import EXCUSED

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
