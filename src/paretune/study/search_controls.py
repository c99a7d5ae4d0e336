"""What a search brings into a study beside the one combination that its row names.

A search that is better than nothing but itself shows nothing. So beside it stand the best of
random configurations, which took as many trainings, and LoRA whose rank and rate took as many; and
where ``finalists`` asks for it, further configurations of its front. All are rows like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from paretune.study.specs import MethodSpec

RANDOM, TUNED = "random", "tuned-lora"
"""What is appended to the key of a search for the keys of its controls."""


def enter_search_rows(methods: Sequence[MethodSpec]) -> tuple[MethodSpec, ...]:
    """The methods of a study with what their searches bring.

    What the study names itself is not brought again.
    """
    entered: dict[str, MethodSpec] = {}
    for method in methods:
        entered[method.key] = method
        if method.found_by_search:
            written = [other.options_of_runs for other in methods if other.name == method.name]
            for row in _bring(method):
                if row.options not in written:
                    entered.setdefault(row.key, row)
    return tuple(entered.values())


def _bring(search: MethodSpec) -> Iterator[MethodSpec]:
    own = search.options_of_runs
    finalists = search.options.get("finalists", 1)
    if isinstance(finalists, int):  # what it must be, planning says
        for place in range(2, min(finalists, 3) + 1):
            yield _name(search, str(place), {**own, "finalist": place})
    is_control = own.get("sampler") == "random" or own.get("members") in (["lora"], ("lora",))
    if search.options.get("controls", True) is not True or is_control or "finalist" in own:
        return
    yield _name(search, RANDOM, {**own, "sampler": "random"})
    yield _name(search, TUNED, {**own, "members": ["lora"], "groups": 1, "pick": "best"})


def _name(search: MethodSpec, suffix: str, options: dict[str, object]) -> MethodSpec:
    values = {"name": search.name, "label": f"{search.key}-{suffix}", "readout": search.readout}
    return MethodSpec.model_validate({**values, **options})
