"""A decision in a sentence, on a terminal, and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from paretune.judging.decide import Decision
from paretune.reporting.text.escape import escape_markdown, markdown_code
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

MOST_IDS = 10
"""Examples that are named where not all are asked for."""
MOST_IDS_IN_MARKDOWN = 100


def write_sentence(decision: Decision) -> str:
    """The answer and why, as one sentence."""
    candidate = decision.candidate
    answers = {
        "keep": f"Keep {candidate}",
        "drop": f"Drop {candidate}",
        "two more seeds": "Not yet, two more seeds",
        "passes": f"{candidate} passes",
        "fails": f"{candidate} fails",
        "undecided": f"{candidate} is undecided",
    }
    return sanitise_line(f"{answers[decision.answer]}: {decision.reason}.")


def describe_flips(decision: Decision, most: int | None = MOST_IDS) -> Iterator[str]:
    """Which examples changed sides, a line each way; none where answers are not right or wrong.

    Args:
        most: ids that a line has; None: all.
    """
    for count, ids in _title_flips(decision):
        named = ", ".join(map(sanitise_line, ids[:most]))
        more = f" and {len(ids) - most:,} more" if most is not None and len(ids) > most else ""
        yield f"{count}{': ' if ids else ''}{named}{more}."


def describe_numbers(decision: Decision) -> Iterator[str]:
    """Scores, difference and limits, a line each."""
    for name, score, runs in zip(
        (decision.champion, decision.candidate), decision.scores, decision.runs, strict=True
    ):
        shown = "no score" if score is None else f"{decision.metric} {score:.3f}"
        yield sanitise_line(
            f"{name}: {shown} ({pluralise(decision.rows, 'example')}, {pluralise(runs, 'run')})."
        )
    yield f"Difference: {_format_limits(decision)}."
    if decision.number is not None:
        yield f"Candidate {decision.number:,} of its stream, look {decision.look}."


def write_markdown(decision: Decision) -> str:
    """A summary of a decision: what GitHub shows in a pull request."""
    names = [escape_markdown(name) for name in (decision.champion, decision.candidate)]
    scores = ["–" if score is None else f"{score:.3f}" for score in decision.scores]
    runs = [str(count) for count in decision.runs]
    lines = [
        f"### {names[1]}: {decision.answer}",
        "",
        escape_markdown(write_sentence(decision)),
        "",
        f"| {escape_markdown(decision.task)} | {' | '.join(names)} |",
        "|---|---|---|",
        f"| {decision.metric} | {' | '.join(scores)} |",
        f"| runs | {' | '.join(runs)} |",
        "",
        f"{pluralise(decision.rows, 'example')}; difference {_format_limits(decision)}.",
    ]
    for title, ids in _title_flips(decision):
        lines += ["", "<details>", f"<summary>{_escape_html(title)}</summary>", ""]
        lines += [f"- {markdown_code(uid)}" for uid in ids[:MOST_IDS_IN_MARKDOWN]]
        if len(ids) > MOST_IDS_IN_MARKDOWN:
            lines.append(f"- and {len(ids) - MOST_IDS_IN_MARKDOWN:,} more")
        lines += ["", "</details>"]
    return "\n".join([*lines, ""])


def _title_flips(decision: Decision) -> Iterator[tuple[str, tuple[str, ...]]]:
    for ids, right, wrong in (
        (decision.losses, decision.champion, decision.candidate),
        (decision.gains, decision.candidate, decision.champion),
    ):
        if ids is not None:
            only = f"{sanitise_line(right)} alone has right, {sanitise_line(wrong)} wrong"
            yield f"{pluralise(len(ids), 'example')} that {only}", ids


def _format_limits(decision: Decision) -> str:
    if decision.points is None:
        return "not known"
    limits = [
        "none" if limit is None else f"{limit:+z.1f}"
        for limit in (decision.low_points, decision.high_points)
    ]
    return f"{decision.points:+z.1f} points, one-sided limits [{', '.join(limits)}]"


def _escape_html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
