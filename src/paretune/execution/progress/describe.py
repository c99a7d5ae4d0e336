"""Runs, their ends and durations in a few words, for progress and messages."""

from __future__ import annotations

from paretune.store import RunStatus
from paretune.study import OuterFold, Run


def describe_run(run: Run) -> str:
    """A run in one short line: ``cb-sl x e5 x lora, rate 0.001, seed 1 (tune)``."""
    rate = "" if run.learning_rate is None else f", rate {run.learning_rate:g}"
    fold = f", fold {run.fold}" if run.stage == "tune" and run.fold else ""
    if run.outer is not None:
        fold = f", {describe_outer(run.outer)}"
    return f"{' x '.join(run.cell)}{rate}, seed {run.seed}{fold} ({run.stage})"


def describe_outer(outer: OuterFold) -> str:
    """``outer fold 2 of 5``; ``outer fold 2 of 5, repeat 2``."""
    repeat = f", repeat {outer.repeat + 1}" if outer.repeat else ""
    return f"outer fold {outer.index + 1} of {outer.folds}{repeat}"


def describe_end(status: RunStatus) -> str:
    """How a run ended: ``ok, 0.714, 34 s`` (a BLEU: ``28.4``), or the message of a failed one."""
    if status.state == "failed":
        return f"failed ({status.outcome}): {status.message}"
    score = "" if status.score is None else f", {_format_score(status.score, status.run)}"
    seconds = "" if status.seconds is None else f", {format_duration(status.seconds)}"
    return f"{status.outcome}{score}{seconds}"


def _format_score(score: float, run: Run) -> str:
    from paretune import metrics  # with numpy, which whoever only watches does not need
    from paretune.tasks import objective_of

    metric = metrics.get(run.task.metric or objective_of(run.task).default_metric)
    return f"{score:.{1 if metric.highest > 1 else 3}f}"


def describe_step(status: RunStatus) -> str:
    """Where a running run is: ``step 12 of 400, loss 0.53``."""
    progress = status.progress
    parts = []
    if "step" in progress:
        steps = f" of {progress['steps']}" if "steps" in progress else ""
        parts.append(f"step {progress['step']}{steps}")
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.3g}")
    if progress.get("note"):
        parts.append(str(progress["note"]))
    return ", ".join(parts) or "starting"


def format_duration(seconds: float) -> str:
    """``42 s``, ``7 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
