"""A decision in a sentence, and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from paretune.judging.decide import Decision
from paretune.reporting.text.escape import escape_markdown, markdown_code
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

MOST_IDS = 10
"""Examples that a line names."""
MOST_ITEMS = 100
"""Examples that Markdown lists."""


def write_sentence(decision: Decision) -> str:
    """The answer and why, as one sentence."""
    candidate = decision.candidate
    answers = {
        "keep": f"Keep {candidate}",
        "drop": f"Drop {candidate}",
        "two more seeds": "Not yet, two more seeds",
        "undecided": f"{candidate} is undecided",
    }
    answer = answers.get(decision.answer, f"{candidate} {decision.answer}")
    return sanitise_line(f"{answer}: {decision.reason}.")


def list_flips(decision: Decision) -> Iterator[tuple[str, tuple[str, ...]]]:
    """How many examples changed sides, and which; nothing where answers are not right or wrong."""
    names = decision.champion, decision.candidate
    for ids, (right, wrong) in ((decision.losses, names), (decision.gains, names[::-1])):
        if ids is not None:
            count = pluralise(len(ids), "example")
            yield sanitise_line(f"{count} that {right} alone has right, not {wrong}"), ids


def describe_flips(decision: Decision) -> Iterator[str]:
    """List the examples that changed sides, a line each way."""
    for title, ids in list_flips(decision):
        named = ", ".join(map(sanitise_line, ids[:MOST_IDS]))
        left = f" and {len(ids) - MOST_IDS:,} more" if len(ids) > MOST_IDS else ""
        yield f"{title}: {named}{left}." if ids else f"{title}."


def write_markdown(decision: Decision) -> str:
    """A summary of a decision, as GitHub shows it in a pull request."""
    names = [escape_markdown(name) for name in (decision.champion, decision.candidate)]
    scores = ["–" if score is None else f"{score:.3f}" for score in decision.scores]
    lines = [
        f"### {names[1]}: {decision.answer}",
        "",
        escape_markdown(write_sentence(decision)),
        "",
        f"| {escape_markdown(decision.task)} | {' | '.join(names)} |",
        "|---|---|---|",
        f"| {decision.metric} | {' | '.join(scores)} |",
        f"| runs | {' | '.join(map(str, decision.runs))} |",
        "",
        f"{pluralise(decision.rows, 'example')}.",
    ]
    if decision.points is not None:
        ends = (decision.low_points, decision.high_points)
        limits = ", ".join("–" if limit is None else f"{limit:+z.1f}" for limit in ends)
        lines[-1] += f" Difference {decision.points:+z.1f} points, one-sided limits [{limits}]."
    for title, ids in list_flips(decision):
        left = [f"- and {len(ids) - MOST_ITEMS:,} more"] if len(ids) > MOST_ITEMS else []
        items = [f"- {markdown_code(uid)}" for uid in ids[:MOST_ITEMS]]
        summary = f"<summary>{escape(title)}</summary>"
        lines += ["", f"<details>{summary}", "", *items, *left, "", "</details>"]
    return "\n".join([*lines, *(f"\n{escape_markdown(note)}" for note in decision.notes), ""])
