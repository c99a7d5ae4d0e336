from dataclasses import replace
from itertools import combinations, product

from support import fake_records as fake

from paretune.analysis.pairs import Pair, compare_all_pairs, mcnemar_test, rank_ranges
from paretune.analysis.statistics.differences import estimate_variances, moderate_scatters
from paretune.analysis.statistics.intervals import difference_interval
from paretune.analysis.statistics.multiple_testing import all_pairs_correction
from paretune.analysis.statistics.scores import score_runs


def cell(quality: float, n: int = 200, seeds: int = 3):
    return score_runs([fake.answers(quality, n=n, seed=s) for s in range(seeds)], "accuracy")


def pair(a: str, b: str, p: float = 0.5) -> Pair:
    """In which ``a`` is 60 points higher."""
    higher, lower = cell(0.9), cell(0.3)
    estimate = estimate_variances(higher, lower)
    return Pair(a, b, difference_interval(estimate, higher, lower), estimate, p)


def claims(names: str, above: dict[str, str]) -> list[Pair]:
    """Pairs in which each of ``above[x]`` is proven worse than x, and nothing else is proven."""
    proven = [pair(a, b, 0.01) for a, worse in above.items() for b in worse]
    decided = {frozenset((p.a, p.b)) for p in proven}
    rest = [pair(*couple) for couple in combinations(names, 2) if {*couple} not in decided]
    return [*(p if p.a < p.b else p.flip() for p in proven), *rest]


def test_every_pair_is_corrected_over_all_pairs() -> None:
    cells = {"a": cell(0.8), "b": cell(0.79), "c": cell(0.5)}
    pairs = [*compare_all_pairs(cells, moderate_scatters(cells, cells))]
    assert [(p.a, p.b) for p in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [p.p_holm for p in pairs] == all_pairs_correction([p.difference.p for p in pairs], 3)
    assert [p.standing for p in pairs] == ["unclear", "above", "above"]
    assert not [*compare_all_pairs({"a": cells["a"]}, {})]


def test_ranks_of_proven_pairs_and_of_pairs_without_a_verdict() -> None:
    def of(above: dict[str, str]) -> list[tuple[int, int]]:
        return [(r.best, r.worst) for r in rank_ranges("abcd", claims("abcd", above)).values()]

    assert of({}) == [(1, 4)] * 4
    assert of({"a": "bcd", "b": "cd", "c": "d"}) == [(1, 1), (2, 2), (3, 3), (4, 4)]
    # What follows from others is clear too: a above b, b above c.
    assert of({"a": "b", "b": "c"}) == [(1, 2), (2, 3), (3, 4), (1, 4)]
    assert of({"a": "d"}) == [(1, 3), (1, 4), (1, 4), (2, 4)]


def test_pairs_without_a_verdict_share_a_rank_whatever_is_proven() -> None:
    """All ways in which four methods in order of their estimates may be proven different."""
    order = "abcd"
    couples = [*combinations(order, 2)]
    for clear in product([False, True], repeat=len(couples)):
        above: dict[str, str] = {}
        for (a, b), yes in zip(couples, clear, strict=True):
            if yes:
                above[a] = above.get(a, "") + b
        ranks = rank_ranges(order, claims(order, above))
        for (a, b), yes in zip(couples, clear, strict=True):
            if yes:
                assert ranks[a].best < ranks[b].best and ranks[a].worst < ranks[b].worst
        for rank in ranks.values():
            assert 1 <= rank.best <= rank.worst <= 4
        # Proven different, directly or through others, or sharing a rank.
        reached = {a: set(above.get(a, "")) for a in order}
        for a in reversed(order):
            reached[a] |= {c for b in reached[a] for c in reached[b]}
        for a, b in couples:
            if b not in reached[a]:
                assert ranks[a].worst >= ranks[b].best and ranks[b].worst >= ranks[a].best


def test_mcnemars_test_is_there_for_single_runs_of_independent_examples_only() -> None:
    first, second = cell(0.8, seeds=1), cell(0.7, seeds=1)
    assert mcnemar_test(first, second) is not None
    assert mcnemar_test(first, cell(0.7)) is None
    assert mcnemar_test(first, replace(second, cluster=tuple(range(200)))) is None
    assert mcnemar_test(first, replace(second, credits=None)) is None
