"""The text on which a study measures what fine-tuning costs a language model. No torch."""

from __future__ import annotations

from typing import Any

from paretune.study.specs import FrozenModel

SHIPPED_LANGUAGES = ("sl", "en")
"""Languages of the text that comes with paretune: 40 paragraphs, each in both."""


class ForgettingText(FrozenModel):
    """A text on which a run's model is scored before and after training.

    ``text``: one of :data:`SHIPPED_LANGUAGES`, or a file. ``sha256``: of its content, which
    identifies it.
    """

    text: str
    sha256: str

    def canonical_form(self) -> dict[str, Any]:
        """What identifies a run: the content, not the place."""
        return {"sha256": self.sha256}
