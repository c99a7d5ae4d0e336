"""Runs, ends and durations in a few words, for progress and messages."""

from __future__ import annotations

from paretune.store import RunStatus
from paretune.study import Run


def describe_run(run: Run) -> str:
    """A run in one short line: ``cb-sl x e5 x lora, rate 0.001, seed 1 (tune)``."""
    rate = "" if run.learning_rate is None else f", rate {run.learning_rate:g}"
    fold = f", fold {run.fold}" if run.stage == "tune" and run.fold else ""
    return f"{' x '.join(run.cell)}{rate}, seed {run.seed}{fold} ({run.stage})"


def describe_end(state: RunStatus) -> str:
    """How a run ended: ``ok, 0.714, 34 s`` (a BLEU: ``28.4``), or the message of a failed one."""
    if state.state == "failed":
        return f"failed ({state.outcome}): {state.message}"
    digits = 1 if state.run.task.is_translation else 3
    score = "" if state.score is None else f", {state.score:.{digits}f}"
    seconds = "" if state.seconds is None else f", {format_duration(state.seconds)}"
    return f"{state.outcome}{score}{seconds}"


def describe_step(state: RunStatus) -> str:
    """Where a running run stands: ``step 12 of 400, loss 0.53``."""
    told = state.progress
    parts = []
    if "step" in told:
        parts.append(f"step {told['step']}" + (f" of {told['steps']}" if "steps" in told else ""))
    if told.get("loss") is not None:
        parts.append(f"loss {told['loss']:.3g}")
    if told.get("note"):
        parts.append(str(told["note"]))
    return ", ".join(parts) or "starting"


def format_duration(seconds: float) -> str:
    """``42 s``, ``7 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
