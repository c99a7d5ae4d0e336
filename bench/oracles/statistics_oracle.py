"""What other people's statistics say of the pieces that they know.

    python3 -m venv oracle-env
    oracle-env/bin/pip install statsmodels pymare
    oracle-env/bin/python bench/oracles/statistics_oracle.py     writes tests/oracle/statistics.json

``tests/oracle/test_statistics_oracle.py`` holds paretune's numbers against it.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pymare.estimators import DerSimonianLaird, Hedges
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.oneway import anova_generic
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

FILE = Path(__file__).parents[2] / "tests" / "oracle" / "statistics.json"

EFFECTS = {
    "alike": {"points": [3.1, 2.2, 4.0, 1.4], "variance": [4.0, 6.2, 3.1, 9.5]},
    "unlike": {"points": [9.0, -4.5, 2.0, 12.5], "variance": [4.0, 6.2, 3.1, 9.5]},
    "two": {"points": [5.0, 1.0], "variance": [2.0, 7.0]},
}
FREEDOM = [9.0, 14.0, 30.0, 6.0]


def failure_limits() -> list[dict[str, float]]:
    """One-sided 95 % limits of Clopper and Pearson: the ends of the two-sided 90 % interval."""
    cases = [(0, 3), (0, 5), (0, 20), (1, 5), (3, 10), (4, 5), (5, 5)]
    limits = []
    for failed, runs in cases:
        low, high = proportion_confint(failed, runs, alpha=0.1, method="beta")
        limits.append({"failed": failed, "runs": runs, "low": float(low), "high": float(high)})
    return limits


def random_effects(points: list[float], variance: list[float]) -> dict[str, Any]:
    """The interval of the mean of all tasks (DerSimonian and Laird, Hartung and Knapp)."""
    pooled = combine_effects(np.array(points), np.array(variance), method_re="dl", use_t=True)
    table = pooled.summary_frame()
    row = table.loc["random effect wls"]
    y, v = np.array(points)[:, None], np.array(variance)[:, None]
    ones = np.ones_like(y)
    fitted = DerSimonianLaird().fit(y, v, ones)
    return {
        "points": points,
        "variance": variance,
        "statsmodels": {
            "tau2": float(pooled.tau2),
            "mean": float(row["eff"]),
            "scale": float(pooled.scale_hksj_re),
            "half": float(row["ci_upp"] - row["ci_low"]) / 2 if pooled.tau2 >= 0 else None,
            "fixed_error": float(table.loc["fixed effect", "sd_eff"]),
        },
        "pymare": {
            "tau2": float(np.ravel(fitted.params_["tau2"])[0]),
            "mean": float(np.ravel(fitted.params_["fe_params"])[0]),
            "tau2_hedges": float(np.ravel(Hedges().fit(y, v, ones).params_["tau2"])[0]),
        },
    }


def heterogeneity(points: list[float], variance: list[float]) -> dict[str, Any]:
    """Welch's one-way test from means, variances of means and their degrees of freedom."""
    freedom = np.array(FREEDOM[: len(points)])
    counts = freedom + 1
    test = anova_generic(
        np.array(points),
        np.array(variance) * counts,
        counts,
        use_var="unequal",
        welch_correction=True,
    )
    return {
        "points": points,
        "variance": variance,
        "freedom": freedom.tolist(),
        "p": float(test.pvalue),
    }


def satterthwaite() -> dict[str, Any]:
    """Degrees of freedom and p-value of a difference of two means of unequal variances."""
    a, b = [0.71, 0.74, 0.69, 0.73, 0.72], [0.66, 0.70, 0.61]
    means = CompareMeans(DescrStatsW(a), DescrStatsW(b))
    _, p, freedom = means.ttest_ind(usevar="unequal")
    return {"a": a, "b": b, "freedom": float(freedom), "p": float(p)}


def paired_sample_sizes() -> list[dict[str, float]]:
    """Pairs that find a difference of 5 points in 80 %, by the paired t test."""
    sizes = []
    for deviation, level in ((0.4, 0.05), (0.5, 0.05), (0.5, 0.05 / 6), (0.65, 0.01)):
        pairs = TTestPower().solve_power(
            effect_size=0.05 / deviation, power=0.8, alpha=level, alternative="two-sided"
        )
        sizes.append({"deviation": deviation, "level": level, "pairs": float(pairs)})
    return sizes


def main() -> None:
    """Ask all of them and write the file."""
    p_values = [0.001, 0.012, 0.020, 0.021, 0.300, 0.049, 0.0499]
    answers = {
        "versions": {name: version(name) for name in ("statsmodels", "pymare")},
        "failure_limits": failure_limits(),
        "random_effects": {name: random_effects(**one) for name, one in EFFECTS.items()},
        "heterogeneity": {name: heterogeneity(**one) for name, one in EFFECTS.items()},
        "satterthwaite": satterthwaite(),
        "paired_sample_sizes": paired_sample_sizes(),
        "holm": {"p": p_values, "corrected": multipletests(p_values, method="holm")[1].tolist()},
    }
    FILE.write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")
    print(FILE)


if __name__ == "__main__":
    main()
