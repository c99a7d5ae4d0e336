import re
from pathlib import Path

import paretune
from paretune.store.record import UNSCORED_OUTCOMES, UNSCORED_RESULTS

TUPLE = re.compile(r"^\w+\s*(?::.*)?=\s*\(\s*\"(?:diverged|out_of_memory)\"", re.MULTILINE)


def test_which_outcomes_leave_no_score_is_said_in_one_place_only():
    source = Path(paretune.__file__).parent
    files = [path.name for path in source.rglob("*.py") if TUPLE.search(path.read_text("utf-8"))]
    assert files == ["record.py"]
    assert set(UNSCORED_RESULTS) < set(UNSCORED_OUTCOMES)
