"""Columns of the written tables: types and meanings (the site lists them)."""

from __future__ import annotations

COLUMNS: dict[str, tuple[type, str]] = {
    "task": (str, "the task"),
    "model": (str, "the model; empty: the baseline needs none"),
    "method": (str, "the method, as the study calls it"),
    "baseline": (bool, "stands beside the methods and is not under comparison"),
    "against": (str, "the baseline that a difference is against"),
    "table": (str, "the report's table that the score stands in"),
    "metric": (str, "what the score is, in words"),
    "score": (float, "mean over seeds on the test part"),
    "difference": (float, "score less that of the baseline, paired on the same examples"),
    "low": (float, "lower end of the 95 % interval"),
    "high": (float, "upper end of the 95 % interval"),
    "n": (int, "test examples; of rates on trial selection examples"),
    "n_groups": (int, "independent groups that the examples are in; empty: each on its own"),
    "n_questions": (int, "questions that the examples answer; empty: no answer set"),
    "seeds": (int, "seeds"),
    "from_seeds": (float, "share of the variance that comes from seeds; empty: not known"),
    "p": (float, "two-sided p-value against no difference"),
    "p_holm": (float, "the same, corrected over its family of comparisons"),
    "standing": (str, "above, unclear or below"),
    "learning_rate": (float, "learning rate of the final runs, or the one on trial"),
    "rate_marks": (str, "undecided, edge"),
    "chosen": (bool, "whether this rate was chosen"),
    "selection_score": (
        float,
        "mean over folds on the selection parts; it chooses and is no result",
    ),
    "folds": (int, "selection parts"),
    "lost": (int, "how many of them diverged or did not fit"),
    "verdict": (str, "what may be said beside the baselines"),
    "flags": (str, "what else must be known"),
    "failed": (int, "runs that diverged, ran out of memory or answer a constant"),
    "failed_of": (int, "runs that did or did not"),
    "failed_high": (float, "one-sided upper 95 % limit of their rate"),
    "at_most_points_worse": (float, "points that it may be below the best, 95 %; empty: unknown"),
    "measurements": (int, "solo measurements that the numbers are means of; one: no interval"),
    "peak_bytes": (float, "peak in training"),
    "evaluation_peak_bytes": (float, "peak in evaluation"),
    "step_seconds": (float, "median seconds of a step"),
    "inference_seconds": (float, "seconds an example"),
    "trained_parameters": (int, "trained parameters, head included"),
    "model_parameters": (float, "parameters of the whole model, head included"),
    "counted_from": (str, "from what they were counted"),
    "saved_bytes": (float, "size of the trained tensors on disk"),
    "step_joules": (float, "energy of a step"),
    "conditions": (str, "how it was measured: device, threads, batch, length"),
    "counter": (str, "what the peaks were read from"),
    "weights_bytes": (float, "parameters and buffers"),
    "gradients_bytes": (float, "gradients"),
    "optimizer_bytes": (float, "optimiser states"),
    "activations_bytes": (float, "what one forward pass saves for its backward pass"),
    "working_bytes": (float, "the peak less weights, gradients and optimiser states"),
    "rest_bytes": (float, "working less activations; empty: they cannot be separated"),
    "behind": (float, "score of the best experiment less this one's, unpaired"),
    "behind_low": (float, "lower end of its 95 % interval"),
    "behind_high": (float, "upper end of its 95 % interval"),
    "told_apart": (bool, "proven worse than the best, by p_holm under 0.05; empty: no score"),
    "reserved_bytes": (int, "largest memory that the allocator reserved"),
    "train_seconds": (float, "seconds of training"),
    "where": (str, "task / model / method, stage"),
    "outcome": (str, "diverged, out of memory or error; of peft's results their own status"),
    "runs": (int, "runs that ended so"),
    "said": (str, "what they said"),
}

_CELL = ("task", "model", "method", "baseline")
_BASIS = ("low", "high", "n", "n_groups", "n_questions", "seeds")

TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "scores": (
        "Scores beside the baselines",
        (*_CELL, "metric", "score", *_BASIS, "from_seeds", "learning_rate", "rate_marks",
         "verdict", "flags", "failed", "failed_of", "failed_high", "at_most_points_worse"),
    ),
    "comparisons": (
        "Differences from the baselines",
        ("task", "model", "method", "against", "metric", "difference", *_BASIS, "p", "p_holm",
         "standing"),
    ),
    "translations": (
        "Every score of the translations",
        (*_CELL, "table", "metric", "score", *_BASIS),
    ),
    "shifted": (
        "On the shifted test part",
        (*_CELL, "metric", "score", *_BASIS),
    ),
    "forgetting": (
        "What training cost the language model",
        (*_CELL, "metric", "score", *_BASIS),
    ),
    "likelihood": (
        "How probable the right answers were",
        (*_CELL, "metric", "score", *_BASIS),
    ),
    "costs": (
        "Cost",
        (*_CELL, "measurements", "peak_bytes", "evaluation_peak_bytes", "step_seconds",
         "inference_seconds", "trained_parameters", "saved_bytes", "step_joules", "conditions",
         "counter"),
    ),
    "bytes": (
        "Where the bytes go",
        (*_CELL, "measurements", "weights_bytes", "gradients_bytes", "optimizer_bytes",
         "activations_bytes", "working_bytes", "rest_bytes", "peak_bytes"),
    ),
    "sizes": (
        "Score and memory against model size",
        (*_CELL, "model_parameters", "counted_from", "metric", "score", *_BASIS, "measurements",
         "peak_bytes"),
    ),
    "rates": (
        "How the learning rates were chosen",
        ("task", "model", "method", "learning_rate", "selection_score", *_BASIS, "folds",
         "lost", "chosen"),
    ),
    "peft-results": (
        "Experiments of peft's method_comparison",
        ("model", "method", "outcome", "score", "low", "high", "n", "seeds", "behind",
         "behind_low", "behind_high", "p", "p_holm", "told_apart", "reserved_bytes",
         "train_seconds", "saved_bytes", "trained_parameters"),
    ),
    "failures": ("What failed", ("where", "outcome", "runs", "said")),
}  # fmt: skip
"""Name of each table: its title and its columns."""
