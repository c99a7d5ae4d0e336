"""JSON inside a page: values as text for a ``<script type="application/json">``."""

from __future__ import annotations

import json
from typing import Any


def dump_script_json(values: Any) -> str:
    """Values as JSON in which no character can end the element or start another.

    ``<``, ``>`` and ``&`` are written as escapes, which JSON reads as the same text.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
