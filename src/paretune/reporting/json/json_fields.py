"""Meaning of the fields of a study's JSON; the site's page of it is made from these.

``tasks[].cells[].score.low`` is the path of ``low`` of the score of each cell of each task.
Objects whose keys are not fixed are in ``OPEN``.
"""

from __future__ import annotations

FORMAT = 2
"""Incremented when a field is removed or changes its meaning, not when fields are added."""

_INTERVAL = {
    "low": "lower end of the 95 % interval",
    "high": "upper end of the 95 % interval",
    "examples": "number of test examples",
    "groups": "number of groups of dependent examples, resampled as a whole; null: independent",
    "questions": "number of questions that the examples answer; null: they are no answer sets",
    "seeds": "number of seeds",
}

_ON_TRIAL = {
    **_INTERVAL,
    "examples": "number of examples in the selection parts",
    "seeds": "1: one tuning seed, so the interval is over examples only",
}

_ALONE = {**_INTERVAL, "seeds": "1: this run alone, so the interval is over examples only"}
_SELECTING = {**_ALONE, "examples": "number of examples in the selection part"}

FIELDS: dict[str, str] = {
    "format": f"version of this form: {FORMAT}",
    "paretune": "version of the program that wrote the file",
    "study": "the study",
    "study.name": "its name",
    "study.hash": "hash of its canonical form, its key in the store",
    "study.protocol": "how the scores were obtained, as a sentence",
    "study.settings": "the study with all defaults",
    "study.runs": "number of ended runs",
    "study.departures": "where the paper's preset departs from the paper, as sentences",
    "tasks": "in the study's order",
    "tasks[].key": "name of the task",
    "tasks[].metric": "its primary metric: accuracy, macro_f1, bleu ...",
    "tasks[].title": "the metric's name in words",
    "tasks[].highest": "highest possible score: 1, of BLEU and chrF 100",
    "tasks[].constant": "score of the constant answer, the baseline majority; null: there is none",
    "tasks[].constant.estimate": "its score",
    **{f"tasks[].constant.{key}": text for key, text in _INTERVAL.items()},
    "tasks[].sentences": "what may be concluded",
    "tasks[].likelihood": "how probable the right answers were: a verdict of its own, apart from "
    "the scores' verdicts; null: no cell has a likelihood",
    "tasks[].likelihood.unit": "of log-likelihoods: nats an example, or nats a reference token",
    "tasks[].likelihood.pairs": "every pair on a model, by mean log-likelihood",
    "tasks[].likelihood.pairs[].model": "the model that both are on",
    "tasks[].likelihood.pairs[].a": "a method or baseline",
    "tasks[].likelihood.pairs[].b": "another",
    "tasks[].likelihood.pairs[].difference": "log-likelihood of a minus that of b",
    **{f"tasks[].likelihood.pairs[].{key}": text for key, text in _INTERVAL.items()},
    "tasks[].likelihood.pairs[].p": "two-sided p-value against no difference",
    "tasks[].likelihood.pairs[].p_holm": "the same, corrected over all pairs of the model",
    "tasks[].likelihood.pairs[].standing": "of a: above, unclear or below, by p_holm under 0.05; "
    "unclear where a side is one run of a method that draws its seed",
    "tasks[].recommendation": "what to take without a budget; null: nothing to say yet",
    "tasks[].recommendation.kind": "method (proven better than every baseline), guess (a method "
    "that is not), baseline or none",
    "tasks[].recommendation.take": "the configuration, by its keys; null: none",
    "tasks[].recommendation.proven": "true: proven better than every baseline at 95 %",
    "tasks[].recommendation.within_points": "expected loss that is accepted for a lower cost; "
    "points are hundredths of the metric's highest value",
    "tasks[].recommendation.free_baseline": "the best baseline without a model; null: none",
    "tasks[].recommendation.prospect": "what taking it may bring; null: nothing is taken",
    "tasks[].recommendation.prospect.score": "expected score of its next run, failures included",
    "tasks[].recommendation.prospect.loss_points": "expected loss against the best, in points",
    "tasks[].recommendation.prospect.chance_best": "that it is the best of all",
    "tasks[].recommendation.prospect.chance_worse": "that it is over within_points worse than the "
    "best",
    "tasks[].recommendation.prospect.chance_below_baseline": "that it is below free_baseline; "
    "null: it is that, or there is none",
    "tasks[].recommendation.words": "the same in sentences",
    "tasks[].cells": "one for each model and method, baselines last",
    "tasks[].cells[].model": "name of the model; null: the baseline needs none",
    "tasks[].cells[].method": "key of the method in the study",
    "tasks[].cells[].name": "name of the method",
    "tasks[].cells[].baseline": "true: a baseline, not a method under comparison",
    "tasks[].cells[].readout": "how it answers: head, label_words or text; null: the baseline "
    "needs no model, or no run has ended",
    "tasks[].cells[].finished": "true: all its runs have ended",
    "tasks[].cells[].rate": "learning rate of the final runs, in cross-validation of most; null: "
    "the method has none",
    "tasks[].cells[].outer_folds": "folds of outer cross-validation; 0: one test part",
    "tasks[].cells[].outer_repeats": "times that all rows were divided into folds",
    "tasks[].cells[].rate_undecided": "true: the runner-up is within one standard error",
    "tasks[].cells[].rate_edge": "true: the lowest or highest of those tried",
    "tasks[].cells[].tried": "learning rates on trial",
    "tasks[].cells[].tried[].rate": "the learning rate",
    "tasks[].cells[].tried[].score": "mean primary score on the selection parts; null: all "
    "failed, or the predictions behind its interval are not stored",
    **{f"tasks[].cells[].tried[].{key}": text for key, text in _ON_TRIAL.items()},
    "tasks[].cells[].tried[].folds": "number of selection parts",
    "tasks[].cells[].tried[].lost": "how many of them diverged or ran out of memory",
    "tasks[].cells[].score": "mean over the final seeds on the test part; null: no score yet",
    "tasks[].cells[].score.estimate": "the score",
    **{f"tasks[].cells[].score.{key}": text for key, text in _INTERVAL.items()},
    "tasks[].cells[].score.from_seeds": "share of the variance that comes from seeds; null: one "
    "seed, so it is not known and the interval is over examples only",
    "tasks[].cells[].likelihood": "of the right answers, means over seeds and test examples; null: "
    "there is none",
    "tasks[].cells[].likelihood.log_likelihood": "logarithm of the probability that the right "
    "answer was given (of numbers: density); higher is better",
    "tasks[].cells[].likelihood.log_likelihood.estimate": "the mean",
    **{f"tasks[].cells[].likelihood.log_likelihood.{key}": t for key, t in _INTERVAL.items()},
    "tasks[].cells[].likelihood.brier": "squared distance of the probabilities from the right "
    "answer, 0 to 2, lower is better; null: answers are no labels",
    "tasks[].cells[].likelihood.brier.estimate": "the mean",
    **{f"tasks[].cells[].likelihood.brier.{key}": text for key, text in _INTERVAL.items()},
    "tasks[].cells[].shifted": "score on the shifted test part, mean over the runs; null: none",
    "tasks[].cells[].shifted.estimate": "the score",
    **{f"tasks[].cells[].shifted.{key}": text for key, text in _INTERVAL.items()},
    "tasks[].cells[].shifted.change": "from the score on the test part, by the same runs; null: in "
    "cross-validation, where no run has answered the whole of the test",
    "tasks[].cells[].shifted.change.estimate": "score on the shifted part minus that on the test",
    "tasks[].cells[].shifted.change.low": _INTERVAL["low"],
    "tasks[].cells[].shifted.change.high": _INTERVAL["high"],
    "tasks[].cells[].forgetting": "change of the mean token loss on the study's text by "
    "training, in nats; null: not measured",
    "tasks[].cells[].forgetting.estimate": "mean over the runs; above 0 the model has become worse",
    "tasks[].cells[].forgetting.low": _INTERVAL["low"],
    "tasks[].cells[].forgetting.high": _INTERVAL["high"],
    "tasks[].cells[].forgetting.blocks": "blocks of the text; the interval is over them and seeds",
    "tasks[].cells[].forgetting.seeds": "number of runs",
    "tasks[].cells[].forgetting.tokens": "scored tokens of a run",
    "tasks[].cells[].forgetting.before": "mean token loss of the model without the method",
    "tasks[].cells[].forgetting.after": "the same after training, mean over the runs",
    "tasks[].cells[].others": "further scores of generated texts: BLEU, chrF, TER, SloBench's own",
    "tasks[].cells[].others[].table": "the table of the report that has it",
    "tasks[].cells[].others[].metric": "its name there",
    "tasks[].cells[].others[].estimate": "the score",
    **{f"tasks[].cells[].others[].{key}": text for key, text in _INTERVAL.items()},
    "tasks[].cells[].failures": "runs that diverged, ran out of memory or answer a constant; they "
    "are in no score; null: nothing is drawn, or no run has ended",
    "tasks[].cells[].failures.failed": "how many",
    "tasks[].cells[].failures.runs": "of how many",
    "tasks[].cells[].failures.low": "one-sided lower 95 % limit of their rate (Clopper-Pearson)",
    "tasks[].cells[].failures.high": "one-sided upper 95 % limit",
    "tasks[].cells[].at_most_points_worse": "points that it may be worse than the best of its "
    "model's methods and baselines, with 95 % for all at once; null: one run, or no score",
    "tasks[].cells[].verdict": (
        "against the baselines; null: no score, or a baseline without a model"
    ),
    "tasks[].cells[].verdict.standing": (
        "above, unclear, below, or none: no baseline has a score yet"
    ),
    "tasks[].cells[].verdict.words": "the same as a phrase",
    "tasks[].cells[].verdict.missing": "baselines that have no score yet",
    "tasks[].cells[].comparisons": "with each baseline, paired on the same examples",
    "tasks[].cells[].comparisons[].with": "the baseline",
    "tasks[].cells[].comparisons[].difference": "score of the cell minus that of the baseline",
    **{f"tasks[].cells[].comparisons[].{key}": text for key, text in _INTERVAL.items()},
    "tasks[].cells[].comparisons[].p": "two-sided p-value against no difference",
    "tasks[].cells[].comparisons[].p_holm": "the same, corrected over the methods of the model",
    "tasks[].cells[].comparisons[].standing": "above, unclear or below, by p_holm under 0.05",
    "tasks[].cells[].flags": "what else must be known: collapsed 1/3, selected on the test part",
    "tasks[].cells[].runs": "final runs, by seed",
    "tasks[].cells[].runs[].run": "id of the run in the store",
    "tasks[].cells[].runs[].seed": "its seed",
    "tasks[].cells[].runs[].rate": "its learning rate; null: it has none",
    "tasks[].cells[].runs[].outer_fold": "fold of whose rows its score is; null: of the test part",
    "tasks[].cells[].runs[].outer_repeat": "in which division into folds, from 0",
    "tasks[].cells[].runs[].outcome": "ok, collapsed, diverged, out_of_memory or error",
    "tasks[].cells[].runs[].steps": "training steps",
    "tasks[].cells[].runs[].best_step": "step of the checkpoint that was kept; null: the last",
    "tasks[].cells[].runs[].trained_parameters": "number of trained parameters, head included",
    "tasks[].cells[].runs[].score": "primary score of this run alone on the test part; null: no "
    "predictions",
    "tasks[].cells[].runs[].score.estimate": "the score",
    **{f"tasks[].cells[].runs[].score.{key}": text for key, text in _ALONE.items()},
    "tasks[].cells[].runs[].score_shifted": "primary score on the shifted test part; null: none",
    "tasks[].cells[].runs[].selection": "the same on the selection part, of the checkpoint that "
    "was kept; null: no predictions there. It selected the checkpoint, so it is biased upwards",
    "tasks[].cells[].runs[].selection.estimate": "the score",
    **{f"tasks[].cells[].runs[].selection.{key}": text for key, text in _SELECTING.items()},
    "tasks[].cells[].runs[].scores": "every score of this run alone (one seed) on the test part, "
    "of n examples, without intervals: show score and tasks[].cells[].score instead; null: no "
    "predictions",
    "tasks[].cells[].runs[].likelihood": "of this run alone, means over its test examples, without "
    "intervals; null: there is none",
    "tasks[].cells[].runs[].likelihood.log_likelihood": "as of the cell",
    "tasks[].cells[].runs[].likelihood.brier": "as of the cell",
    "tasks[].cells[].runs[].likelihood.temperature": "divides the run's logits, fitted on its "
    "selection part; null: nothing is divided, or the logits say nothing (infinite)",
    "tasks[].cells[].runs[].likelihood.deviation": "standard deviation of a regression's errors, "
    "fitted on the selection part; null: no regression",
    "tasks[].cells[].runs[].likelihood.examples": "number of test examples",
    "tasks[].cells[].runs[].wall_seconds": "seconds by phase",
    "tasks[].cells[].runs[].curve": "learning curve of this run alone: one seed, and no intervals, "
    "since answers are stored at the end only",
    "tasks[].cells[].runs[].curve[].step": "training step",
    "tasks[].cells[].runs[].curve[].epoch": "epoch",
    "tasks[].cells[].runs[].curve[].loss": "training loss",
    "tasks[].cells[].runs[].curve[].examples": "number of examples in the selection part, of which "
    "the next two are; null: not stored",
    "tasks[].cells[].runs[].curve[].selection": "primary score on the selection part",
    "tasks[].cells[].runs[].curve[].selection_loss": "loss on the selection part",
    "tasks[].cells[].costs": "solo measurements, each in a fresh process; usually one",
    "tasks[].cells[].costs[].run": "id of the run in the store",
    "tasks[].cells[].costs[].outcome": "ok, out_of_memory or error",
    "tasks[].cells[].costs[].device": "cpu, cuda ...",
    "tasks[].cells[].costs[].threads": "threads of the process",
    "tasks[].cells[].costs[].precision": "fp32 or bf16",
    "tasks[].cells[].costs[].batch_size": "examples of a step",
    "tasks[].cells[].costs[].micro_batch": "examples at once",
    "tasks[].cells[].costs[].length": "tokens of the longest sequence",
    "tasks[].cells[].costs[].trained_parameters": "number of trained parameters, head included",
    "tasks[].cells[].costs[].peak_counter": "what the peaks were read from",
    "tasks[].cells[].costs[].phases": "load, train, evaluation: each its peak_bytes; "
    "on CUDA also allocated_peak_bytes, reserved_peak_bytes and process_bytes, which nvidia-smi "
    "shows",
    "tasks[].cells[].costs[].components": "weights_bytes, gradients_bytes, optimizer_bytes, "
    "activations_bytes",
    "tasks[].cells[].costs[].step_seconds": "median, q1, q3 and n steps; timed_out: time was up "
    "before the quartiles were within a tenth of the median",
    "tasks[].cells[].costs[].contradicted": "where the step took over twice what the study's own "
    "runs took: own_step_seconds (of the same batch), runs that say so, ratio",
    "tasks[].cells[].costs[].measured_again": "other_step_seconds: the slower of "
    "two measurements, the first of which the study's own runs contradicted",
    "tasks[].cells[].costs[].examples_per_second": "in training",
    "tasks[].cells[].costs[].tokens_per_second": "in training",
    "tasks[].cells[].costs[].saved_bytes": "of the trained tensors on disk",
    "tasks[].cells[].costs[].inference": "seconds an example, merged and unmerged; unmerged: "
    "median, q1, q3 and n batches, timed_out",
    "tasks[].cells[].costs[].energy": "joules of a step and the counter",
    "tasks[].cells[].costs[].not_measured": "what is null or absent here, and why",
    "tasks[].cells[].memory": "peak memory in training by part, means over the measurements; null: "
    "not measured",
    "tasks[].cells[].memory.measurements": "number of solo measurements",
    "tasks[].cells[].memory.peak": "bytes at the peak in training",
    "tasks[].cells[].memory.weights": "bytes of parameters and buffers",
    "tasks[].cells[].memory.gradients": "bytes of gradients",
    "tasks[].cells[].memory.optimizer": "bytes of optimiser states",
    "tasks[].cells[].memory.activations": "bytes that one forward pass saves for its backward pass",
    "tasks[].cells[].memory.working": "the peak minus weights, gradients and optimiser states",
    "tasks[].cells[].memory.rest": "working minus activations; null: the counted forward pass "
    "saves more than that, so they cannot be separated",
    "over_tasks": "methods compared over all tasks; points are hundredths of the metric's highest "
    "value",
    "over_tasks[].model": "name of the model",
    "over_tasks[].method": "key of the method",
    "over_tasks[].reference": "key of the method or baseline that it is compared with",
    "over_tasks[].points": "method minus reference; each task weighs as many rows as it has",
    "over_tasks[].low": "lower end of the 95 % interval, on these tasks",
    "over_tasks[].high": "upper end of the 95 % interval, on these tasks",
    "over_tasks[].p": "two-sided p-value against no difference",
    "over_tasks[].p_holm": "the same, corrected over all of over_tasks (Holm)",
    "over_tasks[].standing": "above, unclear or below, by p_holm under 0.05",
    "over_tasks[].withheld": "why there is no verdict whatever p_holm says; null: nothing withheld",
    "over_tasks[].p_heterogeneity": "p-value against equal effects on all tasks (Welch)",
    "over_tasks[].any_task_low": "lower end of the 95 % interval of the mean over any such tasks",
    "over_tasks[].any_task_high": "upper end of it",
    "over_tasks[].failed": "failed runs of the method",
    "over_tasks[].runs": "of so many",
    "over_tasks[].reference_failed": "failed runs of the reference",
    "over_tasks[].reference_runs": "of so many",
    "over_tasks[].words": "the same as a sentence",
    "over_tasks[].tasks": "the effect on each task",
    "over_tasks[].tasks[].task": "name of the task",
    "over_tasks[].tasks[].points": "method minus reference",
    "over_tasks[].tasks[].rows": "independent test rows, its weight",
    "over_tasks[].tasks[].error": "standard error in points",
    "failures": "runs that diverged, did not fit or stopped, by cell and stage",
    "failures[].where": "task / model / method, stage",
    "failures[].outcome": "diverged, out of memory or error",
    "failures[].runs": "how many",
    "failures[].said": "their message",
    "unfinished": "cells that are not finished, a line each",
    "findings": "findings of the data audit",
    "findings[].severity": "error, warning or note",
    "findings[].code": "the kind of finding",
    "findings[].where": "file and line",
    "findings[].what": "what was found",
    "findings[].remedy": "what to do",
    "notes": "notes of the runs, a line each",
    "environment": "versions and machine; several values where runs come from several machines",
}

_OF_A_COST = (
    "phases",
    "components",
    "step_seconds",
    "inference",
    "energy",
    "not_measured",
    "contradicted",
    "measured_again",
)
OPEN = frozenset(
    {
        "study.settings",
        "environment",
        "tasks[].cells[].runs[].scores",
        "tasks[].cells[].runs[].wall_seconds",
        *(f"tasks[].cells[].costs[].{name}" for name in _OF_A_COST),
    }
)
"""Objects whose keys are those of the records; they may grow."""
